"""The steps of which random graphs are made: samples of every op of the catalogue, and functions composed of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dlc
from dlc import ops
from dlc.dtypes import FLOATING
from dlc.ops.definition import CATALOGUE, Kind
from dlc.ops.tensor import Tensor

from .author import Author, Entry, brought_to

SAMPLED = [op for op in CATALOGUE.values() if op.kind not in (Kind.LEAF, Kind.ITEM, Kind.FUSED)]
JUMPING = frozenset((
    "astype", "floor_divide", "remainder", "sign", "maximum", "minimum", "max", "min", "argmax", "argmin", "floor",
    "ceil", "trunc", "round", "isnan", "isfinite", "equal", "not_equal", "less", "less_equal", "greater",
    "greater_equal", "copysign", "nextafter", "argsort", "any", "all",
))  # fmt: skip
EXACT = frozenset((
    "where", "maximum", "minimum", "max", "min", "argmax", "argmin", "negative", "abs", "sign", "relu", "floor", "ceil",
    "trunc", "round", "put",
))  # fmt: skip
LIMITED_INTEGERS = frozenset(("put", "random_bits", "take_adjoint"))  # integers that must keep the samples' values


def sampled(a: Author) -> list[Entry]:
    """A sample of any op: its arrays become inputs, or tensors of the pool brought to their shapes and ranges."""
    op = a.one_of(SAMPLED)
    sample = a.one_of(list(op.samples()))
    wide, symbolic = a.chance(0.25), a.chance(0.4)
    exact = True

    def read(value: Any, place: int) -> Any:
        nonlocal exact
        if isinstance(value, (list, tuple)) and any(isinstance(v, (np.ndarray, np.generic)) for v in value):
            return type(value)(read(v, place) for v in value)
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        array = np.asarray(value)
        if array.dtype.kind == "f" and wide and array.dtype.name == "float32":
            array = array.astype("float64")
        if not symbolic and a.chance(0.6):
            try:
                entry = in_range(a, array, op.name, place)
                exact = exact and entry.exact
                return entry.tensor
            except LookupError:
                pass
        shape = tuple(f"D{n}" if symbolic and 2 <= n <= 9 else n for n in array.shape)
        return a.input(array.dtype.name, shape, array)

    result = op.function(*[read(v, i) for i, v in enumerate(sample.args)], **sample.kwargs)
    known = exact and (op.kind in (Kind.VIEW, Kind.INDEX) or op.name in EXACT)
    return [Entry(t, known or t.dtype not in FLOATING) for t in flattened(result)]


def in_range(a: Author, array: Any, name: str, place: int) -> Entry:
    """A tensor of the pool with an array's dtype and shape, and values between its least and its greatest."""
    dtype = array.dtype.name
    if not array.size or (dtype not in FLOATING and name in LIMITED_INTEGERS):
        raise LookupError
    if name in JUMPING and place:  # a second operand may have to differ from zero
        raise LookupError
    e = a.pick(lambda e: e.tensor.dtype == dtype and (e.exact or (dtype in FLOATING and name not in JUMPING)))
    t = brought_to(e.tensor, array.shape)
    if dtype == "bool" or name in JUMPING:
        return Entry(t, e.exact)
    low, high = array.min(), array.max()
    if dtype not in FLOATING:
        if name in ("floor_divide", "remainder", "pow") and place:
            raise LookupError
        width = int(high) - int(low) + 1
        if width > 100:
            raise LookupError
        return Entry(ops.remainder(t, width) + int(low), e.exact)
    if not np.isfinite([low, high]).all():
        raise LookupError
    if CATALOGUE[name].kind in (Kind.VIEW, Kind.INDEX) or name in EXACT:
        return Entry(t, e.exact)
    middle, half = (float(high) + float(low)) / 2, (float(high) - float(low)) / 2
    return Entry(dlc.tanh(t) * (half * 0.97) + middle, False)


def flattened(value: Any) -> list[Tensor]:
    return [t for v in value for t in flattened(v)] if isinstance(value, (tuple, list)) else [value]


# ---------------------------------------------------------------- elementwise

