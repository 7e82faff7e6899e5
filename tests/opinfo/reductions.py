"""torch's reductions, running sums, sorting and searching in dlc."""

from __future__ import annotations

from typing import Any

import dlc
from dlc.ops.tensor import Tensor, wrap

from .registry import adapts, refuse, register


def axes_of(x: Tensor, dim: Any) -> Any:
    """torch's `dim`: None and no axes mean all, and a 0-d tensor has an axis 0."""
    if dim is None or (isinstance(dim, (tuple, list)) and len(dim) == 0):
        return None
    if x.ndim == 0:
        return ()
    return tuple(dim) if isinstance(dim, list) else dim


def at_least_1d(x: Tensor) -> Tensor:
    return x.reshape((1,)) if x.ndim == 0 else x


def typed(x: Tensor, dtype: str | None) -> Tensor:
    return x if dtype is None else dlc.astype(x, dtype)


def reduced(function: Any) -> Any:
    return lambda x, dim=None, keepdim=False: function(x, axes_of(x, dim), keepdim)


def totalled(function: Any) -> Any:
    return lambda x, dim=None, keepdim=False, dtype=None: function(typed(x, dtype), axes_of(x, dim), keepdim)


register(
    {
        "all": reduced(lambda x, axis, keep: dlc.all(x.astype("bool"), axis, keep)),
        "any": reduced(lambda x, axis, keep: dlc.any(x.astype("bool"), axis, keep)),
        "amax": reduced(dlc.max),
        "amin": reduced(dlc.min),
        "argmax": reduced(dlc.argmax),
        "argmin": reduced(dlc.argmin),
        "count_nonzero": lambda x, dim=None: dlc.count_nonzero(x, axes_of(x, dim)),
        "sum": totalled(dlc.sum),
        "mean": totalled(dlc.mean),
        "prod": totalled(dlc.prod),
        "nansum": totalled(lambda x, axis, keep: dlc.sum(dlc.where(dlc.isnan(x), 0.0, x), axis, keep)),
        "nanmean": totalled(lambda x, axis, keep: nanmean(x, axis, keep)),
        "logsumexp": reduced(dlc.logsumexp),
        "aminmax": lambda x, dim=None, keepdim=False: (
            dlc.min(x, axes_of(x, dim), keepdim),
            dlc.max(x, axes_of(x, dim), keepdim),
        ),
        "max/reduction_no_dim": dlc.max,
        "min/reduction_no_dim": dlc.min,
        "cumsum": lambda x, dim, dtype=None: along(dlc.cumulative_sum, typed(x, dtype), dim),
        "cumprod": lambda x, dim, dtype=None: along(dlc.cumulative_prod, typed(x, dtype), dim),
        "cummax": lambda x, dim: (along(dlc.cumulative_max, x, dim), along(dlc.cumulative_argmax, x, dim)),
        "cummin": lambda x, dim: (along(dlc.cumulative_min, x, dim), along(dlc.cumulative_argmin, x, dim)),
        "logcumsumexp": lambda x, dim: along(dlc.logcumsumexp, x, dim),
        "cumulative_trapezoid": lambda y, x=None, dx=1.0, dim=-1: dlc.cumulative_sum(trapezia(y, x, dx, dim), dim),
        "softmax": lambda x, dim, dtype=None: along(dlc.softmax, typed(x, dtype), dim),
        "softmax/with_dtype": lambda x, dim, dtype=None: along(dlc.softmax, typed(x, dtype), dim),
        "log_softmax": lambda x, dim, dtype=None: along(dlc.log_softmax, typed(x, dtype), dim),
        "log_softmax/with_dtype": lambda x, dim, dtype=None: along(dlc.log_softmax, typed(x, dtype), dim),
        "nn.functional.softmin": lambda x, dim, dtype=None: along(dlc.softmax, -typed(x, dtype), dim),
        "nn.functional.softmin/with_dtype": lambda x, dim, dtype=None: along(dlc.softmax, -typed(x, dtype), dim),
        "torch.ops.aten._safe_softmax.default": lambda x, dim, dtype=None: along(dlc.softmax, typed(x, dtype), dim),
    }
)


def along(function: Any, x: Tensor, dim: int, **kwargs: Any) -> Tensor:
    """A function along an axis, which torch lets a 0-d tensor have."""
    return function(at_least_1d(x), axis=dim, **kwargs).reshape(x.shape)


@adapts("_softmax_backward_data", half=(8.0, "three ops, each of which rounds"))
def _(g: Tensor, y: Tensor, dim: int, dtype: str) -> Tensor:
    return y * (g - dlc.sum(g * y, dim, True)).astype(dtype)


def nanmean(x: Tensor, axis: Any, keep: bool) -> Tensor:
    there = ~dlc.isnan(x)
    return dlc.sum(dlc.where(there, x, 0.0), axis, keep) / dlc.sum(there.astype(x.dtype), axis, keep)


def trapezia(y: Tensor, x: Any, dx: Any, dim: int) -> Tensor:
    dim = dim % y.ndim
    left = (slice(None),) * dim + (slice(None, -1),)
    right = (slice(None),) * dim + (slice(1, None),)
    if x is None:
        return (y[left] + y[right]) * (0.5 * dx)
    if x.ndim == 1 and y.ndim != 1:
        x = x.reshape((1,) * dim + x.shape + (1,) * (y.ndim - dim - 1))
    at = (slice(None),) * (x.ndim - y.ndim + dim)
    width = x[(*at, slice(1, None))] - x[(*at, slice(None, -1))]
    return (y[left] + y[right]) * width * 0.5


