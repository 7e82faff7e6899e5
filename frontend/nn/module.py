"""Modules: layers and networks, whose attributes are their parameters and parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from dlc.arguments import is_foreign, read_foreign
from dlc.dtypes import can_assign
from dlc.errors import ArgumentError, AttributeValueError, GraphError, listed, shown
from dlc.frontend.parameter import Parameter, fits, shape_text
from dlc.ops.random import counted_draws
from dlc.provenance import current_classes, current_path, here, module_path

Array = np.ndarray[Any, Any]


# the paths of all modules in the outermost module that is being called, and the classes along them, by id
_paths: ContextVar[dict[int, tuple[str, str]] | None] = ContextVar("dlc_module_paths", default=None)


class Module:
    """A layer or network: put parameters and other modules into attributes (also in lists, tuples and dicts of them),
    and write `forward`. No ``super().__init__()`` is needed.

    Calling a module names its parameters by attribute path ("encoder.0.weight") and marks the nodes that `forward`
    builds with that path. A module that is called twice uses the same parameters twice.

    >>> import dlc
    >>> from dlc import nn
    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         self.inner = nn.Linear(3)
    ...     def forward(self, x):
    ...         return self.inner(self.inner(x))
    >>> model = Twice()
    >>> model(dlc.input("x", ("N", 3)))
    <Tensor add f32[N,3]>
    >>> [(name, p.shape) for name, p in model.named_parameters()]
    [('inner.weight', (3, 3)), ('inner.bias', (3,))]
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; written by each subclass."""
        raise GraphError(f"{type(self).__name__} has no forward; write def forward(self, x): ...", where=here())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._entered() as (path, classes), module_path(path, classes):
            return self.forward(*args, **kwargs)

    @contextmanager
    def _entered(self) -> Iterator[tuple[str, str]]:
        """The module's path in the outermost call, and the classes along it; one outside of all others is outermost."""
        paths = _paths.get()
        if paths is not None and id(self) in paths:
            yield paths[id(self)]
            return
        outside = current_path(), current_classes()
        for name, p in self.named_states():
            p.rename(name)
        token = _paths.set(_places(dict(self.named_modules()), *outside))
        try:
            with counted_draws(self):
                yield outside
        finally:
            _paths.reset(token)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(vars(self).get(name), Parameter) and not (value is None or isinstance(value, Parameter)):
            raise AttributeValueError(
                f"{type(self).__name__}.{name} is a parameter; to change its value write .{name}.assign(...)",
                where=here(),
            )
        object.__setattr__(self, name, value)

    # ---- parts

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules in this one's own attributes, with their names."""
        return ((name, v) for name, v in self._attributes() if isinstance(v, Module))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module, called "", and all below it with their paths, each once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [("", self)]
        while stack:
            path, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module
                below = [(f"{path}.{name}".lstrip("."), m) for name, m in module.named_children()]
                stack.extend(reversed(below))

    def named_states(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters and buffers with their paths; one that is found at two places is listed once."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, p in module._attributes():
                if isinstance(p, Parameter) and id(p) not in seen:
                    seen.add(id(p))
                    yield f"{path}.{name}".lstrip("."), p

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The trainable parameters with their paths."""
        return ((name, p) for name, p in self.named_states() if p.trainable)

    def named_buffers(self) -> Iterator[tuple[str, Parameter]]:
        """The state that is not trained, such as running statistics, with its paths."""
        return ((name, p) for name, p in self.named_states() if not p.trainable)

    def parameters(self) -> list[Parameter]:
        """The trainable parameters."""
        return [p for _, p in self.named_parameters()]

    def num_parameters(self) -> int:
        """How many numbers are trained. Raises `GraphError` while a shape is open."""
        return sum(int(np.prod(p.shape, dtype=np.int64)) for p in self.parameters())

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        """Parameters and modules among the attributes; those in containers as "name.0" or "name.key"."""
        for name, value in vars(self).items():
            yield from _parts(name, value)

    # ---- values

    def initialise(self, seed: int) -> None:
        """Name the parameters from here, and draw from `seed` those that were not set, loaded or trained."""
        for name, p in self.named_states():
            p.rename(name)
            p.reseed(seed)

    def state_dict(self) -> dict[str, Array]:
        """Name -> value of all parameters and buffers; the arrays are the storage itself, not copies."""
        return {name: p.value for name, p in self.named_states()}

    def load_state_dict(self, values: Mapping[str, Any], strict: bool = True) -> None:
        """Copy `values` into the parameters and buffers; names and layouts are torch's. All or nothing.

        Raises `ArgumentError` listing what is missing, unexpected or of another shape; without
        `strict`, only the latter. torch's "num_batches_tracked" is ignored.
        """
        arrays = {n: read_foreign(v, repr(n)) if is_foreign(v) else np.asarray(v) for n, v in values.items()}
        problems = self.misfits(arrays, strict)
        if problems:
            raise ArgumentError(
                f"these values do not fit the model {type(self).__name__}:{listed(problems)}", where=here()
            )
        for name, p in self.named_states():
            if name in arrays:
                p.assign(arrays[name])

    def misfits(self, arrays: Mapping[str, Array], strict: bool = True) -> list[str]:
        """What keeps `arrays` from being loaded, one line each."""
        states = dict(self.named_states())
        problems = []
        if strict:
            problems += [f"missing: {name}" for name in states if name not in arrays]
            problems += [
                f"unexpected: {shown(name)}"
                for name in arrays
                if name not in states and name.rpartition(".")[2] != "num_batches_tracked"
            ]
        for name, p in states.items():
            if name in arrays:
                a = arrays[name]
                if not fits(p.open_shape, a.shape):
                    known = shape_text(p.open_shape)
                    problems.append(f"mis-shaped: {name} is {known} in the model, {a.shape} in the values")
                elif not can_assign(a.dtype, p.dtype):
                    problems.append(f"of another kind: {name} is {p.dtype} in the model, {a.dtype.name} in the values")
        return problems

    # ---- text

    def describe(self) -> str:
        """The layer's arguments, for its repr."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, child in self.named_children():
            lines += f"({name}): {child!r}".split("\n")
        if not lines:
            return f"{type(self).__name__}({self.describe()})"
        return f"{type(self).__name__}(" + "".join(f"\n  {line}" for line in lines) + "\n)"


def _places(modules: Mapping[str, Module], outside: str, outer: str) -> dict[int, tuple[str, str]]:
    """Path and classes of each module, by id, below the path `outside` with the classes `outer`."""
    places = {}
    for path, module in modules.items():
        names = path.split(".") if path else []
        found = [modules.get(".".join(names[: i + 1])) for i in range(len(names))]
        classes = ["" if m is None else type(m).__name__ for m in found]
        both = ([outside] if outside else []) + names, ([outer] if outside else []) + classes
        places[id(module)] = ".".join(both[0]), ".".join(both[1])
    return places


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Module, Parameter)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            yield from _parts(f"{name}.{i}", v)
    elif isinstance(value, dict):
        for key, v in value.items():
            yield from _parts(f"{name}.{key}", v)


def layer_name(module: Module) -> str:
    """How errors call a layer that is being traced: "Linear at '0.head'"."""
    path = current_path()
    return f"{type(module).__name__} at {path!r}" if path else type(module).__name__
