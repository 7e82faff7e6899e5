"""A program's arguments: matching them to the graph's inputs, converting them without loss, and binding named dims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlc.conversions import cast
from dlc.dims import Dim, evaluate
from dlc.dlpack import array_of
from dlc.dtypes import ALL, FLOATING, INTEGER, can_cast_without_loss, numpy_dtype
from dlc.errors import ArgumentError, CallError, DTypeError
from dlc.ir import Node

Array = np.ndarray[Any, Any]


def match_arguments(inputs: Sequence[Node], args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    """The arguments in the order of `inputs`. Raises `CallError` when one is missing, surplus, unknown or repeated."""
    names = [_name(n) for n in inputs]
    if len(args) > len(names):
        raise CallError(f"the program takes {len(names)} inputs, got {len(args)}; it takes {_signature(inputs)}")
    values = dict(zip(names, args, strict=False))
    for name, value in named.items():
        if name not in names:
            raise CallError(f"the program has no input {name!r}; it takes {_signature(inputs)}")
        if name in values:
            raise CallError(f"the input {name!r} was given twice, by position and by name")
        values[name] = value
    missing = [n for n in names if n not in values]
    if missing:
        raise CallError(
            f"missing input{'s' * (len(missing) > 1)} {', '.join(missing)}; the program takes {_signature(inputs)}"
        )
    return [values[n] for n in names]


def is_foreign(value: Any) -> bool:
    """Whether `value` holds data of another library, which DLPack hands over."""
    return hasattr(value, "__dlpack__") and not isinstance(value, (np.ndarray, np.generic))


def read_foreign(value: Any, what: str) -> Array:
    """Another library's array as a NumPy array on the same memory. Raises `DTypeError` where NumPy cannot have that.

    >>> class Elsewhere:
    ...     def __dlpack__(self, **_): raise BufferError("it lies on another device")
    ...     def __dlpack_device__(self): return (1, 0)
    >>> read_foreign(Elsewhere(), "the input 'x'")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dlc.errors.DTypeError: the input 'x' cannot be read from a ...Elsewhere: it lies on another device; give ...
    """
    try:
        return array_of(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # a gradient, a GPU, complex, sparse
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise DTypeError(
            f"{what} cannot be read from a {kind}: {error}; give an array in main memory that needs no gradient, of a "
            "dtype that NumPy has"
        ) from error


def read_argument(node: Node, value: Any) -> Array:
    """`value`, from NumPy, DLPack or Python, as an array of the input's dtype; refuses a cast that loses values."""
    target = node.type.dtype
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DTypeError(f"the input {_name(node)!r} cannot read a masked array; fill it first with .filled(value)")
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
    elif is_foreign(value):
        array = read_foreign(value, f"the input {_name(node)!r}")
    else:
        return _read_python(node, value)
    if array.dtype.name == target and array.dtype.isnative:
        return array
    if array.dtype.kind in "iu" and target in INTEGER:
        info = np.iinfo(target)
        if array.size and (array.min() < info.min or array.max() > info.max):
            raise DTypeError(
                f"the input {_name(node)!r} is {target}, and the {array.dtype.name} array given holds values outside it"
            )
        return array.astype(target)
    if array.dtype.name not in ALL:
        raise DTypeError(f"the input {_name(node)!r} is {target}; it cannot take an array of {array.dtype}")
    if can_cast_without_loss(array.dtype.name, target):
        return array.astype(numpy_dtype(target))
    raise DTypeError(
        f"the input {_name(node)!r} is {target}; a {array.dtype.name} array would lose values. "
        f"Convert it yourself with .astype({target!r}), or declare the input as {array.dtype.name!r}"
    )


def _read_python(node: Node, value: Any) -> Array:
    """Python numbers, and nested lists of them, are weak: they take the input's dtype where their kind fits."""
    target = node.type.dtype
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DTypeError(f"the input {_name(node)!r} cannot read a {type(value).__name__}: {error}") from None
    kind = array.dtype.kind
    fits = kind == "b" if target == "bool" else kind in "iu" or (kind == "f" and target in FLOATING)
    if not fits and array.size:
        raise DTypeError(f"the input {_name(node)!r} is {target}; it cannot take {value!r:.60} ({array.dtype.name})")
    if target in INTEGER and array.size:
        info = np.iinfo(target)
        if array.min() < info.min or array.max() > info.max:
            raise DTypeError(f"the input {_name(node)!r} is {target}, which cannot hold {value!r:.60}")
    with np.errstate(over="ignore"):
        result = cast(array, target)
    if target in FLOATING and array.size and not np.array_equal(np.isinf(result), np.isinf(array)):
        raise DTypeError(f"the input {_name(node)!r} is {target}, which cannot hold {value!r:.60}")
    return result


def bind_dims(inputs: Sequence[Node], arrays: Sequence[Array]) -> dict[str, int]:
    """The value of every named dim. Raises `ArgumentError` naming input, axis and sizes where shapes do not fit."""
    bindings: dict[str, int] = {}
    source: dict[str, str] = {}
    later: list[tuple[Node, int, Dim, int]] = []
    for node, array in zip(inputs, arrays, strict=True):
        if array.ndim != len(node.type.shape):
            raise ArgumentError(
                f"the input {_name(node)!r} is {node.type} with {node.type.ndim} axes, got shape {array.shape}"
            )
        for axis, (d, size) in enumerate(zip(node.type.shape, array.shape, strict=True)):
            if not isinstance(d, Dim):
                if d != size:
                    raise ArgumentError(
                        f"the input {_name(node)!r} is {node.type}: axis {axis} must be {d}, got shape {array.shape}"
                    )
                continue
            symbol = str(d)
            if d.symbols != {symbol}:
                later.append((node, axis, d, size))
            elif bindings.setdefault(symbol, size) != size:
                raise ArgumentError(
                    f"the named dim {symbol} is {bindings[symbol]} in {source[symbol]}, but {size} in axis {axis} of "
                    f"{_name(node)!r} ({node.type}, got shape {array.shape})"
                )
            else:
                source.setdefault(symbol, f"axis {axis} of {_name(node)!r}")
    for node, axis, d, size in later:
        unknown = sorted(d.symbols - bindings.keys())
        if unknown:
            raise ArgumentError(
                f"axis {axis} of the input {_name(node)!r} is {d}, which does not determine {', '.join(unknown)}; "
                "give some input an axis that is just that name"
            )
        if evaluate(d, bindings) != size:
            known = ", ".join(f"{s} = {bindings[s]}" for s in sorted(d.symbols))
            raise ArgumentError(
                f"axis {axis} of the input {_name(node)!r} is {d} = {evaluate(d, bindings)} with {known}, got {size}"
            )
    return bindings


def _name(node: Node) -> str:
    return node.leaf.name if node.leaf is not None else node.op.name


def _signature(inputs: Sequence[Node]) -> str:
    return ", ".join(f"{_name(n)}: {n.type}" for n in inputs) or "no inputs"
