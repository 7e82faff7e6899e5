"""Random typed graphs with gradients: native code, under several pipelines and sizes, against the reference backend.

Inputs hold quarters, and ops that jump (comparisons, floor, argmax, conversions) read only what is computed from them
without rounding, so that a difference is a mistake and not a last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

import dlc
from dlc import ops
from dlc.dims import evaluate
from dlc.dtypes import FLOATING, INTEGER
from dlc.errors import DlcError
from dlc.ir import Graph
from dlc.ops.tensor import Tensor
from dlc.passes import PIPELINE, Pipeline
from dlc.passes.compare import first_difference

Array = np.ndarray[Any, Any]
BINDINGS = ({"N": 3, "M": 4, "H": 5}, {"N": 1, "M": 2, "H": 6}, {"N": 0, "M": 3, "H": 4}, {"N": 17, "M": 0, "H": 7})


class Entry(NamedTuple):
    """A tensor of the pool; `exact`: computed without rounding."""

    tensor: Tensor
    exact: bool


class Author:
    """Writes a graph step by step: every step picks tensors from the pool and adds one that is computed from them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pool: list[Entry] = []
        self.inputs: list[Tensor] = []
        self.input("float32", ("N", "M"))
        self.input("float32", ("H", 3))
        self.input(self.one_of(("float64", "int32", "uint8", "bool")), (self.one_of(("N", 2)), 3))

    def one_of(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def input(self, dtype: str, shape: tuple[Any, ...]) -> Tensor:
        t = dlc.input(f"x{len(self.inputs)}", shape, dtype)
        self.inputs.append(t)
        self.pool.append(Entry(t, True))
        return t

    def pick(self, fits: Callable[[Entry], bool]) -> Entry:
        """A tensor that fits, late ones more often."""
        found = [e for e in self.pool if fits(e)]
        if not found:
            raise LookupError
        return found[-1 - min(int(self.rng.geometric(0.3)) - 1, len(found) - 1)]

    def floating(self, least: int = 0) -> Entry:
        return self.pick(lambda e: e.tensor.dtype in FLOATING and e.tensor.ndim >= least)

    def write(self, steps: int) -> Graph:
        """Outputs are the last tensors, and the gradients of their sum."""
        while steps:
            try:
                made = self.one_of(STEPS)(self)
            except (DlcError, LookupError):  # what was picked does not fit the op
                continue
            if made.tensor.ndim <= 5:
                self.pool.append(made)
                steps -= 1
        outputs = [e.tensor for e in self.pool[3:]][-5:]
        sums = [ops.sum(t * 1.5).astype("float64") for t in outputs if t.dtype in FLOATING]
        wrt = [t for t in self.inputs if t.dtype in FLOATING]
        gradients = dlc.grad(sum(sums[1:], sums[0]), wrt) if sums else []
        return dlc.graph(self.inputs, [*outputs, *gradients])


SMOOTH = (dlc.tanh, dlc.sigmoid, ops.sin, ops.erf, ops.silu, ops.gelu, ops.softplus, lambda x: ops.log(1 + x * x))
EXACT = (ops.negative, ops.abs, ops.relu)
JUMPS = (ops.floor, ops.ceil, ops.sign, lambda x: x // 0.75, lambda x: x % 0.75)


def smooth(a: Author) -> Entry:
    return Entry(a.one_of(SMOOTH)(a.floating().tensor), False)


def exact(a: Author) -> Entry:
    t, known = a.floating()
    return Entry(a.one_of(EXACT + JUMPS if known else EXACT)(t), known)


def binary(a: Author) -> Entry:
    (x, one), (y, two) = a.floating(), a.floating()
    if one and two:
        return Entry(a.one_of((ops.maximum, ops.minimum, ops.add, ops.subtract))(x, y), True)
    return Entry(dlc.tanh(a.one_of((ops.add, ops.subtract, ops.multiply))(x, y)), False)


def choice(a: Author) -> Entry:
    p, q = a.pick(lambda e: e.exact), a.pick(lambda e: e.exact)
    (x, one), (y, two) = a.floating(), a.floating()
    return Entry(dlc.where(a.one_of((ops.less, ops.equal, ops.greater_equal))(p.tensor, q.tensor), x, y), one and two)


def conversion(a: Author) -> Entry:
    t = a.pick(lambda e: e.exact).tensor
    return Entry(t.astype(a.one_of(("float32", "float64", "int32", "int64", "bool"))), True)


def reduction(a: Author) -> Entry:
    t, known = a.floating(1)
    axes = tuple(sorted({a.below(t.ndim) for _ in range(2)}))
    sums = (ops.sum, ops.mean)
    reduce = a.one_of((*sums, ops.max, ops.min, ops.logsumexp, ops.argmax) if known else sums)
    result = reduce(t, axis=axes, keepdims=bool(a.below(2)))
    is_exact = reduce in (ops.max, ops.min, ops.argmax)
    return Entry(result if is_exact else dlc.tanh(result * 0.1), is_exact)


def normalisation(a: Author) -> Entry:
    t = a.floating(1).tensor
    choices = (ops.softmax, ops.log_softmax, lambda x, axis: ops.layer_norm(x, axis=axis, eps=0.1))
    return Entry(a.one_of(choices)(t, a.below(t.ndim)), False)


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
    ]
    if long:
        pick = (slice(None),) * long[0]
        choices += [
            lambda: t[(*pick, 1)],
            lambda: t[(*pick, slice(1, 2))],
            lambda: t[(*pick, slice(None, 0, -2))],
            lambda: ops.windows(t, (long[0],), (2,), (1 + a.below(2),), (1 + a.below(2),)),
        ]
    return Entry(a.one_of(choices)(), known)


def padding(a: Author) -> Entry:
    t, known = a.floating(1)
    widths = [(a.below(3), a.below(2)) for _ in t.shape]
    return Entry(ops.pad(t, widths, [a.below(2) for _ in t.shape], value=1), known)


def joining(a: Author) -> Entry:
    t, one = a.pick(lambda e: e.tensor.ndim > 0)
    u, two = a.pick(lambda e: e.tensor.type == t.type)
    return Entry(a.one_of((ops.concat, ops.stack))([t, u, t], axis=a.below(t.ndim)), one and two)


def gathering(a: Author) -> Entry:
    t, known = a.pick(lambda e: any(isinstance(d, int) and d for d in e.tensor.shape))
    axis = next(i for i, d in enumerate(t.shape) if isinstance(d, int) and d)
    indices = a.pick(lambda e: e.tensor.dtype in INTEGER and e.tensor.ndim < 3).tensor
    return Entry(ops.take(t, ops.remainder(indices.astype("int64"), t.shape[axis]), axis=axis), known)


def product(a: Author) -> Entry:
    t = a.floating(1).tensor
    other = a.pick(lambda e: e.tensor.dtype == t.dtype and e.tensor.ndim > 1).tensor
    if other.shape[-2] != t.shape[-1]:
        other = ops.matrix_transpose(other)
    if other.shape[-2] != t.shape[-1]:
        other = a.input(t.dtype, (t.shape[-1], a.one_of((2, "M"))))
    return Entry(dlc.tanh(t @ other * 0.2), False)


def convolution(a: Author) -> Entry:
    try:
        t = a.pick(lambda e: e.tensor.dtype in FLOATING and e.tensor.ndim == 4 and e.tensor.shape[1] in (1, 2)).tensor
    except LookupError:
        t = a.input("float32", (a.one_of(("N", 2)), 2, a.one_of((5, "H")), 6))
    w = a.input(t.dtype, (2, t.shape[1], a.one_of((1, 3)), 2))
    made = ops.conv2d(t, w, stride=(a.one_of((1, 2)), 1), padding=a.one_of((0, 1)), dilation=a.one_of((1, 2)))
    return Entry(dlc.tanh(made * 0.2), False)


def pooling(a: Author) -> Entry:
    t, known = a.pick(lambda e: e.tensor.dtype in FLOATING and e.tensor.ndim == 4)
    if known:
        return Entry(ops.max_pool2d(t, 2, a.one_of((1, 2)), a.below(2)), True)
    return Entry(ops.avg_pool2d(t, 2, a.one_of((1, 2)), a.below(2)), False)


def loop(a: Author) -> Entry:
    xs = a.floating(2).tensor
    backwards = bool(a.below(2))
    last, steps = dlc.scan(
        lambda c, x: (dlc.tanh(c * 0.5 + x), c * x), dlc.zeros(xs.shape[1:], xs.dtype), xs, reverse=backwards
    )
    return Entry(a.one_of((last, steps)), False)


def draw(a: Author) -> Entry:
    return Entry(a.one_of((dlc.uniform, dlc.normal))((a.one_of(("N", 2)), 3), site=a.below(9)), False)


STEPS = (smooth, exact, binary, choice, conversion, reduction, normalisation, view, view, view, padding, joining,
         gathering, product, convolution, pooling, loop, draw)  # fmt: skip


def arrays(graph: Graph, bindings: Mapping[str, int], rng: np.random.Generator) -> list[Array]:
    """Quarters between -2 and 2, small integers, bools."""
    found = []
    for n in graph.inputs:
        shape = tuple(evaluate(d, bindings) for d in n.type.shape)
        quarters = n.dtype in FLOATING
        low = 0 if n.dtype in ("bool", "uint8") else -8 if quarters else -4
        values = rng.integers(low, 2 if n.dtype == "bool" else 9 if quarters else 5, shape)
        found.append(np.asarray(values / 4 if quarters else values).astype(n.dtype))
    return found


def outcome(program: Any, inputs: list[Array]) -> Any:
    """The results, or the type of the error."""
    try:
        return program(*inputs)
    except DlcError as error:
        return type(error)


QUICK = (0, 3, 5, 7, 11, 13, 16, 19, 21, 24, 29, 32)  # the rest is as good, and slow where no kernel is cached


@pytest.mark.parametrize("seed", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in range(36)])
def test_native_code_gives_what_the_reference_gives(seed: int) -> None:
    graph = Author(seed).write(8)
    left_out = (*PIPELINE.names, *[None] * len(PIPELINE))[seed % (2 * len(PIPELINE))]
    reference = dlc.compile(graph, "reference", pipeline=Pipeline(()), check=False)
    native = dlc.compile(graph, pipeline=PIPELINE.without(left_out) if left_out else PIPELINE, check=seed % 3 == 0)
    native._executable.poison = True  # type: ignore[attr-defined]
    rng = np.random.default_rng(seed)
    for bindings in BINDINGS:
        try:
            inputs = arrays(graph, bindings, rng)
        except ValueError:  # an input whose size follows from a named dim would be negative
            continue
        expected, found = outcome(reference, inputs), outcome(native, inputs)
        if isinstance(expected, type) or isinstance(found, type):
            assert found is expected, (bindings, expected, found)
            continue
        for i, (x, y) in enumerate(zip(expected, found, strict=True)):
            assert x.dtype == y.dtype and x.shape == y.shape
            if x.dtype.kind != "f" or not np.allclose(x, y, rtol=1e-4, atol=1e-5, equal_nan=True):
                assert not first_difference(x, y, 3e-4), (i, graph.outputs[i], bindings)
