"""Every op of the catalogue at the edges of what it takes: layouts of memory, dims of 0, no dims, special values."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS
from test_catalogue import SAMPLED, Case, cases, evaluated, named

import dlc
from dlc import compiler
from dlc.dtypes import ALL, numpy_dtype
from dlc.errors import AttributeValueError, DlcError, DTypeError, IndexOutOfRangeError, ShapeError
from dlc.ir import Graph
from dlc.ops.definition import Kind, Op, Sample

Array = Any
NATIVE = [b for b in BACKENDS if b != "reference"]


def program_of(groups: list[Case], backend: str) -> compiler.Program:
    inputs = tuple(t.node for case in groups for t in case.inputs)
    return dlc.compile(Graph(inputs, tuple(t.node for case in groups for t in case.outputs)), backend, check=False)


def agree(got: Array, want: Array, signs: bool = False) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    tolerance = {4: 3e-5, 8: 1e-12}[got.dtype.itemsize]
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
    if signs:
        zeros = (got == 0) & (want == 0)
        np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(want[zeros]))


# ---------------------------------------------------------------- memory


def strided(a: Array) -> Array:
    wide = np.zeros([2 * d + 1 for d in a.shape], a.dtype)
    view = wide[(..., *(slice(None, 2 * d, 2) for d in a.shape))]
    view[...] = a
    return view


def misaligned(a: Array) -> Array:
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:]
    view = raw[: a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a: Array) -> Array:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "columns": lambda a: np.array(a, order="F"),
    "strided": strided,
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "misaligned": misaligned,
    "read-only": read_only,
    "foreign bytes": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", **named(SAMPLED))
def test_arguments_of_any_layout_give_the_same_values(op: Op, backend: str) -> None:
    groups = cases(op, "float32")
    program = program_of(groups, backend)
    arrays = [a for case in groups for a in case.arrays]
    want = program(*arrays)
    for name, layout in LAYOUTS.items():
        given = [layout(np.asarray(a)) for a in arrays]
        before = [a.copy() for a in given]
        for got, value in zip(program(*given), want, strict=True):
            if backend == "reference":  # NumPy's own functions round otherwise on other layouts
                agree(got, value)
            else:
                np.testing.assert_array_equal(got, value, err_msg=name)
        for a, b in zip(given, before, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{name}: the argument was changed")


REPEATED: dict[str, Callable[[Array], Array]] = {
    "one row": lambda a: np.broadcast_to(a[:1], a.shape),
    "one column, backwards": lambda a: np.broadcast_to(a[::-1, 1:2], a.shape),
    "one element": lambda a: np.broadcast_to(a[2, 3], a.shape),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_arguments_of_every_dtype_and_layout(backend: str) -> None:
    arrays = [np.arange(-7, 13).reshape(4, 5).astype(numpy_dtype(dtype)) for dtype in ALL]
    inputs = [dlc.input(f"x{i}", a.shape, a.dtype.name) for i, a in enumerate(arrays)]
    program = dlc.compile(dlc.graph(inputs, [x[::-1, 1:] for x in inputs]), backend)
    for name, layout in (LAYOUTS | REPEATED).items():
        given = [a if name == "foreign bytes" and a.dtype.kind == "V" else layout(a) for a in arrays]
        for got, a in zip(program(*given), given, strict=True):
            assert got.dtype == a.dtype.newbyteorder("=")
            np.testing.assert_array_equal(got, a[::-1, 1:], err_msg=f"{name} of {a.dtype}")


# ---------------------------------------------------------------- special values, where they are not elementwise

COPYING = ("reshape", "permute_dims", "broadcast_to", "slice", "windows", "stop_gradient", "after", "pad", "concat",
           "take", "take_along_axis", "put")  # fmt: skip
SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -2.0, 0.5], np.float32)


def with_specials(a: Array, rng: np.random.Generator, values: Array) -> Array:
    """A few of the elements replaced."""
    if a.dtype.kind != "f" or not a.size:
        return a
    changed = a.copy()
    places = rng.integers(0, a.size, max(1, a.size // 5))
    changed.flat[places] = rng.choice(values, len(places))
    return changed


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("op", **named([op for op in SAMPLED if op.kind is not Kind.ELEMENTWISE]))
def test_special_values_within_arrays(op: Op, backend: str) -> None:
    groups = cases(op, "float32")
    if not any(case.floating for case in groups):
        return
    program, rng = program_of(groups, backend), np.random.default_rng(0)
    for values in (SPECIAL[:1], SPECIAL[1:2], SPECIAL[1:3], SPECIAL[3:5], SPECIAL):
        given = [[with_specials(a, rng, values) for a in case.arrays] for case in groups]
        got = iter(program(*itertools.chain(*given)))
        for case, arrays in zip(groups, given, strict=True):
            for want in evaluated(case.inputs, case.outputs, arrays):
                agree(next(got), want, signs=op.name in COPYING)


# ---------------------------------------------------------------- dims of 0, and none


def changed(op: Op, change: Callable[[Array], Array]) -> Iterator[Case]:
    """The samples with other arrays, where the op takes them."""
    for i, sample in enumerate(op.samples()):
        args = tuple(
            type(a)(map(change, a))
            if isinstance(a, (list, tuple)) and a and isinstance(a[0], np.ndarray)
            else change(np.asarray(a))
            if isinstance(a, (np.ndarray, np.generic))
            else a
            for a in sample.args
        )
        try:
            yield Case(op, Sample(args, sample.kwargs), prefix=f"s{i}_")
        except (ShapeError, AttributeValueError, DTypeError):  # it does not take them, and says so
            continue


def without_size(size: int) -> Callable[[Array], Array]:
    return lambda a: a[tuple(slice(0) if d == size else slice(None) for d in a.shape)]


@pytest.mark.parametrize("op", **named(SAMPLED))
def test_dims_of_zero_and_none_in_the_reference(op: Op) -> None:
    """Whatever an op takes has a value, of the type it says; and so have its gradients."""
    kinds: list[Callable[[Array], Array]] = [without_size(n) for n in range(1, 8)]
    kinds += [lambda a: a[..., 0] if a.ndim and a.size else a]
    kinds += [lambda a: a.reshape(-1)[0] if a.size else np.zeros((), a.dtype)]
    for change in kinds:
        for case in changed(op, change):
            try:
                evaluated(case.inputs, case.outputs, case.arrays)
            except IndexOutOfRangeError:  # nothing can be read from an empty axis
                assert op.can_fail
                continue
            floats = [t for t in case.outputs if t.dtype.startswith("float")]
            wrt = [case.inputs[i] for i in case.floating]
            if op.vjp is not None and floats and wrt:
                total = sum((t.sum() for t in floats[1:]), start=floats[0].sum())
                slopes = evaluated(case.inputs, dlc.grad(total, wrt), case.arrays)
                assert [s.shape for s in slopes] == [case.arrays[i].shape for i in case.floating]


# ---------------------------------------------------------------- indices

def along(indices: Any) -> Any:
    return dlc.broadcast_to(indices[:, None], (2, 3))


def slope(reader: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The gradient of what a reader reads; its value is not computed where only the gradient is asked for."""
    return lambda x, i: dlc.grad(reader(x, i).sum() * 2.0, [x])[0]


