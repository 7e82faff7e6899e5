"""torch's indexing, gathering and scattering in dlc."""

from __future__ import annotations

from typing import Any

import numpy as np

import dlc
from dlc.ops.tensor import Tensor

from .registry import adapts, refuse, register, static, whole


def flat(x: Tensor) -> Tensor:
    return x.reshape((-1 if x.ndim else 1,))


def from_start(index: Tensor, size: int) -> Tensor:
    """Negative indices, which count from the end."""
    return dlc.where(index < 0, index + size, index)


def one_axis(x: Tensor) -> Tensor:
    return x.reshape((1,)) if x.ndim == 0 else x


def places_of(mask: Any) -> Any:
    """A boolean mask as the positions that it names, which a graph's shapes need to be known."""
    return tuple(np.asarray(i) for i in np.nonzero(static(mask)))


def plain(index: Any) -> Any:
    """torch's index: masks become positions."""
    parts = index if isinstance(index, tuple) else (index,)
    found: list[Any] = []
    for p in parts:
        if isinstance(p, list):
            p = np.array(p)
        masks = (isinstance(p, Tensor) and p.dtype == "bool") or (isinstance(p, np.ndarray) and p.dtype == bool)
        if isinstance(p, bool) or (masks and p.ndim == 0):
            refuse(True, "an index of one bool")
        if masks:
            found.extend(places_of(p))
        else:
            found.append(whole(p) if isinstance(p, Tensor) and p.ndim == 0 else p)
    return tuple(found)


