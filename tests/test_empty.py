"""Dims of 0 that are known only at a call: one compiled program, called with sizes, without, and with them again."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS
from test_catalogue import SAMPLED, Case

import dlc
from dlc.errors import DlcError
from dlc.ir import Graph
from dlc.ops.definition import Kind, Op, Sample
from dlc.ops.interpret import interpret

Array = Any
ELEMENTWISE = ("add", "where", "pow")  # of those that are all alike


class NamedCase(Case):
    """A sample whose dims of some sizes are named."""

    def __init__(self, op: Op, sample: Sample, prefix: str, named: set[int]) -> None:
        self.named = named
        super().__init__(op, sample, None, prefix)

    def _read(self, value: Any) -> Any:
        read = super()._read(value)
        if isinstance(value, (np.ndarray, np.generic)):
            given = self.inputs[-1]
            shape = tuple(self.symbol(d) if d in self.named else d for d in given.shape)
            read = self.inputs[-1] = dlc.input(f"{self._prefix}{len(self.inputs) - 1}", shape, given.dtype)
        return read

    def symbol(self, size: int) -> str:
        return f"{self._prefix}d{size}"

    def at(self, zero: set[int]) -> tuple[list[Array], dict[str, int]]:
        """The arrays with the dims of some sizes cut to nothing, and the bindings that follow."""
        arrays = [a[tuple(slice(0) if d in zero else slice(None) for d in a.shape)] for a in self.arrays]
        return arrays, {self.symbol(d): 0 if d in zero else d for d in self.named}

    def values(self, zero: set[int]) -> list[Array] | None:
        """What the references give; None where a dim would be below 0, or nothing is where something is read."""
        graph = Graph(tuple(t.node for t in self.inputs), tuple(t.node for t in self.outputs))
        arrays, bindings = self.at(zero)
        try:
            with np.errstate(all="ignore"):
                return interpret(graph, arrays, bindings)[0]
        except (DlcError, ValueError, IndexError):
            return None


def named_case(op: Op, sample: Sample, prefix: str) -> NamedCase | None:
    """The sample with as many dims named as the op takes."""
    sizes = sorted({d for a in Case(op, sample).arrays for d in a.shape if d})
    for count in range(len(sizes), 0, -1):
        for named in itertools.combinations(sizes, count):
            try:
                return NamedCase(op, sample, prefix, set(named))
            except DlcError:  # it takes known dims there
                continue
    return None


def all_cases(kinds: tuple[Kind, ...]) -> Iterator[NamedCase]:
    for op in SAMPLED:
        if op.kind in kinds and (op.kind is not Kind.ELEMENTWISE or op.name in ELEMENTWISE):
            few = 1 if op.kind is Kind.CONTRACT else 2  # whose kernels take long to compile
            for i, sample in enumerate(itertools.islice(op.samples(), few)):
                case = named_case(op, sample, f"{op.name}{i}_")
                if case is not None:
                    yield case


def called(program: Any, groups: list[NamedCase], zeros: list[set[int]]) -> None:
    """One call, each case without the dims that `zeros` says, where it has a value then."""
    wanted = [case.values(zero) for case, zero in zip(groups, zeros, strict=True)]
    zeros = [set() if w is None else z for w, z in zip(wanted, zeros, strict=True)]
    given = [case.at(zero)[0] for case, zero in zip(groups, zeros, strict=True)]
    got = iter(program(*itertools.chain(*given)))
    for case, zero, want in zip(groups, zeros, wanted, strict=True):
        for value in case.values(set()) or () if want is None else want:
            found = next(got)
            assert found.shape == value.shape and found.dtype == value.dtype, (case._prefix, zero)
            np.testing.assert_allclose(found, value, rtol=3e-5, atol=3e-5, err_msg=f"{case._prefix} {zero}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "kinds",
    [(Kind.ELEMENTWISE, Kind.VIEW, Kind.INDEX, Kind.CONTRACT), (Kind.REDUCE, Kind.OPAQUE, Kind.LOOP)],
    ids=["maps", "others"],
)
def test_a_program_takes_any_of_its_dims_as_zero(backend: str, kinds: tuple[Kind, ...]) -> None:
    groups = list(all_cases(kinds))
    assert len(groups) > 20
    inputs = tuple(t.node for case in groups for t in case.inputs)
    graph = Graph(inputs, tuple(t.node for case in groups for t in case.outputs))
    program = dlc.compile(graph, backend, check=False)
    full: list[set[int]] = [set() for _ in groups]
    called(program, groups, full)
    called(program, groups, [case.named for case in groups])
    for place in range(max(len(case.named) for case in groups)):
        called(program, groups, [set(sorted(case.named)[place : place + 1]) for case in groups])
    called(program, groups, full)


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_have_nothing_to_share(backend: str) -> None:
    """A step of a classifier of no samples, of many, and of none again; its gradients are 0 where nothing is."""
    x, labels = dlc.input("x", ("N", 24)), dlc.input("labels", ("N",), "uint8")
    w, b = dlc.input("w", (24, 8)), dlc.input("b", (8,))
    loss = dlc.cross_entropy(dlc.relu(x @ w + b), labels, reduction="sum")
    step = dlc.compile(dlc.graph([x, labels, w, b], [loss, *dlc.grad(loss, [x, w, b])]), backend)
    rng, threads = np.random.default_rng(0), dlc.get_threads()
    weights = rng.standard_normal((24, 8), np.float32), rng.standard_normal(8, np.float32)
    many = rng.standard_normal((3000, 24), np.float32), rng.integers(0, 8, 3000).astype(np.uint8)
    dlc.set_threads(2)
    try:
        first = step(*many, *weights)
        value, *slopes = step(many[0][:0], many[1][:0], *weights)
        again = step(*many, *weights)
    finally:
        dlc.set_threads(threads)
    assert value == 0 and [s.shape for s in slopes] == [(0, 24), (24, 8), (8,)]
    assert not any(s.any() for s in slopes)
    for a, c in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("backend", BACKENDS)
def test_loops_of_no_steps_and_of_nothing(backend: str) -> None:
    x, n = dlc.input("x", ("T", "N")), dlc.input("n", (), "int64")
    start = dlc.sum(x, axis=0)
    last, stacked = dlc.scan(lambda c, row: (c * 0.5 + row, c.sum()), start, x)
    chosen = dlc.cond(n > 0, lambda: last * 2.0, lambda: last - 1.0)
    _, raised = dlc.while_loop(lambda i, c: i < n, lambda i, c: (i + 1, c * 2.0), 0, last, max_steps=4)
    slope = dlc.grad(dlc.sum(raised) + dlc.sum(chosen), [x])
    program = dlc.compile(dlc.graph([x, n], [last, stacked, chosen, raised, *slope]), backend)
    for steps, size, count in ((3, 2, 2), (0, 2, 0), (3, 0, 2), (0, 0, 0), (3, 2, 2)):
        a = np.arange(steps * size, dtype=np.float32).reshape(steps, size)
        carry, seen = a.sum(0), []
        for row in a:
            seen.append(carry.sum())
            carry = carry * np.float32(0.5) + row
        wanted = [carry, np.array(seen, np.float32), carry * 2 if count > 0 else carry - 1, carry * 2.0**count]
        values = program(a, np.int64(count))
        assert values[4].shape == (steps, size)
        for got, want in zip(values, wanted, strict=False):
            np.testing.assert_allclose(got, want, rtol=1e-6)


def test_functions_and_their_gradients_of_no_samples() -> None:
    """What fusion makes of them too: the same as the references, with samples and without."""
    x, s, images = dlc.input("x", ("N", 6)), dlc.input("s", ("T", "N", 6)), dlc.input("images", ("N", 2, 6, 5))
    functions = [
        dlc.softmax(x, 0),
        dlc.logsumexp(x, 1),
        dlc.attention(x, x, x, causal=True),
        dlc.scan(lambda c, row: (dlc.tanh(c) + row, c), x, s)[0],
        dlc.vmap(lambda row: dlc.sort(row) * row.sum())(x),
        dlc.max_pool(dlc.conv2d(images, dlc.ones((3, 2, 2, 2)), padding=1), 2),
        dlc.index_add(dlc.zeros((6, 6)), dlc.argmax(x, 1), x),
    ]
    loss = functions[0].sum()
    for y in functions:
        loss = loss + (y * y).sum()
    graph = dlc.graph([x, s, images], [*functions, *dlc.grad(loss, [x, s, images])])
    native, reference = (dlc.compile(graph, backend) for backend in ("cpu", "reference"))
    arrays = [(np.arange(n) % 7 - 2).astype(np.float32) for n in (18, 72, 180)]
    rows, steps, pictures = (a.reshape(d) for a, d in zip(arrays, ((3, 6), (4, 3, 6), (3, 2, 6, 5)), strict=True))
    for n, t in ((3, 4), (0, 4), (3, 0), (0, 0), (1, 1), (3, 4)):
        given = rows[:n], steps[:t, :n], pictures[:n]
        for got, want in zip(native(*given), reference(*given), strict=True):
            assert np.isfinite(want).all()
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
