"""torch's functions that make, arrange, join and part tensors, in dlc."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import dlc
from dlc.dtypes import FLOATING
from dlc.ops.tensor import Tensor

from .registry import register, whole


def listed(args: Sequence[Any]) -> list[Any]:
    """Sizes or axes given one by one, or as one list."""
    return list(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else list(args)


def extended(shape: Sequence[int], x: Tensor) -> tuple[int, ...]:
    """`shape` with the sizes of `x` where it has -1."""
    own = (1,) * (len(shape) - x.ndim) + tuple(x.shape)
    return tuple(o if s == -1 else s for s, o in zip(shape, own, strict=True))


def at_least(rank: int) -> Any:
    """atleast_1d and so on: of one tensor, or of several."""

    def one(x: Tensor) -> Tensor:
        if x.ndim >= rank:
            return x
        if rank == 3 and x.ndim == 2:
            return x.reshape((*x.shape, 1))
        if rank == 3 and x.ndim == 1:
            return x.reshape((1, *x.shape, 1))
        return x.reshape((1,) * (rank - x.ndim) + tuple(x.shape))

    def adapted(*xs: Any) -> Any:
        if len(xs) == 1 and not isinstance(xs[0], (list, tuple)):
            return one(xs[0])
        return tuple(map(one, listed(xs)))

    return adapted


def selected(x: Tensor, dim: int, index: Any) -> Tensor:
    return x[(slice(None),) * (dim % x.ndim) + (index,)]


def transpose(x: Tensor, a: int = -2, b: int = -1) -> Tensor:
    if x.ndim == 0:
        return x
    order = list(range(x.ndim))
    order[a], order[b] = order[b], order[a]
    return dlc.permute_dims(x, order)


def turned(x: Tensor) -> Tensor:
    return dlc.permute_dims(x, tuple(range(x.ndim))[::-1])


def permuted(x: Tensor, *dims: Any) -> Tensor:
    return dlc.permute_dims(x, [d % x.ndim for d in listed(dims)])


def squeezed(x: Tensor, dim: Any = None) -> Tensor:
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    dims = [d % x.ndim for d in dims if x.ndim]
    return dlc.squeeze(x, [d for d in dims if x.shape[d] == 1])


def unsqueezed(x: Tensor, dim: int) -> Tensor:
    return dlc.expand_dims(x, dim)


def parted(x: Tensor, sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of one size, the last one smaller, or of the sizes given."""
    length = x.shape[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)] if length else [0]
    return dlc.split(x, list(sizes), dim)