def gathered(x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """torch's gather: the other axes of the index may be shorter than those of x."""
    if 0 in index.shape:
        return dlc.zeros(index.shape, x.dtype)
    shape = index.shape
    x, index = one_axis(x), one_axis(index)
    cut = tuple(slice(None) if a == dim % x.ndim else slice(0, s) for a, s in enumerate(index.shape))
    return dlc.take_along_axis(x[cut], index, axis=dim).reshape(shape)


def scattered(x: Tensor, dim: int, index: Tensor, values: Any, reduction: str) -> Tensor:
    """torch's scatter: index and values may be shorter than x on every axis."""
    shape = x.shape
    if 0 in index.shape:
        return x
    x, index = one_axis(x), one_axis(index)
    if isinstance(values, Tensor):
        values = one_axis(values)[tuple(slice(0, s) for s in index.shape)]
    else:
        values = dlc.full(index.shape, values, x.dtype)
    cut = tuple(slice(None) if a == dim % x.ndim else slice(0, s) for a, s in enumerate(index.shape))
    whole_ = all(s.stop is None or s.stop == d for s, d in zip(cut, x.shape, strict=True))
    changed = dlc.put_along_axis(x[cut], index, values, axis=dim, reduction=reduction)
    return (changed if whole_ else dlc.index_update(x, cut, changed)).reshape(shape)


REDUCTIONS = {None: "set", "sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amin": "min", "amax": "max"}


@adapts("scatter")
def _(x: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: Any = None) -> Tensor:
    return scattered(x, dim, index, value if src is None else src, REDUCTIONS[reduce])


@adapts("scatter_add")
def _(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    return scattered(x, dim, index, src, "add")


@adapts("scatter_reduce/sum", "scatter_reduce/prod", "scatter_reduce/amin", "scatter_reduce/amax",
        "scatter_reduce/mean")  # fmt: skip
def _(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    if reduce == "mean":
        ones = dlc.ones_like(src)
        start = dlc.ones_like(x) if include_self else dlc.zeros_like(x)
        total = x if include_self else reset(x, dim, index, 0.0)
        count = scattered(start, dim, index, ones, "add")
        return scattered(total, dim, index, src, "add") / dlc.where(count == 0, 1.0, count)
    neutral = {"sum": 0.0, "prod": 1.0, "amin": np.inf, "amax": -np.inf}[reduce]
    return scattered(x if include_self else reset(x, dim, index, neutral), dim, index, src, REDUCTIONS[reduce])


def reset(x: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    return scattered(x, dim, index, value, "set")


@adapts("index_reduce/mean", "index_reduce/prod", "index_reduce/amin", "index_reduce/amax")
def _(x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    reduction = REDUCTIONS.get(reduce, reduce)
    found = dlc.index_reduce(one_axis(x), one_axis(index), one_axis(source), reduction, dim, include_self)
    return found.reshape(x.shape)


register(
    {
        "__getitem__": lambda x, index: x[plain(index)],
        "gather": gathered,
        "take_along_dim": lambda x, index, dim=None: dlc.take_along_axis(x.reshape((-1,)), index.reshape((-1,)))
        if dim is None
        else along(x, index, dim),
        "take": lambda x, index: dlc.take(flat(x), from_start(index, flat(x).shape[0])),
        "index_select": lambda x, dim, index: dlc.take(one_axis(x), one_axis(index), dim).reshape(
            () if x.ndim == 0 else (*x.shape[: dim % x.ndim], one_axis(index).shape[0], *x.shape[dim % x.ndim + 1 :])
        ),
        "index_fill": lambda x, dim, index, value: dlc.index_put(
            one_axis(x), one_axis(index), value, dim
        ).reshape(x.shape),
        "index_copy": lambda x, dim, index, source: dlc.index_put(
            one_axis(x), one_axis(index), one_axis(source), dim
        ).reshape(x.shape),
        "index_add": lambda x, dim, index, source, alpha=1: dlc.index_add(
            one_axis(x), one_axis(index), one_axis(source) * alpha, dim
        ).reshape(x.shape),
        "index_put": lambda x, index, values, accumulate=False: dlc.index_update(
            x, plain(tuple(index)), values, "add" if accumulate else "set"
        ),
        "put": lambda x, index, values, accumulate=False: placed(x, index, values, accumulate),
        "masked_select": lambda x, mask: selected(x, mask),
        "masked_scatter": lambda x, mask, source: filled(x, mask, source),
        "nonzero": lambda x, as_tuple=False: positions(x) if as_tuple else nonzero(x),
        "argwhere": lambda x: nonzero(x),
        "unravel_index": lambda index, shape: unravelled(index, shape),
        "nn.functional.embedding": lambda *args, **named: embedding(*args, **named),
        "nn.functional.one_hot": lambda index, num_classes=-1: dlc.one_hot(
            index, int(static(index).max()) + 1 if num_classes == -1 else num_classes, "int64"
        ),
        "bincount": lambda x, weights=None, minlength=0: counted(x, weights, minlength),
    }
)


def along(x: Tensor, index: Tensor, dim: int) -> Tensor:
    dim %= x.ndim
    lead = np.broadcast_shapes(
        tuple(1 if a == dim else d for a, d in enumerate(x.shape)),
        tuple(1 if a == dim else d for a, d in enumerate(index.shape)),
    )
    x = dlc.broadcast_to(x, tuple(x.shape[dim] if a == dim else d for a, d in enumerate(lead)))
    index = dlc.broadcast_to(index, tuple(index.shape[dim] if a == dim else d for a, d in enumerate(lead)))
    return dlc.take_along_axis(x, from_start(index, x.shape[dim]), axis=dim)


def placed(x: Tensor, index: Tensor, values: Tensor, accumulate: bool) -> Tensor:
    row = flat(x)
    places = from_start(flat(index), row.shape[0])
    return (dlc.index_add if accumulate else dlc.index_put)(row, places, flat(values), 0).reshape(x.shape)


def selected(x: Tensor, mask: Tensor) -> Tensor:
    shape = np.broadcast_shapes(tuple(x.shape), tuple(mask.shape))
    places = np.flatnonzero(np.broadcast_to(static(mask), shape))
    return dlc.take(dlc.broadcast_to(x, shape).reshape((-1 if shape else 1,)), places)


def filled(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    shape = np.broadcast_shapes(tuple(x.shape), tuple(mask.shape))
    places = np.flatnonzero(np.broadcast_to(static(mask), shape))
    flat = dlc.broadcast_to(x, shape).reshape((-1 if shape else 1,))
    values = source.reshape((-1 if source.ndim else 1,))[: len(places)]
    return dlc.index_put(flat, places, values, 0).reshape(shape)


def positions(x: Tensor) -> tuple[Tensor, ...]:
    return tuple(dlc.constant(i) for i in np.nonzero(np.atleast_1d(static(x))))


def nonzero(x: Tensor) -> Tensor:
    """Positions [n, ndim]; their number is known from the values, which is why these are static."""
    return dlc.constant(np.argwhere(static(x)).astype(np.int64))


def unravelled(index: Tensor, shape: Any) -> tuple[Tensor, ...]:
    shape = whole(shape)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    found = []
    for d in shape[::-1]:
        found.append(index % d)
        index = dlc.floor_divide(index, d)
    return tuple(found[::-1])


def embedding(
    weight: Tensor, index: Tensor, padding_idx: int | None = None, max_norm: Any = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    from dlc.nn import functional as F

    refuse(max_norm is not None, "max_norm, which changes the weights")
    refuse(scale_grad_by_freq, "gradients scaled by frequency")
    return F.embedding(index, weight, padding_idx)


@adapts("nn.functional.embedding_bag")
def _(
    weight: Tensor, index: Tensor, offsets: Any = None, max_norm: Any = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, per_sample_weights: Any = None,
    include_last_offset: bool = False, padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    from dlc.nn import functional as F

    refuse(max_norm is not None, "max_norm, which changes the weights")
    refuse(scale_grad_by_freq, "gradients scaled by frequency")
    padding = None if padding_idx is None else padding_idx % weight.shape[0]
    return F.embedding_bag(index, weight, offsets, mode, per_sample_weights, padding, include_last_offset)


def counted(x: Tensor, weights: Any, minlength: int) -> Tensor:
    size = max(minlength, int(static(x).max(initial=-1)) + 1)
    values = dlc.ones(x.shape, "int64") if weights is None else weights.astype("float64")
    return dlc.index_add(dlc.zeros((size,), values.dtype), x, values, 0)
