"""What the tests know of the networks: full-size ones to count, small ones to differentiate and train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dlc import Tensor, nn


@dataclass(frozen=True)
class Published:
    """A network of full size: `build` gives the model and what to trace it on; `parameters` is the published count."""

    name: str
    parameters: int
    build: Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class Small:
    """A small one: `build` gives the model, its inputs and a loss.

    `options`: "decreases" False where a loss is drawn anew at each step; "exact" False where the gradient is another on
    purpose; "lr" of the steps; "bindings" of named dims that are not 2; "slow".
    """

    name: str
    build: Callable[[], tuple[nn.Module, Sequence[Tensor], Tensor]]
    options: dict[str, Any]


PUBLISHED: list[Published] = []
SMALL: list[Small] = []


def published(name: str, parameters: int) -> Callable[[Callable[[], tuple[Any, ...]]], Any]:
    """List the decorated function, which returns (model, input, ...)."""

    def register(build: Callable[[], tuple[Any, ...]]) -> Any:
        PUBLISHED.append(Published(name, parameters, build))
        return build

    return register


def small(name: str, **options: Any) -> Callable[[Any], Any]:
    """List the decorated function, which returns (model, inputs, loss)."""

    def register(build: Any) -> Any:
        SMALL.append(Small(name, build, options))
        return build

    return register