SMOOTH: tuple[Callable[[Any], Any], ...] = (
    dlc.tanh, dlc.sigmoid, ops.sin, ops.cos, ops.erf, ops.silu, ops.gelu, ops.softplus, ops.mish, ops.softsign,
    ops.tanhshrink, ops.log_sigmoid, ops.elu, ops.celu, ops.selu, ops.atan, ops.asinh, ops.square,
    lambda x: ops.log(1 + x * x), lambda x: ops.sqrt(0.5 + x * x), lambda x: ops.rsqrt(0.5 + x * x),
    lambda x: ops.reciprocal(1 + x * x), lambda x: ops.exp(-x * x), lambda x: ops.log1p(ops.exp(-abs(x))),
    lambda x: ops.hypot(x, 1.5), lambda x: ops.logaddexp(x, 0.5), lambda x: ops.exp2(ops.minimum(x, 2.0)),
    lambda x: ops.gelu(x, approximate="tanh"), lambda x: ops.atan2(x, 2.0 + ops.tanh(x)), ops.hardswish,
)  # fmt: skip
EXACT_FUNCTIONS: tuple[Callable[[Any], Any], ...] = (
    ops.negative, ops.abs, ops.relu, ops.relu6, ops.hardtanh, lambda x: ops.clip(x, -0.5, 1.25),
    lambda x: ops.leaky_relu(x, 0.25), lambda x: ops.hardshrink(x, 0.25), lambda x: ops.softshrink(x, 0.25),
    lambda x: ops.threshold(x, 0.25, -0.5), lambda x: x * 0.5, lambda x: x - 0.25,
)  # fmt: skip
JUMPS: tuple[Callable[[Any], Any], ...] = (
    ops.floor, ops.ceil, ops.sign, ops.round, ops.trunc, ops.binary_step, lambda x: x // 0.75, lambda x: x % 0.75,
)  # fmt: skip


def smooth(a: Author) -> Entry:
    return Entry(a.one_of(SMOOTH)(a.floating().tensor), False)


def exact(a: Author) -> Entry:
    t, known = a.floating()
    return Entry(a.one_of(EXACT_FUNCTIONS + JUMPS if known else EXACT_FUNCTIONS)(t), known)


def binary(a: Author) -> Entry:
    (x, one), (y, two) = a.floating(), a.floating()
    if one and two and a.chance(0.5):
        return Entry(a.one_of((ops.maximum, ops.minimum, ops.add, ops.subtract))(x, y), True)
    made = a.one_of((ops.add, ops.subtract, ops.multiply, lambda p, q: p / (1.5 + q * q)))(x, y)
    return Entry(dlc.tanh(made), False)


def integers(a: Author) -> Entry:
    x, y = a.integer().tensor, a.integer().tensor
    made = a.one_of((ops.add, ops.subtract, ops.multiply, ops.maximum, ops.minimum, ops.bitwise_and, ops.bitwise_xor))
    return Entry(made(x, y), True)


def logic(a: Author) -> Entry:
    p, q = (a.pick(lambda e: e.tensor.dtype == "bool").tensor for _ in range(2))
    return Entry(a.one_of((ops.logical_and, ops.logical_or, ops.logical_xor))(p, ops.logical_not(q)), True)


def choice(a: Author) -> Entry:
    p, q = a.pick(lambda e: e.exact), a.pick(lambda e: e.exact)
    (x, one), (y, two) = a.floating(), a.floating()
    return Entry(dlc.where(a.one_of((ops.less, ops.equal, ops.greater_equal))(p.tensor, q.tensor), x, y), one and two)


def conversion(a: Author) -> Entry:
    t = a.pick(lambda e: e.exact).tensor
    if t.dtype in FLOATING:
        t = ops.clip(t, -100.0, 100.0)
    return Entry(t.astype(a.one_of(("float32", "float64", "int32", "int64", "bool"))), True)


def widening(a: Author) -> Entry:
    t, known = a.floating()
    return Entry(t.astype("float64" if t.dtype == "float32" else "float32"), known and t.dtype == "float32")


# ---------------------------------------------------------------- along axes


def reduction(a: Author) -> Entry:
    t, known = a.floating(1)
    axes = tuple(sorted({a.below(t.ndim) for _ in range(2)}))
    sums = (ops.sum, ops.mean, ops.var, ops.logsumexp)
    picks = (ops.max, ops.min, ops.argmax, ops.argmin, ops.count_nonzero, ops.any, ops.all)
    reduce = a.one_of((*sums, *picks) if known else sums)
    source = dlc.not_equal(t, 0.0) if reduce in (ops.any, ops.all) else t
    result = reduce(source, axis=axes[0] if reduce in (ops.argmax, ops.argmin) else axes, keepdims=bool(a.below(2)))
    return Entry(result if reduce in picks else dlc.tanh(result * 0.1), reduce in picks)


