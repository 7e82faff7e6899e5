"""The table from a name of torch's catalogue to the same function written in dlc."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlc.ir import Node
from dlc.ops.tensor import Tensor

FORWARD, BACKWARD = 1e-12, 1e-11


class Unsupported(Exception):
    """A sample that dlc cannot express, with the reason."""


@dataclass(frozen=True)
class Adapter:
    """`function` has torch's signature and takes dlc tensors; the bounds are relative, wider only with a reason."""

    function: Callable[..., Any]
    forward: float = FORWARD
    backward: float = BACKWARD
    why: str = ""
    forward_only: str = ""  # why derivatives are not compared
    half: tuple[float, str] | None = None  # units of the last place in half precision, with the reason


ADAPTERS: dict[str, Adapter] = {}


def register(table: Mapping[str, Callable[..., Any]]) -> None:
    """Enter functions under the names that they have in torch's catalogue, as `name` or `name/variant`."""
    for name, function in table.items():
        assert name not in ADAPTERS, name
        ADAPTERS[name] = Adapter(function)


def adapts(*names: str, forward: float = FORWARD, backward: float = BACKWARD, why: str = "",
           forward_only: str = "", half: tuple[float, str] | None = None) -> Any:  # fmt: skip
    """Enter the decorated function under `names`."""
    assert bool(why) == (forward > FORWARD or backward > BACKWARD), names

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            assert name not in ADAPTERS, name
            ADAPTERS[name] = Adapter(function, forward, backward, why, forward_only, half)
        return function

    return enter


VALUES: dict[Node, np.ndarray[Any, Any]] = {}  # what the inputs of the sample at hand hold


def static(value: Any) -> Any:
    """What is known while the graph is built: a tensor's values as an array, anything else as it is."""
    return VALUES[value.node] if isinstance(value, Tensor) else value


def whole(value: Any) -> Any:
    """The same as Python numbers: an int, or a list of them."""
    found = static(value)
    return found.tolist() if isinstance(found, (np.ndarray, np.generic)) else found


def refuse(condition: Any, reason: str) -> None:
    if condition:
        raise Unsupported(reason)
