"""Modules made of modules, and the reshaping between them."""

from __future__ import annotations

from collections.abc import Iterator
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