def normalisation(a: Author) -> Entry:
    t = a.floating(1).tensor
    choices = (
        ops.softmax, ops.log_softmax, lambda x, axis: ops.layer_norm(x, axis=axis, eps=0.1),
        lambda x, axis: ops.rms_norm(x, axis=axis, eps=0.1), lambda x, axis: ops.logcumsumexp(x, axis),
        lambda x, axis: ops.cumulative_sum(x, axis),
        lambda x, axis: ops.std(x + ops.cumulative_sum(x + 1.5, axis), axis),
    )  # fmt: skip
    return Entry(dlc.tanh(a.one_of(choices)(t, a.below(t.ndim)) * 0.3), False)


def ordering(a: Author) -> list[Entry]:
    t, _ = a.floating(1, exact=True)
    axis = a.below(t.ndim)
    if a.chance(0.5) or not isinstance(t.shape[axis], int) or not t.shape[axis]:
        return [Entry(ops.sort(t, axis, descending=a.chance(0.5)), True)]
    values, places = ops.topk(t, 1 + a.below(t.shape[axis]), axis)
    return [Entry(values, True), Entry(places, True)]


def view(a: Author) -> Entry:
    t, known = a.pick(lambda e: e.tensor.ndim > 0)
    axis = a.below(t.ndim)
    long = [i for i, d in enumerate(t.shape) if isinstance(d, int) and d >= 3]
    choices: list[Callable[[], Tensor]] = [
        lambda: ops.permute_dims(t, tuple(int(i) for i in a.rng.permutation(t.ndim))),
        lambda: ops.flip(t, axis),
        lambda: t[(slice(None),) * axis + (slice(None, None, a.one_of((-1, 2, -2))),)],
        lambda: ops.expand_dims(t, axis),
        lambda: ops.broadcast_to(t, (a.one_of((2, "N")), *t.shape)),
        lambda: t.reshape(-1),
        lambda: ops.stop_gradient(t),
        lambda: ops.moveaxis(t, 0, -1),
        lambda: ops.roll(t, 1 + a.below(2), axis),
        lambda: ops.tile(t, (2,)),
        lambda: ops.repeat(t, 2, axis),
    ]
    if t.ndim >= 2:
        choices += [lambda: ops.tril(t, a.below(2)), lambda: ops.triu(t), lambda: ops.diagonal(t)]
    if long:
        pick = (slice(None),) * long[0]
        choices += [
            lambda: t[(*pick, 1)],
            lambda: t[(*pick, slice(1, 2))],
            lambda: t[(*pick, slice(0, 0))],
            lambda: t[(*pick, slice(None, 0, -2))],
            lambda: t[(*pick, [2, 0, -1])],
            lambda: ops.windows(t, (long[0],), (2,), (1 + a.below(2),), (1 + a.below(2),)),
        ]
    return Entry(a.one_of(choices)(), known)


def padding(a: Author) -> Entry:
    t, known = a.floating(1)
    if a.chance(0.3):
        axes = [(a.below(2), a.below(2)) for _ in t.shape]
        return Entry(ops.pad_border(t, axes, a.one_of(("reflect", "edge", "wrap"))), known)
    widths = [(a.below(3), a.below(2)) for _ in t.shape]
    return Entry(ops.pad(t, widths, [a.below(2) for _ in t.shape], value=1), known)


def joining(a: Author) -> Entry:
    t, one = a.pick(lambda e: e.tensor.ndim > 0)
    u, two = a.pick(lambda e: e.tensor.type == t.type)
    return Entry(a.one_of((ops.concat, ops.stack))([t, u, t], axis=a.below(t.ndim)), one and two)


def parting(a: Author) -> list[Entry]:
    t, known = a.pick(lambda e: any(isinstance(d, int) and d >= 2 for d in e.tensor.shape))
    axis = next(i for i, d in enumerate(t.shape) if isinstance(d, int) and d >= 2)
    made = ops.unstack(t, axis) if a.chance(0.4) else ops.split(t, [1], axis)
    return [Entry(u, known) for u in made[:3]]


# ---------------------------------------------------------------- reading and writing at places


def gathering(a: Author) -> Entry:
    t, known = a.pick(lambda e: any(isinstance(d, int) and d for d in e.tensor.shape))
    axis = next(i for i, d in enumerate(t.shape) if isinstance(d, int) and d)
    indices = a.pick(lambda e: e.exact and e.tensor.dtype in ("int32", "int64", "uint8") and e.tensor.ndim < 3).tensor
    return Entry(ops.take(t, ops.remainder(indices.astype("int64"), t.shape[axis]), axis=axis), known)


