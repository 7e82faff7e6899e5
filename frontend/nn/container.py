"""Modules made of modules, and the reshaping between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from dlc.dims import DimLike, product
from dlc.errors import ArgumentError, ShapeError
from dlc.frontend.nn.module import Module, layer_name
from dlc.ops import reshape
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class Sequential(Module):
    """Modules one after the other; their parameters are called "0.weight", "1.weight", ...

    >>> import dlc
    >>> from dlc import nn
    >>> model = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(2))
    >>> model(dlc.input("x", ("N", 4))).shape, len(model)
    ((N, 2), 3)
    """

    def __init__(self, *modules: Module) -> None:
        given: tuple[Any, ...] = modules
        for i, module in enumerate(given):
            if not isinstance(module, Module):
                raise ArgumentError(
                    f"Sequential takes modules; number {i} is {module!r:.60}; {_module_instead(module)}", where=here()
                )
        self.modules = modules

    def forward(self, x: Any) -> Any:
        """The modules applied in order."""
        for module in self.modules:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules)

    def __getitem__(self, index: int) -> Module:
        return self.modules[index]

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        yield from ((str(i), module) for i, module in enumerate(self.modules))
        yield from ((name, v) for name, v in super()._attributes() if not name.startswith("modules."))


def _module_instead(value: Any) -> str:
    """What to do where a module should be."""
    if isinstance(value, (list, tuple)):
        return "unpack the list: Sequential(*layers)"
    if isinstance(value, type):
        return "call the class"
    if isinstance(value, FunctionType):
        return "put a function into a module, such as nn.ReLU() or one of your own"
    return "the layers of dlc.nn are, and classes of your own that derive from nn.Module"


class Flatten(Module):
    """The axes from `start_dim` to `end_dim` joined into one; the axis of samples, a named dim, stays.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Flatten()(dlc.input("x", ("N", 16, 5, 5))).shape
    (N, 400)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Any) -> Tensor:
        """x [N, a, b, ...] -> [N, a * b * ...]."""
        x = wrap(x)
        first, last = (axis + x.ndim if axis < 0 else axis for axis in (self.start_dim, self.end_dim))
        if not 0 <= first <= last < x.ndim:
            raise ShapeError(
                f"{layer_name(self)} cannot join axes {self.start_dim} to {self.end_dim} of {x.type}", where=here()
            )
        joined: DimLike = product(x.shape[first : last + 1])
        return reshape(x, (*x.shape[:first], joined, *x.shape[last + 1 :]))

    def describe(self) -> str:
        """The axes, if not the default."""
        return "" if (self.start_dim, self.end_dim) == (1, -1) else f"{self.start_dim}, {self.end_dim}"


class Unflatten(Module):
    """Axis `dim` made into axes of `unflattened_size`, one of which may be -1.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Unflatten(1, (16, 5, 5))(dlc.input("x", ("N", 400))).shape
    (N, 16, 5, 5)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x: Any) -> Tensor:
        """x [..., a * b, ...] -> [..., a, b, ...]."""
        x = wrap(x)
        at = self.dim + x.ndim if self.dim < 0 else self.dim
        if not 0 <= at < x.ndim:
            raise ShapeError(f"{layer_name(self)} has no axis {self.dim} to unfold in {x.type}", where=here())
        known = product(d for d in self.unflattened_size if d != -1)
        sizes: tuple[DimLike, ...] = tuple(x.shape[at] // known if d == -1 else d for d in self.unflattened_size)
        if self.unflattened_size.count(-1) > 1 or product(sizes) != x.shape[at]:
            raise ShapeError(
                f"{layer_name(self)} cannot make axis {self.dim} of {x.type} into {self.unflattened_size}", where=here()
            )
        return reshape(x, (*x.shape[:at], *sizes, *x.shape[at + 1 :]))

    def describe(self) -> str:
        """The axis and what it becomes."""
        return f"{self.dim}, {self.unflattened_size}"


class Identity(Module):
    """x itself; any arguments are ignored.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Identity()(dlc.input("x", ("N", 3))).shape
    (N, 3)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, x: Any) -> Tensor:
        """x -> x."""
        return wrap(x)