def chunked(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    return parted(x, max(1, -(-x.shape[dim] // chunks)), dim)


def tensor_split(x: Tensor, sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    sections = whole(sections)
    length = x.shape[dim]
    if isinstance(sections, int):
        small, more = divmod(length, sections)
        sections = np.cumsum([small + (i < more) for i in range(sections)])[:-1].tolist()
    pieces = []
    for start, stop in zip([0, *sections], [*sections, length], strict=True):
        pieces.append(selected(x, dim, slice(start, stop)))
    return tuple(pieces)


def reshaped(x: Tensor, *shape: Any) -> Tensor:
    shape = [s.shape if isinstance(s, Tensor) else s for s in shape]
    return dlc.reshape(x, tuple(listed(shape)))


def flattened(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    if x.ndim == 0:
        return x.reshape((1,))
    start, end = start_dim % x.ndim, end_dim % x.ndim
    return x.reshape((*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def unflattened(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    dim %= x.ndim
    rest = math.prod(s for s in sizes if s != -1)
    sizes = [x.shape[dim] // rest if s == -1 else s for s in sizes]
    return x.reshape((*x.shape[:dim], *sizes, *x.shape[dim + 1 :]))


def joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """torch passes over empty tensors of one axis whatever the others' shapes are."""
    kept = [t for t in tensors if tuple(t.shape) != (0,)] or list(tensors[:1])
    return dlc.concat(kept, dim)


def summed_to(x: Tensor, *size: Any) -> Tensor:
    """The sum over what broadcasting from `size` would repeat."""
    target = tuple(listed(size))
    lead = x.ndim - len(target)
    axes = [*range(lead), *(lead + i for i, s in enumerate(target) if s == 1 and x.shape[lead + i] != 1)]
    return dlc.sum(x, tuple(axes)).reshape(target) if axes else x


def diagonal_scattered(x: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    first, second = dim1 % x.ndim, dim2 % x.ndim
    order = [*(a for a in range(x.ndim) if a not in (first, second)), first, second]
    found = dlc.diagonal_scatter(dlc.permute_dims(x, order), src, offset)
    return dlc.permute_dims(found, [order.index(a) for a in range(x.ndim)])


def slopes(x: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """torch's gradient: a list of spacings, or of vectors of places, has one for each axis."""
    axes = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    steps = (1.0 if spacing is None else spacing,) * len(axes)
    if isinstance(spacing, (list, tuple)):
        steps = tuple(spacing)
    return dlc.gradient(x, steps, axes, edge_order)


def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    first, second = dim1 % x.ndim, dim2 % x.ndim
    rest = [a for a in range(x.ndim) if a not in (first, second)]
    return dlc.diagonal(dlc.permute_dims(x, [*rest, first, second]), offset)


def diagonal_of(x: Tensor, offset: int = 0) -> Tensor:
    """A matrix with `x` on a diagonal, zeros elsewhere, on two new last axes."""
    n = x.shape[-1] + abs(offset)
    widths = [(0, 0)] * (x.ndim - 1) + [(max(-offset, 0), max(offset, 0))]
    column = dlc.pad(x, widths).reshape((*x.shape[:-1], n, 1))
    there = dlc.iota((n, n), 1) - dlc.iota((n, n), 0) == offset
    return dlc.where(there, column, 0.0)


def diag_embed(x: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    found = diagonal_of(x, offset)
    return dlc.moveaxis(found, (-2, -1), (dim1, dim2))


def block_diagonal(*tensors: Tensor) -> Tensor:
    two = [t if t.ndim == 2 else t.reshape((1, -1 if t.ndim else 1)) for t in tensors]
    width = sum(t.shape[1] for t in two)
    rows, left = [], 0
    for t in two:
        rows.append(dlc.pad(t, [(0, 0), (left, width - left - t.shape[1])]))
        left += t.shape[1]
    return dlc.concat(rows, 0)


def sliced(x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    return selected(x, dim, slice(start, end, step))


def narrowed(x: Tensor, dim: int, start: Any, length: int) -> Tensor:
    start = whole(start)
    start = start % x.shape[dim] if start < 0 else start
    return selected(x, dim, slice(start, start + length))


def replaced(x: Tensor, source: Tensor, *where: Any) -> Tensor:
    return dlc.index_update(x, tuple(where), source)


def rotated(x: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    a, b = (d % x.ndim for d in dims)
    k %= 4
    if k == 0:
        return x
    if k == 2:
        return dlc.flip(x, (a, b))
    return dlc.flip(transpose(x, a, b), a if k == 1 else b)


def repeated(x: Tensor, *repeats: Any) -> Tensor:
    return dlc.tile(x, tuple(listed(repeats)))


def grids(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    return dlc.meshgrid(*(t.reshape((1,)) if t.ndim == 0 else t for t in listed(tensors)), indexing=indexing)


def unfolded(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """Windows along one axis, on a new last axis."""
    if x.ndim == 0:
        x = x.reshape((1,))
        return x[:size] if size else x[:0]
    return dlc.windows(x, (dim % x.ndim,), (size,), (step,))


def kronecker(a: Tensor, b: Tensor) -> Tensor:
    rank = max(a.ndim, b.ndim)
    left = (1,) * (rank - a.ndim) + tuple(a.shape)
    right = (1,) * (rank - b.ndim) + tuple(b.shape)
    spread = a.reshape(tuple(v for s in left for v in (s, 1))) * b.reshape(tuple(v for s in right for v in (1, s)))
    return spread.reshape(tuple(x * y for x, y in zip(left, right, strict=True)))


def triangle_places(keep: Any) -> Any:
    def adapted(rows: int, columns: int, offset: int = 0, dtype: str = "int64") -> Tensor:
        grid = np.ones((rows, columns), bool)
        return dlc.constant(np.stack(np.nonzero(keep(grid, offset))).astype(dtype))

    return adapted


def cartesian(*vectors: Any) -> Tensor:
    vectors = listed(vectors)
    if len(vectors) == 1:
        return vectors[0]
    return dlc.stack([g.reshape((-1,)) for g in dlc.meshgrid(*vectors, indexing="ij")], -1)


def combined(x: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    import itertools

    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(x.shape[0]), r)), np.int64).reshape((-1, r))
    return dlc.take(x, places)


def vertical(tensors: Sequence[Tensor]) -> Tensor:
    return dlc.concat(list(at_least(2)(*tensors)) if len(tensors) > 1 else [at_least(2)(tensors[0])], 0)


def horizontal(tensors: Sequence[Tensor]) -> Tensor:
    tensors = [at_least(1)(t) for t in tensors]
    return dlc.concat(tensors, 0 if tensors[0].ndim == 1 else 1)


def deep(tensors: Sequence[Tensor]) -> Tensor:
    return dlc.concat([at_least(3)(t) for t in tensors], 2)


def columns(tensors: Sequence[Tensor]) -> Tensor:
    return dlc.concat([t if t.ndim > 1 else t.reshape((-1 if t.ndim else 1, 1)) for t in tensors], 1)


def broadcast_together(*tensors: Any) -> tuple[Tensor, ...]:
    tensors = listed(tensors)
    shape = np.broadcast_shapes(*(tuple(t.shape) for t in tensors))
    return tuple(dlc.broadcast_to(t, shape) for t in tensors)


def repeat_interleave(x: Tensor, repeats: Any, dim: int | None = None, *, output_size: Any = None) -> Tensor:
    repeats = whole(repeats)
    if isinstance(repeats, list) and len(repeats) == 1:
        repeats = repeats[0]
    if x.ndim == 0:
        x = x.reshape((1,))
    return dlc.repeat(x, repeats, dim)


register(
    {
        "T": turned,
        "t": turned,
        "t_copy": turned,
        "H": turned,
        "mT": lambda x: dlc.matrix_transpose(x),
        "mH": lambda x: dlc.matrix_transpose(x) if x.ndim else x,
        "transpose": transpose,
        "transpose_copy": transpose,
        "permute": permuted,
        "permute_copy": permuted,
        "movedim": lambda x, source, destination: dlc.moveaxis(x, source, destination),
        "squeeze": squeezed,
        "squeeze/multiple": squeezed,
        "squeeze_copy": squeezed,
        "unsqueeze": unsqueezed,
        "unsqueeze_copy": unsqueezed,
        "reshape": reshaped,
        "reshape_as": reshaped,
        "view": reshaped,
        "view_as": reshaped,
        "view_copy": reshaped,
        "ravel": lambda x: x.reshape((-1 if x.ndim else 1,)),
        "flatten": flattened,
        "unflatten": unflattened,
        "expand": lambda x, *shape: dlc.broadcast_to(x, extended(listed(shape), x)),
        "expand_copy": lambda x, *shape: dlc.broadcast_to(x, extended(listed(shape), x)),
        "expand_as": lambda x, other: dlc.broadcast_to(x, other.shape),
        "broadcast_to": lambda x, *shape: dlc.broadcast_to(x, extended(listed(shape), x)),
        "broadcast_tensors": broadcast_together,
        "sum_to_size": summed_to,
        "atleast_1d": at_least(1),
        "atleast_2d": at_least(2),
        "atleast_3d": at_least(3),
        "cat": lambda tensors, dim=0: joined(tensors, dim),
        "stack": lambda tensors, dim=0: dlc.stack(tensors, dim),
        "hstack": horizontal,
        "vstack": vertical,
        "dstack": deep,
        "column_stack": columns,
        "unbind": lambda x, dim=0: dlc.unstack(x, dim),
        "unbind_copy": lambda x, dim=0: dlc.unstack(x, dim),
        "split": parted,
        "split/list_args": parted,
        "unsafe_split": parted,
        "split_with_sizes": parted,
        "split_with_sizes_copy": parted,
        "chunk": chunked,
        "unsafe_chunk": chunked,
        "tensor_split": tensor_split,
        "hsplit": lambda x, sections: tensor_split(x, sections, 0 if x.ndim == 1 else 1),
        "vsplit": lambda x, sections: tensor_split(x, sections, 0),
        "dsplit": lambda x, sections: tensor_split(x, sections, 2),
        "flip": lambda x, *dims, **named: dlc.flip(x, tuple(listed(dims or (named["dims"],)))),
        "fliplr": lambda x: dlc.flip(x, 1),
        "flipud": lambda x: dlc.flip(x, 0),
        "rot90": rotated,
        "roll": lambda x, shifts=0, dims=None: rolled(x, shifts, dims),
        "repeat": repeated,
        "tile": repeated,
        "repeat_interleave": repeat_interleave,
        "meshgrid/variadic_tensors": grids,
        "meshgrid/list_of_tensors": grids,
        "cartesian_prod": cartesian,
        "combinations": combined,
        "select": lambda x, dim, index: selected(x, dim, index),
        "narrow": narrowed,
        "narrow_copy": narrowed,
        "slice": sliced,
        "slice_scatter": lambda x, source, dim=0, start=None, end=None, step=1: replaced(
            x, source, *(slice(None),) * (dim % x.ndim), slice(start, end, step)
        ),
        "select_scatter": lambda x, source, dim, index: replaced(x, source, *(slice(None),) * (dim % x.ndim), index),
        "unfold": unfolded,
        "unfold_copy": unfolded,
        "diagonal": diagonal,
        "diagonal_copy": diagonal,
        "diagonal_scatter": diagonal_scattered,
        "gradient": slopes,
        "linalg.diagonal": lambda x, offset=0, dim1=-2, dim2=-1: diagonal(x, offset, dim1, dim2),
        "diag": lambda x, diagonal=0: diagonal_of(x, diagonal) if x.ndim == 1 else dlc.diagonal(x, diagonal),
        "diagflat": lambda x, offset=0: diagonal_of(x.reshape((-1 if x.ndim else 1,)), offset),
        "diag_embed": diag_embed,
        "block_diag": block_diagonal,
        "tril": lambda x, diagonal=0: dlc.tril(x, diagonal),
        "triu": lambda x, diagonal=0: dlc.triu(x, diagonal),
        "tril_indices": triangle_places(np.tril),
        "triu_indices": triangle_places(np.triu),
        "trace": lambda x: dlc.matrix_trace(x),
        "kron": kronecker,
        "diff": lambda x, n=1, dim=-1, prepend=None, append=None: dlc.diff(
            dlc.concat([t for t in (prepend, x, append) if t is not None], dim) if n else x, n, dim
        ),
        "zeros": lambda *shape, dtype="float32": dlc.zeros(tuple(listed(shape)), dtype),
        "ones": lambda *shape, dtype="float32": dlc.ones(tuple(listed(shape)), dtype),
        "full": lambda shape, value, dtype=None: dlc.full(tuple(shape), value, dtype),
        "eye": lambda rows, columns=None, dtype="float32": dlc.eye(rows, columns, 0, dtype),
        "new_zeros": lambda x, shape, dtype=None: dlc.zeros(tuple(shape), dtype or x.dtype),
        "new_ones": lambda x, shape, dtype=None: dlc.ones(tuple(shape), dtype or x.dtype),
        "new_full": lambda x, shape, value, dtype=None: dlc.full(tuple(shape), value, dtype or x.dtype),
        "scalar_tensor": lambda value, dtype="float32": dlc.full((), value, dtype),
        "zero_": lambda x: dlc.zeros_like(x),
        "arange": lambda *args, dtype=None, **named: evenly(args, dtype, **named),
        "linspace": lambda start, end, steps, dtype="float32": dlc.linspace(start, end, steps, dtype),
        "linspace/tensor_overload": lambda start, end, steps, dtype="float32": dlc.linspace(
            whole(start), whole(end), steps, dtype
        ),
        **{
            name: lambda start, end, steps, base=10.0, dtype="float32": dlc.logspace(
                whole(start), whole(end), steps, base, dtype
            )
            for name in ("logspace", "logspace/tensor_overload")
        },
        "fft.fftshift": lambda x, dim=None: halfway(x, dim, False),
        "fft.ifftshift": lambda x, dim=None: halfway(x, dim, True),
        "nn.functional.pixel_shuffle": lambda x, upscale_factor: dlc.pixel_shuffle(x, upscale_factor),
        "nn.functional.pixel_unshuffle": lambda x, downscale_factor: unshuffled(x, downscale_factor),
        "nn.functional.channel_shuffle": lambda x, groups: channels_shuffled(x, groups),
    }
)


def rolled(x: Tensor, shifts: Any, dims: Any) -> Tensor:
    if x.ndim == 0:
        return x
    dims = None if dims in ((), []) else dims
    return dlc.roll(x, shifts, dims)


def halfway(x: Tensor, dim: Any, back: bool) -> Tensor:
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return dlc.roll(x, tuple((x.shape[d] + back) // 2 for d in dims), tuple(dims))


def evenly(args: Sequence[Any], dtype: Any, **named: Any) -> Tensor:
    args = (*args, *(named[k] for k in ("start", "end", "step") if k in named))
    args = tuple(int(a) if isinstance(a, bool) else a for a in map(whole, args))
    dtype = dtype or ("float32" if any(isinstance(a, float) for a in args) else "int64")
    if dtype in FLOATING:
        start, end, step = (0, *args, 1) if len(args) == 1 else (*args, 1) if len(args) == 2 else args
        return dlc.arange(max(0, math.ceil((end - start) / step)), dtype=dtype) * step + start
    return dlc.arange(*args, dtype=dtype)


def unshuffled(x: Tensor, factor: int) -> Tensor:
    *lead, c, h, w = x.shape
    n = len(lead)
    parts = x.reshape((*lead, c, h // factor, factor, w // factor, factor))
    order = [*range(n), n, n + 2, n + 4, n + 1, n + 3]
    return dlc.permute_dims(parts, order).reshape((*lead, c * factor * factor, h // factor, w // factor))


def channels_shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, *rest = x.shape
    parts = x.reshape((n, groups, c // groups, *rest))
    return dlc.permute_dims(parts, [0, 2, 1, *range(3, parts.ndim)]).reshape(x.shape)