def scattering(a: Author) -> Entry:
    t, known = a.shaped((5, 3))
    values, also = a.shaped((4, 3))
    indices = ops.constant(a.rng.permutation(5)[:4])
    which = a.below(4)
    if which == 0:
        return Entry(dlc.tanh(ops.index_add(t, ops.remainder(indices, 3), values)), False)
    if which == 1:
        return Entry(ops.index_put(t, indices, values), known and also)
    if which == 2:
        return Entry(ops.index_update(t, (slice(1, 5), slice(None)), values), known and also)
    return Entry(ops.gather_nd(t, ops.stack([indices, ops.remainder(indices, 3)], axis=1)), known)


def encoding(a: Author) -> Entry:
    t = a.integer().tensor
    return Entry(ops.one_hot(ops.remainder(t.astype("int64"), 4), 4, "float32"), True)


# ---------------------------------------------------------------- products, convolutions, layers


def product(a: Author) -> Entry:
    t = a.floating(1).tensor
    other = a.pick(lambda e: e.tensor.dtype == t.dtype and e.tensor.ndim > 1).tensor
    if other.shape[-2] != t.shape[-1]:
        other = ops.matrix_transpose(other)
    if other.shape[-2] != t.shape[-1]:
        other = a.input(t.dtype, (t.shape[-1], a.one_of((2, "M"))))
    return Entry(dlc.tanh(t @ other * 0.2), False)


def contraction(a: Author) -> Entry:
    x, y = a.shaped((2, 3, 4)).tensor, a.shaped((4, 3, 2)).tensor
    choices: tuple[Callable[[], Any], ...] = (
        lambda: ops.einsum("abc,cbd->ad", x, y), lambda: ops.einsum("abc,cba->b", x, y),
        lambda: ops.tensordot(x, y, axes=1), lambda: ops.tensordot(x, y, axes=([1, 2], [1, 0])),
        lambda: ops.vecdot(x, ops.permute_dims(y, (2, 1, 0))), lambda: ops.outer(x.reshape(-1)[:5], y.reshape(-1)[:3]),
        lambda: ops.matrix_trace(x),
    )  # fmt: skip
    return Entry(dlc.tanh(a.one_of(choices)() * 0.2), False)