REDUCTIONS = ("set", "add", "mul", "min", "max")
READERS: dict[str, Callable[[Any, Any], Any]] = {  # of x[4, 3] at two indices
    "take": lambda x, i: dlc.take(x, i),
    "take_adjoint": lambda x, i: dlc.ops.take_adjoint(x[:2], i, 0, 4),
    "take_along_axis": lambda x, i: dlc.take_along_axis(x, along(i), 0),
    "put": lambda x, i: dlc.ops.put(x, i, x[:2]),
    **{f"put_along_axis {r}": lambda x, i, r=r: dlc.put_along_axis(x, along(i), 2.0, 0, r) for r in REDUCTIONS},
    **{f"scatter_nd {r}": lambda x, i, r=r: dlc.scatter_nd(x, i[:, None], 2.0, r) for r in REDUCTIONS},
    "gather_nd": lambda x, i: dlc.gather_nd(x, dlc.stack([i, dlc.zeros_like(i)], -1)),
    "gather_nd, second": lambda x, i: dlc.gather_nd(dlc.matrix_transpose(x), dlc.stack([dlc.zeros_like(i), i], -1)),
    "index_add": lambda x, i: dlc.index_add(x, i, 1.0),
    "index_put": lambda x, i: dlc.index_put(x, i, 1.0),
    "second axis": lambda x, i: dlc.take(dlc.matrix_transpose(x), i, 1),
    "embedding": lambda x, i: dlc.nn.functional.embedding(i, x),
    "cross_entropy": lambda x, i: dlc.cross_entropy(dlc.matrix_transpose(x)[:2], i),
    "cross_entropy, weighted": lambda x, i: dlc.cross_entropy(dlc.matrix_transpose(x)[:2], i, weight=x[:, 0]),
    "nll_loss": lambda x, i: dlc.nll_loss(dlc.matrix_transpose(x)[:2], i, ignore_index=0),
    "max_unpool": lambda x, i: dlc.max_unpool(x[:1, None, :2], i[None, None], 2),
    "vmap": lambda x, i: dlc.vmap(lambda column, j: dlc.take(column, j), in_axes=(1, None))(x, i),
    "vmap of adding": lambda x, i: dlc.vmap(lambda j: dlc.index_add(x, j[None], 1.0))(i),
    "scan": lambda x, i: dlc.scan(lambda c, j: (c + 1.0, dlc.take(x, j) * c), dlc.constant(1.0), i)[1],
    "scan that adds": lambda x, i: dlc.scan(lambda c, j: (dlc.index_add(c, j[None], 1.0), c.sum()), x, i)[0],
    "cond": lambda x, i: dlc.cond(x[0, 0] < 9.0, lambda: dlc.take(x, i) * 2.0, lambda: x[:2]),
    "while_loop": lambda x, i: dlc.while_loop(
        lambda n, s: n < 2, lambda n, s: (n + 1, s + dlc.take(x, dlc.take(i, n))), 0, x[0]
    )[1],
}
READERS |= {f"gradient of {n}": slope(READERS[n]) for n in ("take", "put_along_axis mul", "scan", "cond", "max_unpool")}
COUNTED = ("int8", "int64", "uint64")  # dtypes of indices, in turn


