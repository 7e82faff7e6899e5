"""Views: affine index maps of one operand. They cost nothing; a backend turns them into strides and an offset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dlc.dims import DimLike, Shape, dim, product, shape_of
from dlc.errors import AttributeValueError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import Array, Emitter, Kind, Sample, arrays, define, located
from dlc.ops.elementwise import sum_to_shape
from dlc.ops.tensor import Tensor, wrap

# ---------------------------------------------------------------- reshape


def _reshape_type(x: TensorType, *, shape: Shape) -> TensorType:
    if product(x.shape) != product(shape):
        raise ShapeError(
            f"reshape: {x} has {x.size} elements, the shape [{','.join(map(str, shape))}] has {product(shape)}"
        )
    return TensorType(x.dtype, shape)


def _reshape_element(k: Emitter, index: Sequence[str], *, shape: Shape) -> str:
    source = k.shape(0)
    flat = "0"
    for i, d in zip(index, shape, strict=True):
        flat = i if flat == "0" else f"({flat}) * {k.dim(d)} + {i}"
    rest = k.let(flat)
    indices = []
    for d in reversed(source[1:]):
        indices.append(k.let(f"{rest} % {k.dim(d)}"))
        rest = k.let(f"{rest} // {k.dim(d)}")
    return k.load(0, [rest, *reversed(indices)] if source else [])


@define(
    kind=Kind.VIEW,
    infer=_reshape_type,
    reference=lambda x, *, shape: np.reshape(x, shape),
    vjp=lambda g, y, x, *, shape: (reshape(g, x.shape),),
    element=_reshape_element,
    samples=lambda: [
        Sample(arrays((3, 4)), {"shape": (2, 6)}),
        Sample(arrays((3, 4)), {"shape": (-1,)}),
        Sample(arrays(()), {"shape": (1, 1)}),
    ],
)
def reshape(x: Any, shape: Any) -> Tensor:
    """The same elements, in row-major order, in another shape; one dim may be -1.

    >>> import dlc
    >>> dlc.evaluate(dlc.reshape([[1.0, 2.0], [3.0, 4.0]], (4,))).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    t = wrap(x)
    dims = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    unknown = [i for i, d in enumerate(dims) if isinstance(d, int) and d == -1]
    if len(unknown) > 1:
        raise AttributeValueError(f"reshape: only one dim may be -1, not {len(unknown)} in {tuple(dims)}")
    if unknown:
        rest = product(dim(d) for i, d in enumerate(dims) if i not in unknown)
        if isinstance(rest, int) and rest == 0:
            raise ShapeError(f"reshape: -1 in {tuple(dims)} is not determined, since another dim is 0")
        dims[unknown[0]] = product(t.shape) // rest
    target = shape_of(dims)
    return t if target == t.shape else reshape.op(t, shape=target)


# ---------------------------------------------------------------- permute_dims


