"""Grids: axes spread over them, numbers at equal distances or ratios, and differences of values that lie on them."""

from __future__ import annotations

from typing import Any

from dlc.dims import Dim, dim
from dlc.dtypes import FLOATING, dtype_name
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arithmetic import pow as pow_
from dlc.ops.definition import located, plain_number
from dlc.ops.elementwise import convert, taken_as, where
from dlc.ops.fill import along, arange, size_of
from dlc.ops.index import concat
from dlc.ops.leaves import scalar
from dlc.ops.reduce import Axis, one_axis
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, permute_dims, reshape


@located
def meshgrid(*vectors: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Vectors as the axes of a grid, each spread over all of it; with "xy" the first two axes are exchanged.

    >>> import dlc
    >>> [dlc.evaluate(t).tolist() for t in dlc.meshgrid([1.0, 2.0], [3.0, 4.0])]
    [[[1.0, 2.0], [1.0, 2.0]], [[3.0, 3.0], [4.0, 4.0]]]
    """
    if indexing not in ("xy", "ij"):
        raise AttributeValueError(f"meshgrid: indexing={indexing!r} is unknown; use 'xy' or 'ij'")
    ts = [wrap(v) for v in vectors]
    for t in ts:
        if t.ndim != 1:
            raise ShapeError(f"meshgrid takes vectors, not {t.type}")
    shape = tuple(t.shape[0] for t in ts)
    grids = [
        broadcast_to(reshape(t, tuple(t.shape[0] if a == i else 1 for a in range(len(ts)))), shape)
        for i, t in enumerate(ts)
    ]
    if indexing == "xy" and len(ts) > 1:
        order = (1, 0, *range(2, len(ts)))
        grids = [permute_dims(g, order) for g in grids]
    return tuple(grids)


@located
def linspace(start: float, stop: float, num: Any, dtype: Any = "float32", endpoint: bool = True) -> Tensor:
    """`num` floating-point numbers at equal distances from `start` to `stop`, which is the last unless told otherwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.linspace(0.0, 1.0, 3)).tolist()
    [0.0, 0.5, 1.0]
    """
    name, count = dtype_name(dtype), dim(num)
    if name not in FLOATING:
        raise DTypeError(f"linspace gives floating-point numbers, not {name}; convert with .astype('int64')")
    start, stop = plain_number(start, "linspace", "the start"), plain_number(stop, "linspace", "the stop")
    if isinstance(count, Dim):
        steps = size_of(count, name) - (1.0 if endpoint else 0.0)
        steps = where(steps < 1.0, 1.0, steps)
    else:
        steps = scalar(float(max(count - (1 if endpoint else 0), 1)), name)
    i = convert(arange(count), name)
    share = i / steps
    return start * (1.0 - share) + stop * share


@located
def logspace(
    start: float, stop: float, num: Any, base: float = 10.0, dtype: Any = "float32", endpoint: bool = True
) -> Tensor:
    """`base` to the power of `num` numbers at equal distances from `start` to `stop`.

    >>> import dlc
    >>> dlc.evaluate(dlc.logspace(0.0, 3.0, 4, base=2.0)).tolist()
    [1.0, 2.0, 4.0, 8.0]
    """
    exponents = linspace(start, stop, num, dtype, endpoint)
    return pow_(scalar(plain_number(base, "logspace", "the base"), exponents.dtype), exponents)


@located
def gradient(
    x: Any, spacing: Any = 1.0, axis: Axis = None, edge_order: int = 1
) -> Tensor | tuple[Tensor, ...]:
    """Slopes of values on a grid by finite differences: for an `axis` a tensor, else a tuple of one for each.

    This is not the derivative of a graph, which is `dlc.grad`. `spacing` is the distance of neighbours, or a vector of
    the places of an axis; a tuple has one of these for each axis. Inside it takes the parabola through three
    neighbours; at both ends the line through two or, with `edge_order=2`, the parabola. An axis needs
    ``edge_order + 1`` elements, and its size to be an int. B. Fornberg, 1988, for places at unequal distances.

    >>> import dlc
    >>> dlc.evaluate(dlc.gradient([1.0, 4.0, 9.0, 16.0], axis=0)).tolist()
    [3.0, 4.0, 6.0, 7.0]
    >>> dlc.evaluate(dlc.gradient([1.0, 4.0, 16.0], [1.0, 2.0, 4.0], axis=0, edge_order=2)).tolist()
    [2.0, 4.0, 8.0]
    """
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"gradient takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    given = range(t.ndim) if axis is None else tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = [one_axis(a, t.ndim, "gradient") for a in given]
    steps = spacing if isinstance(spacing, tuple) else (spacing,) * len(axes)
    if len(steps) != len(axes):
        raise AttributeValueError(f"gradient: {len(steps)} spacings do not go with {len(axes)} axes")
    if edge_order not in (1, 2):
        raise AttributeValueError(f"gradient: edge_order is 1 or 2, not {edge_order!r}")
    found = tuple(_slope(t, a, h, edge_order) for a, h in zip(axes, steps, strict=True))
    return found if axis is None or isinstance(axis, (tuple, list)) else found[0]


def _slope(t: Tensor, axis: int, spacing: Any, edge_order: int) -> Tensor:
    size = t.shape[axis]
    if not isinstance(size, int) or size < edge_order + 1:
        raise ShapeError(f"gradient: axis {axis} of {t.type} does not have at least {edge_order + 1} elements")
    h = taken_as(spacing, t.dtype)
    if h.ndim == 0:
        h = broadcast_to(h, (size - 1,))
    elif h.shape == (size,):
        h = h[1:] - h[:-1]
    else:
        raise ShapeError(f"gradient: axis {axis} of {t.type} needs a number or {size} places, not {h.type}")

    def at(i: int, j: int | None) -> tuple[Tensor, Tensor]:
        """Slopes of the lines from neighbour to neighbour, and their lengths, from the i-th to before the j-th."""
        return lines[(slice(None),) * axis + (slice(i, j),)], along(h[i:j], axis, t.ndim)

    before = (slice(None),) * axis
    lines = (t[(*before, slice(1, None))] - t[(*before, slice(None, -1))]) / along(h, axis, t.ndim)
    first, last = at(0, 1)[0], at(size - 2, None)[0]
    if size == 2:
        return concat([first, last], axis=axis)
    (left, a), (right, b) = at(0, size - 2), at(1, None)
    inside = (b * left + a * right) / (a + b)
    if edge_order == 2:  # the parabola's slope changes evenly, and at the middle of a line is the line's
        first = 2.0 * first - inside[(*before, slice(0, 1))]
        last = 2.0 * last - inside[(*before, slice(size - 3, None))]
    return concat([first, inside, last], axis=axis)
