"""A module computed with other values than its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlc.errors import ArgumentError, listed, shown
from dlc.frontend.nn.module import Module
from dlc.frontend.parameter import Parameter, fits, replaced, shape_text
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


def functional_call(module: Module, values: Mapping[str, Any], *args: Any, **named: Any) -> Any:
    """``module(*args, **named)``, with the tensors `values` in the place of the parameters and buffers of those names.

    What is not named is the module's own. Gradients flow to what the tensors were made from; updates, such as those of
    running statistics, still go to the module's own state. Within `dlc.vmap` the values may differ from sample to
    sample. Raises `ArgumentError` for names that the module has not, for tensors of another shape or dtype, and for
    what is no module or no dict.

    >>> import dlc
    >>> from dlc import nn
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> y = nn.functional_call(layer, {"weight": dlc.constant([[3.0, 4.0]])}, dlc.constant([[1.0, 2.0]]))
    >>> dlc.evaluate(y).tolist()
    [[11.0]]
    """
    if not isinstance(module, Module) or not isinstance(values, Mapping) or not all(isinstance(n, str) for n in values):
        what = f"{type(module).__name__} and {type(values).__name__}"
        raise ArgumentError(f"functional_call takes a module and a dict of tensors by name, not {what}", where=here())
    own = dict(module.named_states())
    tensors = {name: wrap(value) for name, value in values.items()}
    problems = [problem for name, t in tensors.items() if (problem := _misfit(name, own.get(name), t))]
    if problems:
        raise ArgumentError(f"these values do not fit {type(module).__name__}:{listed(problems)}", where=here())
    with replaced({own[name]: t for name, t in tensors.items()}):
        return module(*args, **named)


def _misfit(name: str, own: Parameter | None, t: Tensor) -> str:
    """What keeps a tensor from standing for the parameter of that name; nothing where it may."""
    if own is None:
        return f"unexpected: {shown(name)}"
    if not fits(own.open_shape, t.shape):  # type: ignore[arg-type]
        return f"mis-shaped: {name} is {shape_text(own.open_shape)} in the model, {t.shape} in the values"
    if t.dtype != own.dtype:
        return f"of another kind: {name} is {own.dtype} in the model, {t.dtype} in the values"
    return ""