def _permute_type(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    if sorted(axes) != list(range(x.ndim)):
        raise AttributeValueError(f"permute_dims: axes={axes} is not an order of the {x.ndim} axes of {x}")
    return TensorType(x.dtype, tuple(x.shape[a] for a in axes))


def inverse_permutation(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `axes`."""
    return tuple(int(i) for i in np.argsort(axes))


@define(
    kind=Kind.VIEW,
    infer=_permute_type,
    reference=lambda x, *, axes: np.transpose(x, axes),
    vjp=lambda g, y, x, *, axes: (permute_dims(g, inverse_permutation(axes)),),
    element=lambda k, index, *, axes: k.load(0, [index[a] for a in inverse_permutation(axes)]),
    samples=lambda: [Sample(arrays((2, 3, 4)), {"axes": (2, 0, 1)}), Sample(arrays((2, 3)), {"axes": (1, 0)})],
)
def permute_dims(x: Any, axes: Sequence[int]) -> Tensor:
    """The axes in another order: axis i of the result is axis ``axes[i]`` of x.

    >>> import dlc
    >>> dlc.evaluate(dlc.permute_dims([[1.0, 2.0], [3.0, 4.0]], (1, 0))).tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    t = wrap(x)
    if not isinstance(axes, (tuple, list, range)):
        raise AttributeValueError(f"permute_dims: axes is a tuple that orders the axes of {t.type}, not {axes!r}")
    order = tuple(a % t.ndim if isinstance(a, int) and -t.ndim <= a < t.ndim else a for a in axes)
    return t if order == tuple(range(t.ndim)) else permute_dims.op(t, axes=order)


@located
def matrix_transpose(x: Any) -> Tensor:
    """The last two axes exchanged.

    >>> import dlc
    >>> dlc.matrix_transpose(dlc.input("x", ("N", 3, 4)))
    <Tensor permute_dims f32[N,4,3]>
    """
    t = wrap(x)
    if t.ndim < 2:
        raise ShapeError(f"matrix_transpose takes at least two axes, not {t.type}")
    return permute_dims(t, (*range(t.ndim - 2), t.ndim - 1, t.ndim - 2))


# ---------------------------------------------------------------- broadcast_to


def _broadcast_type(x: TensorType, *, shape: Shape) -> TensorType:
    lead = len(shape) - x.ndim
    fits = lead >= 0 and all(
        a == b or (isinstance(a, int) and a == 1) for a, b in zip(x.shape, shape[lead:], strict=True)
    )
    if not fits:
        raise ShapeError(f"broadcast_to: {x} does not broadcast to [{','.join(map(str, shape))}]")
    return TensorType(x.dtype, shape)


def _broadcast_element(k: Emitter, index: Sequence[str], *, shape: Shape) -> str:
    source = k.shape(0)
    tail = index[len(shape) - len(source) :]
    return k.load(0, ["0" if d == 1 else i for d, i in zip(source, tail, strict=True)])


@define(
    kind=Kind.VIEW,
    infer=_broadcast_type,
    reference=lambda x, *, shape: np.broadcast_to(x, shape),
    vjp=lambda g, y, x, *, shape: (sum_to_shape(g, x.shape),),
    element=_broadcast_element,
    samples=lambda: [Sample(arrays((3, 1)), {"shape": (2, 3, 4)}), Sample(arrays(()), {"shape": (3,)})],
)
def broadcast_to(x: Any, shape: Any) -> Tensor:
    """`x` repeated along axes of size 1, and along new leading axes, to `shape`.

    >>> import dlc
    >>> dlc.evaluate(dlc.broadcast_to([1.0, 2.0], (2, 2))).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    t, target = wrap(x), shape_of(shape)
    return t if target == t.shape else broadcast_to.op(t, shape=target)


@located
def expand_dims(x: Any, axis: int) -> Tensor:
    """A new axis of size 1 at `axis`.

    >>> import dlc
    >>> dlc.expand_dims(dlc.input("x", ("N", 3)), 1)
    <Tensor reshape f32[N,1,3]>
    """
    t = wrap(x)
    if not isinstance(axis, int) or not -t.ndim - 1 <= axis <= t.ndim:
        raise AttributeValueError(
            f"expand_dims: axis {axis!r} is out of range for {t.type}; use {-t.ndim - 1} to {t.ndim}"
        )
    at = axis % (t.ndim + 1)
    return reshape(t, (*t.shape[:at], 1, *t.shape[at:]))


@located
def squeeze(x: Any, axis: int | Sequence[int]) -> Tensor:
    """`x` without axes of size 1.

    >>> import dlc
    >>> dlc.squeeze(dlc.input("x", ("N", 1)), 1)
    <Tensor reshape f32[N]>
    """
    from dlc.ops.reduce import normalized_axes, without

    t = wrap(x)
    axes = normalized_axes(axis, t.ndim, "squeeze")
    for a in axes:
        if t.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {t.type} is not 1")
    return reshape(t, without(t.shape, axes))


# ---------------------------------------------------------------- slices


def _slice_type(x: TensorType, *, starts: Shape, sizes: Shape, steps: tuple[int, ...]) -> TensorType:
    if not len(starts) == len(sizes) == len(steps) == x.ndim:
        raise AttributeValueError(f"slice: {x} needs a start, size and step for each of its {x.ndim} axes")
    for axis, (d, start, size, step) in enumerate(zip(x.shape, starts, sizes, steps, strict=True)):
        last = start + (size - 1) * step
        if step == 0 or not all(isinstance(v, int) for v in (d, start, size)):
            if step == 0:
                raise AttributeValueError(f"slice: the step of axis {axis} is 0")
            continue
        if size < 0 or (size and not (0 <= start < d and 0 <= last < d)):  # type: ignore[operator]
            raise ShapeError(f"slice: {size} elements from {start} by {step} do not lie within axis {axis} of {x}")
    return TensorType(x.dtype, sizes)


def _slice_reference(x: Array, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> Array:
    picks = [start + step * np.arange(size) for start, size, step in zip(starts, sizes, steps, strict=True)]
    return x[np.ix_(*picks)] if picks else x


def _slice_element(k: Emitter, index: Sequence[str], *, starts: Shape, sizes: Shape, steps: tuple[int, ...]) -> str:
    return k.load(0, [f"({k.dim(s)} + {i} * {t})" for i, s, t in zip(index, starts, steps, strict=True)])


def _slice_vjp(
    g: Tensor, y: Tensor, x: Tensor, *, starts: Shape, sizes: Shape, steps: tuple[int, ...]
) -> tuple[Tensor]:
    """Put the cotangent back: reverse the axes of negative step, then pad around and between its elements."""
    from dlc.ops.index import pad

    backwards = [a for a, s in enumerate(steps) if s < 0]
    flipped = flip(g, backwards) if backwards else g
    firsts = [s if t > 0 else s + (n - 1) * t for s, n, t in zip(starts, sizes, steps, strict=True)]
    interior = [abs(t) - 1 for t in steps]
    highs = [d - (f + (n - 1) * (i + 1) + 1) for d, f, n, i in zip(x.shape, firsts, sizes, interior, strict=True)]
    return (pad(flipped, list(zip(firsts, highs, strict=True)), interior=interior),)


def _slice_samples() -> Iterable[Sample]:
    yield Sample(arrays((4, 6)), {"starts": (1, 0), "sizes": (2, 3), "steps": (1, 2)})
    yield Sample(arrays((5,)), {"starts": (4,), "sizes": (3,), "steps": (-2,)})


@define(
    kind=Kind.VIEW,
    name="slice",
    infer=_slice_type,
    reference=_slice_reference,
    vjp=_slice_vjp,
    element=_slice_element,
    samples=_slice_samples,
)
def slice_(x: Any, starts: Any, sizes: Any, steps: Any = None) -> Tensor:
    """`sizes` elements of each axis, from `starts`, by `steps` (ints, not 0; 1 if left out).

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.slice_([1.0, 2.0, 3.0, 4.0], (0,), (2,), (2,))).tolist()
    [1.0, 3.0]
    """
    t = wrap(x)
    by = (1,) * t.ndim if steps is None else tuple(steps)
    return slice_.op(t, starts=shape_of(starts), sizes=shape_of(sizes), steps=by)


@located
def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements along `axis` (None: all axes) in reverse order.

    >>> import dlc
    >>> dlc.evaluate(dlc.flip([1.0, 2.0, 3.0])).tolist()
    [3.0, 2.0, 1.0]
    """
    from dlc.ops.reduce import normalized_axes

    t = wrap(x)
    axes = normalized_axes(tuple(axis) if isinstance(axis, list) else axis, t.ndim, "flip")
    starts = tuple(d - 1 if a in axes else 0 for a, d in enumerate(t.shape))
    if any(isinstance(d, int) and d == 0 for d in t.shape):
        return t
    return slice_.op(t, starts=starts, sizes=t.shape, steps=tuple(-1 if a in axes else 1 for a in range(t.ndim)))


# ---------------------------------------------------------------- windows


def window_count(d: DimLike, size: int, stride: int, dilation: int) -> DimLike:
    """How many windows of `size` elements fit an axis of `d`: (d - dilation*(size-1) - 1) // stride + 1."""
    return (d - dilation * (size - 1) - 1) // stride + 1


def _windows_type(
    x: TensorType,
    *,
    axes: tuple[int, ...],
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> TensorType:
    shape = list(x.shape)
    for axis, size, stride, dilation in zip(axes, sizes, strides, dilations, strict=True):
        if min(size, stride, dilation) < 1:
            raise AttributeValueError(
                f"windows: size {size}, stride {stride} and dilation {dilation} must be at least 1"
            )
        count = window_count(x.shape[axis], size, stride, dilation)
        if isinstance(count, int) and count < 1:
            raise ShapeError(
                f"windows of {size} (dilation {dilation}) do not fit axis {axis} of {x}; pad it or shrink them"
            )
        shape[axis] = count
    return TensorType(x.dtype, (*shape, *sizes))


def _windows_reference(x: Array, *, axes: Any, sizes: Any, strides: Any, dilations: Any) -> Array:
    spans = tuple((n - 1) * d + 1 for n, d in zip(sizes, dilations, strict=True))
    if any(span > x.shape[axis] for axis, span in zip(axes, spans, strict=True)):  # a named dim may leave no window
        counts = {a: window_count(x.shape[a], *how) for a, *how in zip(axes, sizes, strides, dilations, strict=True)}
        return np.empty((*(counts.get(a, d) for a, d in enumerate(x.shape)), *sizes), x.dtype)
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=axes)
    outer = [slice(None)] * x.ndim
    for axis, stride in zip(axes, strides, strict=True):
        outer[axis] = slice(None, None, stride)
    return view[(*outer, *(slice(None, None, d) for d in dilations))]


def _windows_element(k: Emitter, index: Sequence[str], *, axes: Any, sizes: Any, strides: Any, dilations: Any) -> str:
    rank = len(k.shape(0))
    place = list(index[:rank])
    for i, (axis, stride, dilation) in enumerate(zip(axes, strides, dilations, strict=True)):
        place[axis] = f"({place[axis]} * {stride} + {index[rank + i]} * {dilation})"
    return k.load(0, place)


def _windows_vjp(
    g: Tensor, y: Tensor, x: Tensor, *, axes: Any, sizes: Any, strides: Any, dilations: Any
) -> tuple[Tensor]:
    from dlc.ops.index import fold

    lengths = tuple(x.shape[a] for a in axes)
    return (fold(g, axes, lengths, strides=strides, dilations=dilations),)


def _windows_samples() -> Iterable[Sample]:
    common = {"axes": (1, 2)}
    yield Sample(arrays((2, 6, 7)), {**common, "sizes": (2, 3)})
    yield Sample(arrays((2, 6, 7)), {**common, "sizes": (2, 2), "strides": (2, 2)})
    yield Sample(arrays((2, 6, 7)), {**common, "sizes": (2, 3), "strides": (1, 2), "dilations": (3, 1)})


@define(
    kind=Kind.VIEW,
    infer=_windows_type,
    reference=_windows_reference,
    vjp=_windows_vjp,
    element=_windows_element,
    samples=_windows_samples,
)
def windows(x: Any, axes: Sequence[int], sizes: Sequence[int], strides: Any = None, dilations: Any = None) -> Tensor:
    """Sliding windows over `axes`: they become window positions, and the window's own axes come last.

    `sizes`, `strides` and `dilations` (1 unless given) have an int for each axis. Raises `AttributeValueError` where
    they do not, or an axis does not exist or comes twice.

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.windows([1.0, 2.0, 3.0], (0,), (2,))).tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    from dlc.ops.reduce import one_axis

    t = wrap(x)
    if not isinstance(axes, (tuple, list)):
        raise AttributeValueError(f"windows: axes, sizes, strides and dilations are tuples, not {axes!r}")
    at = tuple(one_axis(a, t.ndim, "windows") for a in axes)
    if len(set(at)) != len(at):
        raise AttributeValueError(f"windows: axes={axes} names an axis twice")
    ones = (1,) * len(at)
    how = {"sizes": sizes, "strides": strides or ones, "dilations": dilations or ones}
    for name, values in how.items():
        fits = isinstance(values, (tuple, list)) and len(values) == len(at)
        if not fits or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise AttributeValueError(f"windows: {name} has an int for each of the axes {axes}, not {values!r}")
    return windows.op(t, axes=at, **{name: tuple(values) for name, values in how.items()})


# ---------------------------------------------------------------- stop_gradient


@define(
    kind=Kind.VIEW,
    infer=lambda x: x,
    reference=lambda x: x,
    vjp=lambda g, y, x: (None,),
    element=lambda k, index: k.load(0, index),
    samples=lambda: [Sample(arrays((3, 4)), gradient=False)],
)
def stop_gradient(x: Any) -> Tensor:
    """`x` itself, through which no cotangent flows back.

    >>> import dlc
    >>> dlc.evaluate(dlc.stop_gradient(2.0)).item()
    2.0
    """
    return stop_gradient.op(wrap(x))