def beyond(dtype: str) -> list[int]:
    """Indices that 4 elements do not have: the next, the last, and those whose products wrap to places that exist."""
    info = np.iinfo(dtype)
    some = {-1, 4, int(info.min), int(info.max), 2**62, 2**64 // 3 + 1, -(2**62), 2**63 + 1}
    return sorted(i for i in some if info.min <= i <= info.max and not 0 <= i < 4)


@pytest.mark.parametrize(("backend", "turn"), [(backend, turn) for turn, backend in enumerate(BACKENDS)])
def test_an_index_of_any_size_is_an_error_and_never_a_stray_read(turn: int, backend: str) -> None:
    """All readers are one program, each with an index of its own, of which one is wrong."""
    x = np.arange(12.0, dtype="f").reshape(4, 3)
    table = dlc.input("x", (4, 3))
    dtypes = [COUNTED[(k + turn) % len(COUNTED)] for k in range(len(READERS))]
    indices = [dlc.input(f"i{k}", (2,), d) for k, d in enumerate(dtypes)]
    outputs = [reader(table, i) for reader, i in zip(READERS.values(), indices, strict=True)]
    program = dlc.compile(dlc.graph([table, *indices], outputs), backend)
    good = [np.array([3, 0], d) for d in dtypes]
    want = program(x, *good)
    for k, name in enumerate(READERS):
        for place, bad in itertools.product((0, 1) if backend in NATIVE else (1,), beyond(dtypes[k])):
            given = list(good)
            given[k] = np.array([1, 1], dtypes[k])
            given[k][place] = bad
            try:
                program(x, *given)
            except IndexOutOfRangeError:
                continue
            raise AssertionError(f"{name} took {bad} of {dtypes[k]} for an index")
    for got, value in zip(program(x, *good), want, strict=True):  # and the program works on
        np.testing.assert_array_equal(got, value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_can_be_read_from_an_axis_that_is_empty_at_the_call(backend: str) -> None:
    x, i = dlc.input("x", ("N", 3)), dlc.input("i", ("M",), "int64")
    outputs = [dlc.take(x, i), dlc.ops.put(x, i, dlc.take(x, i)), dlc.index_add(x, i, 1.0)]
    program = dlc.compile(dlc.graph([x, i], outputs), backend)
    with pytest.raises(DlcError):
        program(np.zeros((0, 3), "f"), np.zeros(1, np.int64))
    assert [v.shape for v in program(np.zeros((0, 3), "f"), np.zeros(0, np.int64))] == [(0, 3)] * 3