@adapts("trapz", "trapezoid")
def _(y: Tensor, x: Any = None, dx: Any = 1.0, dim: int = -1) -> Tensor:
    found = trapezia(y, x, dx, dim)
    return dlc.sum(found, dim if dim < 0 else dim + found.ndim - y.ndim)


def moments(function: Any, with_mean: bool) -> Any:
    def adapted(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], bool):  # torch's older form, without axes
            dim, correction, keep = None, float(args[0]), False
        else:
            dim = args[0] if args else kwargs.get("dim")
            unbiased = args[1] if len(args) > 1 else kwargs.get("unbiased", True)
            correction = kwargs.get("correction")
            correction = float(unbiased) if correction is None else float(correction)
            keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        axis = axes_of(x, dim)
        found = function(x, axis, keep, correction=correction)
        return (found, dlc.mean(x, axis, keep)) if with_mean else found

    return adapted


def extremum(index: Any) -> Any:
    def adapted(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        if x.ndim == 0:
            return x, dlc.zeros((), "int64")
        places = index(x, dim, True)
        values = dlc.take_along_axis(x, places, axis=dim)
        return (values, places) if keepdim else (dlc.squeeze(values, dim), dlc.squeeze(places, dim))

    return adapted


register(
    {
        **{name: moments(dlc.var, False) for name in ("var", "var/unbiased")},
        **{name: moments(dlc.std, False) for name in ("std", "std/unbiased")},
        **{name: moments(dlc.var, True) for name in ("var_mean", "var_mean/unbiased")},
        **{name: moments(dlc.std, True) for name in ("std_mean", "std_mean/unbiased")},
        "max/reduction_with_dim": extremum(dlc.argmax),
        "min/reduction_with_dim": extremum(dlc.argmin),
    }
)


@adapts("norm", "norm/fro", "norm/inf")
def _(x: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    refuse(p == "nuc", "singular values")
    x = typed(x, dtype)
    return vector_norm(x, 2 if p in ("fro", None) else p, axes_of(x, dim), keepdim)


def vector_norm(x: Tensor, p: float, axis: Any, keep: bool) -> Tensor:
    return dlc.vector_norm(x, axis, keep, p)


@adapts("linalg.vector_norm")
def _(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    x = typed(x, dtype)
    return vector_norm(x, ord, axes_of(x, dim), keepdim)


@adapts("linalg.matrix_norm")
def _(x: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, dtype: Any = None) -> Tensor:
    refuse(ord in ("nuc", 2, -2), "singular values")
    x = typed(x, dtype)
    rows, columns = (d % x.ndim for d in dim)
    if ord == "fro":
        return vector_norm(x, 2, (rows, columns), keepdim)
    first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = dlc.sum(dlc.abs(x), first, True)
    found = (dlc.max if ord > 0 else dlc.min)(sums, second, True)
    return found if keepdim else dlc.squeeze(found, (rows, columns))


@adapts("linalg.norm", "linalg.norm/subgradients_at_zero")
def _(x: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    from .registry import ADAPTERS

    axes = (dim,) if isinstance(dim, int) else tuple(range(x.ndim)) if dim is None else dim
    if ord is None or len(axes) == 1:
        return vector_norm(typed(x, dtype), 2 if ord is None else ord, axes_of(x, dim), keepdim)
    return ADAPTERS["linalg.matrix_norm"].function(x, ord, (-2, -1) if dim is None else dim, keepdim, dtype)


@adapts("renorm")
def _(x: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    axes = tuple(a for a in range(x.ndim) if a != dim % x.ndim)
    size = vector_norm(x, p, axes, True)
    return x * dlc.where(size > maxnorm, maxnorm / (size + 1e-7), 1.0)


# ---------------------------------------------------------------- sorting and searching


@adapts("sort")
def _(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> tuple[Tensor, Tensor]:
    if x.ndim == 0:
        return x, dlc.zeros((), "int64")
    places = dlc.argsort(x, dim, descending)
    return dlc.take_along_axis(x, places, axis=dim), places


@adapts("argsort")
def _(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    return dlc.zeros((), "int64") if x.ndim == 0 else dlc.argsort(x, dim, descending)


@adapts("msort")
def _(x: Tensor) -> Tensor:
    return dlc.sort(x, 0)


@adapts("topk")
def _(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    values, places = dlc.topk(at_least_1d(x), k, dim, largest)
    return (values, places) if x.ndim else (values.reshape(()), places.reshape(()))


@adapts("kthvalue")
def _(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    if x.ndim == 0:
        return x, dlc.zeros((), "int64")
    values, places = dlc.topk(x, k, dim, largest=False)
    at = (slice(None),) * (dim % x.ndim) + (slice(k - 1, k),)
    return tuple(v[at] if keepdim else dlc.squeeze(v[at], dim) for v in (values, places))


@adapts("searchsorted")
def _(vector: Tensor, values: Any, *, out_int32: bool = False, right: bool = False, side: Any = None,
      sorter: Any = None) -> Tensor:  # fmt: skip
    refuse(vector.ndim > 1, "searchsorted takes one vector")
    if sorter is not None:
        vector = dlc.take(vector, sorter)
    found = dlc.searchsorted(vector, values, side or ("right" if right else "left"))
    return found.astype("int32") if out_int32 else found


@adapts("bucketize")
def _(values: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    found = dlc.searchsorted(boundaries, values, "right" if right else "left")
    return found.astype("int32") if out_int32 else found


@adapts("isin")
def _(x: Any, tests: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    x, tests = wrap(x), wrap(tests)
    found = dlc.any(x.reshape((*x.shape, 1)) == tests.reshape((-1 if tests.ndim else 1,)), -1)
    return ~found if invert else found