def convolution(a: Author) -> Entry:
    rank = a.one_of((1, 2, 2, 3))
    if rank == 2 and a.chance(0.6):
        try:
            fits = a.pick(lambda e: e.tensor.dtype in FLOATING and e.tensor.ndim == 4 and e.tensor.shape[1] in (1, 2))
            t = fits.tensor
        except LookupError:
            t = a.input("float32", (a.one_of(("N", 2)), 2, a.one_of((5, "H")), 6))
        w = a.input(t.dtype, (2, t.shape[1], a.one_of((1, 3)), 2))
        made = ops.conv2d(t, w, stride=(a.one_of((1, 2)), 1), padding=a.one_of((0, 1)), dilation=a.one_of((1, 2)))
        return Entry(dlc.tanh(made * 0.2), False)
    groups = a.one_of((1, 2))
    t = a.shaped((2, 4, 7, 6, 5)[: 2 + rank]).tensor
    if a.chance(0.4):
        w = a.shaped((4, 2 // groups, 2, 3, 2)[: 2 + rank]).tensor
        transposed = (ops.conv_transpose1d, ops.conv_transpose2d, ops.conv_transpose3d)[rank - 1]
        made = transposed(t, w, stride=a.one_of((1, 2)), padding=a.below(2), groups=groups)
    else:
        w = a.shaped((2, 4 // groups, 3, 2, 2)[: 2 + rank]).tensor
        padding = a.one_of((0, 1, "valid", "same", "full"))
        stride = 1 if padding == "same" else a.one_of((1, 2))
        made = (ops.conv1d, ops.conv2d, ops.conv3d)[rank - 1](t, w, stride=stride, padding=padding, groups=groups)
    return Entry(dlc.tanh(made * 0.2), False)


def pooling(a: Author) -> Entry:
    rank = a.one_of((1, 2, 2, 3))
    if a.chance(0.5):
        t, known = a.pick(lambda e: e.tensor.dtype in FLOATING and e.tensor.ndim == 2 + rank)
    else:
        t, known = a.shaped((2, 2, 6, 5, 4)[: 2 + rank])
    kernel, stride = (2,) * rank, a.one_of((1, 2))
    if known and a.chance(0.6):
        made = a.one_of((lambda: ops.max_pool(t, kernel, stride), lambda: ops.global_max_pool(t)))()
        return Entry(made, True)
    choices = (
        lambda: ops.avg_pool(t, kernel, stride), lambda: ops.global_avg_pool(t),
        lambda: ops.lp_pool(t + 3.0, 2, kernel, stride), lambda: ops.adaptive_avg_pool(t, (2,) * rank),
    )  # fmt: skip
    return Entry(dlc.tanh(a.one_of(choices)() * 0.5), False)


def layer(a: Author) -> Entry:
    t = a.shaped((2, 4, 4, 4)).tensor
    choices: tuple[Callable[[], Any], ...] = (
        lambda: ops.group_norm(t, 2, eps=0.1), lambda: ops.instance_norm(t, eps=0.1),
        lambda: ops.local_response_norm(t, 3, alpha=0.1), lambda: ops.pixel_shuffle(t, 2),
        lambda: ops.attention(t, t * 0.5, t + 1.0, causal=a.chance(0.5)),
        lambda: ops.resize(t, size=(5, 3), mode=a.one_of(("nearest", "linear"))),
        lambda: ops.glu(t, 1), lambda: ops.prelu(t, a.input("float32", (4,)), 1),
        lambda: ops.dropout(t, 0.5, site=a.below(9)),
    )  # fmt: skip
    return Entry(a.one_of(choices)(), False)


def loss(a: Author) -> Entry:
    t = a.shaped((4, 3)).tensor
    targets = a.input("int64", (4,), a.rng.integers(0, 3, 4))
    if a.chance(0.5):
        return Entry(ops.nll_loss(ops.log_softmax(t), targets, reduction=a.one_of(("mean", "sum", "none"))), False)
    return Entry(ops.cross_entropy(t, targets, label_smoothing=a.one_of((0.0, 0.1))), False)


# ---------------------------------------------------------------- bodies, states, draws


def loop(a: Author) -> list[Entry]:
    xs = a.floating(2).tensor
    held = dlc.tanh(ops.sum(a.floating().tensor).astype(xs.dtype) * 0.1)  # what the body captures
    bodies = (
        lambda c, x: (dlc.tanh(c * 0.5 + x), c * x),
        lambda c, x: (dlc.tanh(c * held + x), ops.sum(c * x)),
        lambda c, x: (ops.maximum(c * 0.5, x), ops.where(x > 0.125, c, x)),
    )
    last, steps = dlc.scan(a.one_of(bodies[: 2 + a.below(2)]), dlc.zeros(xs.shape[1:], xs.dtype), xs,
                           reverse=a.chance(0.5))  # fmt: skip
    return [Entry(last, False), Entry(steps, False)]


def nested_loop(a: Author) -> Entry:
    xs = a.shaped((3, 2, 4)).tensor

    def outer(c: Any, x: Any) -> Any:
        inner, _ = dlc.scan(lambda d, y: (dlc.tanh(d + y * c), d), dlc.zeros((4,), "float32"), x)
        return dlc.tanh(c * 0.5 + inner), inner

    return Entry(dlc.scan(outer, dlc.ones((4,), "float32"), xs)[a.below(2)], False)


def called(a: Author) -> Entry:
    x, y = a.floating().tensor, a.floating().tensor
    if a.chance(0.6):
        return Entry(dlc.checkpoint(lambda p, q: dlc.tanh(ops.sin(p) * q + p), x, y), False)
    held = dlc.checkpoint(lambda p: dlc.checkpoint(lambda r: dlc.sigmoid(r * 2.0), p) * p, x)
    return Entry(held + y, False)


def ruled(a: Author) -> Entry:
    @dlc.custom_vjp
    def clipped(p: Any) -> Any:
        return ops.sin(p)

    @clipped.backward
    def _(g: Any, y: Any, p: Any) -> Any:
        return g * 0.5 * p

    return Entry(clipped(a.floating().tensor), False)


def stateful(a: Author) -> Entry:
    return Entry(a.state(a.one_of(("float32", "float64")), a.one_of(((3,), (2, 3), (), (0, 3)))), True)


def draw(a: Author) -> Entry:
    shape, site = (a.one_of(("N", 2)), 3), a.below(9)
    which = a.below(4)
    if which == 0:
        return Entry(ops.randint(shape, 0, 5, site=site), True)
    if which == 1:
        return Entry(ops.bernoulli(0.25, shape, site=site), True)
    return Entry((dlc.uniform, dlc.normal)[which - 2](shape, site=site), False)


STEPS = (
    *(sampled,) * 14, smooth, smooth, exact, binary, binary, integers, logic, choice, conversion, widening, reduction,
    reduction, normalisation, ordering, view, view, view, padding, joining, parting, gathering, scattering, encoding,
    product, contraction, convolution, pooling, layer, loss, loop, nested_loop, called, ruled, stateful, draw,
)  # fmt: skip
