"""Every dtype: promotion, conversions of every pattern of bits, and float16 and bfloat16 as dtypes of storage."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc import nn, passes
from dlc.conversions import cast
from dlc.dlpack import BFLOAT, Handed, tensor_of
from dlc.dtypes import ALL, BOOL, FLOATING, HALF, INTEGER, can_cast_without_loss, numpy_dtype, promote
from dlc.errors import DTypeError, FileFormatError, UnsupportedError
from dlc.frontend.checkpoint import read_arrays, write_arrays

Array = np.ndarray[Any, Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning")  # NaN and overflow are the subject


def every(half: str) -> Array:
    """All 65,536 numbers of a half."""
    return np.arange(2**16, dtype=np.uint16).view(numpy_dtype(half))


def assert_same_bits(found: Array, wanted: Array) -> None:
    """Equal in dtype and bits, but for the payload of NaN."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    unsigned = np.dtype(f"u{found.dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        nan = (found != found) & (wanted != wanted)
    same = (found.view(unsigned) == wanted.view(unsigned)) | nan
    assert same.all(), (found[~same][:5], wanted[~same][:5])


def nearest(numbers: Array, half: str) -> Array:
    """Rounding to the nearest half, ties to even, by a search among all of them."""
    halves = every(half)
    finite = halves[: np.flatnonzero(np.isinf(halves.astype("f")))[0]]  # from 0 up; bits count upwards as values do
    values = np.append(finite.astype(np.float64), 2 * float(finite[-1]) - float(finite[-2]))  # then infinity
    size = np.abs(numbers.astype(np.float64))
    above = np.minimum(np.searchsorted(values, size), len(values) - 1)
    below = np.maximum(above - 1, 0)
    up, down = values[above] - size, size - values[below]
    bits = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    bits = np.where(size >= values[-1], len(finite), bits) | np.where(np.signbit(numbers), 0x8000, 0)
    result = bits.astype(np.uint16).view(numpy_dtype(half))
    result[np.isnan(numbers)] = np.nan
    return result


def borders(half: str) -> Array:
    """float64 numbers where rounding changes: all halves, the ties between them, and what lies next to those."""
    halves = np.unique(every(half).astype(np.float64))
    halves = halves[np.isfinite(halves)]
    ties = (halves[1:] + halves[:-1]) / 2
    last = halves[-1] + (halves[-1] - halves[-2]) / 2
    ends = np.array([last, -last, np.nextafter(last, 0), 1e300, -1e300, 5e-324, -1e-300, 0.0, -0.0, np.inf, -np.inf])
    return np.concatenate([halves, ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf), ends, [np.nan]])


def integers(dtype: str) -> Array:
    """Random integers, the extremes, and such as two roundings would go wrong for."""
    info = np.iinfo(dtype)
    drawn = np.random.default_rng(0).integers(info.min, info.max, 2000, dtype=dtype, endpoint=True)
    hard = [0, 1, 65519, 65520, 2**24 + 2**16 + 1, -(2**24) - 2**16 - 1, 2**40 + 2**32 + 1]
    hard += [2**62 + 2**54 + 1, 2**62 - 1]
    return np.concatenate([drawn, np.array([h for h in hard if info.min <= h <= info.max], dtype)])


def conversions(backend: str, half: str) -> None:
    """Every half to every dtype, and to the half from every dtype, by one program."""
    others = {d: np.array([False, True]) if d in BOOL else integers(d) for d in (*BOOL, *INTEGER)}
    with np.errstate(over="ignore"):
        single = borders(half).astype(np.float32)
        beside = [np.nextafter(single, np.float32(limit)) for limit in (np.inf, -np.inf)]
        single = np.concatenate([single, *beside])
    others |= {"float32": single, "float64": borders(half)} | {h: every(h) for h in HALF if h != half}
    x = dlc.input("x", ("N",), half)
    inputs = {d: dlc.input(d, (f"N_{d}",), d) for d in others}
    out = [x.astype(d) for d in ALL]
    program = dlc.compile(dlc.graph([x, *inputs.values()], out + [i.astype(half) for i in inputs.values()]), backend)
    found = program(every(half), *others.values())
    wide = every(half).astype(np.float64)
    for dtype, got in zip(ALL, found, strict=False):
        if dtype in FLOATING:
            with np.errstate(over="ignore"):
                assert_same_bits(got, every(half).astype("f").astype(numpy_dtype(dtype)))
        elif dtype in BOOL:
            np.testing.assert_array_equal(got, wide != 0)
        else:
            info = np.iinfo(dtype)
            inside = (np.trunc(wide) >= info.min) & (np.trunc(wide) < float(int(info.max) + 1))
            np.testing.assert_array_equal(got[inside], wide[inside].astype(dtype))
            if dtype in ("int32", "int64", "uint64"):
                np.testing.assert_array_equal(got[wide >= float(int(info.max) + 1)], info.max)
                np.testing.assert_array_equal(got[wide < info.min], info.min)
            assert not got[np.isnan(wide)].any()
    for (dtype, given), got in zip(others.items(), found[len(ALL) :], strict=True):
        if dtype in ("int64", "uint64"):  # their nearest half by way of exact arithmetic
            wanted = nearest(np.array([float(to_odd(int(v))) for v in given]), half)
        else:
            wanted = nearest(given.astype(np.float64), half)
        assert_same_bits(got, wanted)


def to_odd(number: int) -> int:
    """An integer of at most 40 bits and zeros, the last of which says whether there was more."""
    shift = max(number.bit_length() - 40, 0)
    return (number >> shift | (number & (1 << shift) - 1 != 0)) << shift


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_half_converts_both_ways(backend: str, half: str) -> None:
    conversions(backend, half)


def test_halves_convert_without_instructions_for_them() -> None:
    """The bit arithmetic that a CPU without F16C runs."""
    text = "import test_dtypes\nfor half in test_dtypes.HALF: test_dtypes.conversions('cpu', half)"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    settings = os.environ | {"DLC_CPU": "portable", "PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", text], env=settings, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize("half", HALF)
def test_the_libraries_round_float32_the_same(half: str) -> None:
    with np.errstate(over="ignore"):
        single = borders(half).astype(np.float32)
        assert_same_bits(nearest(single, half), single.astype(numpy_dtype(half)))
        assert_same_bits(cast(single, half), single.astype(numpy_dtype(half)))


# ---------------------------------------------------------------- promotion and literals


def test_promotion_is_that_of_the_array_api() -> None:
    halves_apart = {("float16", "bfloat16"): "float32"}
    for a in ALL:
        for b in ALL:
            numbers = a in INTEGER and b in INTEGER and np.result_type(a, b).kind in "iu"
            if a == b or (a in FLOATING and b in FLOATING):
                standard = {frozenset(("bfloat16", f)): f for f in ("float32", "float64")}
                known = halves_apart.get((a, b)) or halves_apart.get((b, a)) or standard.get(frozenset((a, b)))
                assert promote(a, b) == (known or np.result_type(numpy_dtype(a), numpy_dtype(b)).name)
            elif numbers:
                assert promote(a, b) == np.result_type(a, b).name
            else:
                with pytest.raises(DTypeError, match="astype"):
                    promote(a, b)


def test_casts_without_loss_are_those_that_come_back() -> None:
    for half in HALF:
        for dtype in FLOATING:
            back = every(half).astype("f").astype(numpy_dtype(dtype)).astype("f")
            with np.errstate(invalid="ignore"):
                same = np.array_equal(back, every(half).astype("f"), equal_nan=True)
            assert can_cast_without_loss(half, dtype) == same
    assert can_cast_without_loss("uint8", "bfloat16") and not can_cast_without_loss("int16", "bfloat16")


@pytest.mark.parametrize("half", HALF)
def test_python_numbers_are_weak_beside_halves(half: str) -> None:
    x = dlc.input("x", (2,), half)
    for y in (x + 0.1, 2 * x, x**2, -x, x / 3, dlc.where(x > 0.5, x, 0.0)):
        assert y.dtype == half
    assert (x + dlc.constant(1.0)).dtype == "float32"
    tenth = dlc.evaluate(dlc.constant(0.1, half))
    assert_same_bits(tenth.reshape(1), nearest(np.array([0.1]), half))
    assert dlc.evaluate(dlc.constant(np.ones(2, numpy_dtype(half)))).dtype == numpy_dtype(half)


def test_a_program_refuses_what_a_half_would_lose() -> None:
    x = dlc.input("x", (2,), "bfloat16")
    program = dlc.compile(dlc.graph([x], [x]), "reference")
    assert program([1, 0.5])[0].tolist() == [1, 0.5]
    assert program(np.array([1, -127], np.int8))[0].tolist() == [1, -127]
    for given in (np.ones(2, np.float16), np.ones(2, np.float32), np.ones(2, np.int16)):
        with pytest.raises(DTypeError, match="would lose values"):
            program(given)
    with pytest.raises(DTypeError, match="cannot hold"):
        dlc.compile(dlc.graph([h := dlc.input("h", (), "float16")], [h]), "reference")(1e6)


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn", "int4", "float128", "datetime64[s]", "S4"])
def test_other_dtypes_are_refused_by_name(dtype: str) -> None:
    with pytest.raises(DTypeError, match="dlc does not compute with the dtype"):
        dlc.input("x", (2,), dtype)
    given = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
    with pytest.raises(DTypeError, match="dlc does not compute with the dtype"):
        dlc.constant(np.zeros(2, given))
    x = dlc.input("x", (2,))
    with pytest.raises(DTypeError):
        dlc.compile(dlc.graph([x], [x]), "reference")(np.zeros(2, given))


# ---------------------------------------------------------------- computing


@pytest.mark.parametrize("half", HALF)
def test_every_op_rounds_once_fused_or_not(half: str) -> None:
    """Results are the halves nearest to what float32 gives, op by op, so fusion cannot show."""
    rng = np.random.default_rng(0)
    x, w = dlc.input("x", ("N", 40), half), dlc.input("w", (40, 24), half)
    y = dlc.relu(x @ w + x[:, :24] * 0.1) * 3.0
    loss = dlc.mean(dlc.square(dlc.softmax(y)))
    graph = dlc.graph([x, w], [y, y.sum(axis=0), loss, *dlc.grad(loss, [x, w])])
    given = [rng.standard_normal(s).astype(numpy_dtype(half)) for s in ((9, 40), (40, 24))]
    fused = dlc.compile(graph, "cpu")(*given)
    plain = dlc.compile(graph, "cpu", pipeline=passes.PIPELINE.without("fuse"))(*given)
    bare = passes.PIPELINE.without("fuse").without("simplify").without("constant_folding")
    unfolded = dlc.compile(graph, "cpu", pipeline=bare)(*given)
    for a, b, c in zip(fused, plain, unfolded, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
    a, b = (g.astype(np.float32) for g in given)
    rounded = lambda v: cast(np.asarray(v, np.float32), half).astype(np.float32)  # noqa: E731
    tenth = rounded(0.1)
    want = rounded(np.maximum(rounded(rounded(a @ b) + rounded(a[:, :24] * tenth)), 0) * 3)
    gap = float(ml_dtypes.finfo(numpy_dtype(half)).eps)
    np.testing.assert_allclose(fused[0].astype("f"), want, rtol=2 * gap, atol=4 * gap)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_and_means_of_float16_are_made_in_float32(backend: str) -> None:
    x = dlc.input("x", ("N",), "float16")
    outputs = [x.sum(), x.mean(), dlc.var(x), dlc.sum(x * 1e-4), dlc.mean(x, keepdims=True)]
    program = dlc.compile(dlc.graph([x], outputs), backend)
    total, mean, variance, small, _ = program(np.full(70000, 3.0, np.float16))
    assert np.isinf(total) and mean == 3.0 and variance == 0.0
    np.testing.assert_allclose(float(small), 21.0, rtol=2e-3)


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("backend", BACKENDS)
def test_loops_gathers_and_state_of_halves(backend: str, half: str) -> None:
    """A scan that carries one, elements moved bit by bit, and a state that keeps its dtype."""
    t, table, places = dlc.input("t", (6,), half), dlc.input("table", (5, 4), half), dlc.input("i", (3,), "int64")
    carry, sums = dlc.scan(lambda c, v: (c + v, c * v), dlc.constant(0.0, half), t)
    rows = dlc.take(table, places)
    gradient = dlc.grad(dlc.sum(rows * rows), [table])[0]
    moved = dlc.concat([dlc.pad(table, [(1, 0), (0, 0)], value=0.1), table[::-1]])
    p = dlc.parameter([1.0, 2.0], "p", dtype=half)
    state = p.as_tensor()
    graph = dlc.graph([t, table, places], [carry, sums, rows, gradient, moved], updates=[(p, state * 0.1)])
    values = np.arange(20).reshape(5, 4).astype(numpy_dtype(half)) * numpy_dtype(half).type(0.1)
    steps = np.arange(1, 7).astype(numpy_dtype(half))
    found = dlc.compile(graph, backend)(steps, values, np.array([4, 0, 4]))
    assert all(f.dtype == numpy_dtype(half) for f in found)
    assert found[0] == 21 and found[1].astype("f").tolist() == [0, 2, 9, 24, 50, 90]
    assert found[2].tobytes() == values[[4, 0, 4]].tobytes()
    np.testing.assert_allclose(found[3].astype("f")[4], 4 * values[4].astype("f"), rtol=1e-2)
    assert found[4][1:6].tobytes() == values.tobytes() and found[4][6:].tobytes() == values[::-1].tobytes()
    assert float(found[4][0, 0]) == float(nearest(np.array([0.1]), half)[0])
    assert p.value.dtype == numpy_dtype(half)
    np.testing.assert_allclose(p.value.astype("f"), [0.1, 0.2], rtol=1e-2)


def test_random_halves_are_the_float32_ones_rounded() -> None:
    for draw in (dlc.uniform, dlc.normal):
        single = dlc.evaluate(draw((50,), site=3))
        for half in HALF:
            assert_same_bits(dlc.evaluate(draw((50,), dtype=half, site=3)), cast(single, half))


def test_the_cpu_backend_needs_the_pass_that_widens_halves() -> None:
    x = dlc.input("x", (3,), "float16")
    for pipeline in (passes.PIPELINE.without("halves"), passes.PIPELINE.without("halves").without("fuse")):
        with pytest.raises(UnsupportedError, match="'halves'"):
            dlc.compile(dlc.graph([x], [dlc.exp(x) + 1]), "cpu", pipeline=pipeline)
    moves = dlc.graph([x], [dlc.concat([x, x])[::-1]])
    assert len(dlc.compile(moves, "cpu", pipeline=passes.PIPELINE.without("halves"))(np.ones(3, np.float16))[0]) == 6


# ---------------------------------------------------------------- exchange


def test_files_of_arrays_hold_every_dtype(tmp_path: Path) -> None:
    arrays = {d: np.arange(6).reshape(2, 3).astype(numpy_dtype(d)) for d in ALL}
    write_arrays(tmp_path / "a.safetensors", arrays)
    found, _ = read_arrays(tmp_path / "a.safetensors")
    assert list(found) == sorted(ALL)
    for dtype in ALL:
        assert found[dtype].dtype == numpy_dtype(dtype) and found[dtype].tobytes() == arrays[dtype].tobytes()
    data = (tmp_path / "a.safetensors").read_bytes().replace(b'"BF16"', b'"I16" ')
    (tmp_path / "i.safetensors").write_bytes(data)
    assert read_arrays(tmp_path / "i.safetensors")[0]["bfloat16"].dtype == np.int16
    write_arrays(tmp_path / "c.safetensors", {"x": np.zeros(2, np.complex64)})
    with pytest.raises(FileFormatError, match="no dtype C64; it reads BOOL, BF16"):
        read_arrays(tmp_path / "c.safetensors")


def test_weights_of_bfloat16_are_drawn_where_nobody_has_told_numpy_of_it() -> None:
    program = "from dlc import nn; assert nn.Linear(3, 2, dtype='bfloat16').weight.value.dtype.name == 'bfloat16'"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("half", HALF)
def test_weights_and_onnx_models_of_halves_come_back(half: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = nn.Sequential(nn.Linear(3, 4, dtype=half), nn.Tanh(), nn.LayerNorm(4, dtype=half))
    dlc.save(model, tmp_path / "m.safetensors")
    copy = nn.Sequential(nn.Linear(3, 4, dtype=half), nn.Tanh(), nn.LayerNorm(4, dtype=half))
    dlc.load(copy, tmp_path / "m.safetensors")
    assert copy.state_dict()["0.weight"].tobytes() == model.state_dict()["0.weight"].tobytes()
    graph = dlc.trace(model, dlc.input("x", ("N", 3), half))
    dlc.onnx.save(graph, tmp_path / "m.onnx")
    x = np.array([[0.1, -2, 3], [4, 5, -0.6]], numpy_dtype(half))
    (wanted,) = dlc.compile(graph, "reference")(x)
    (again,) = dlc.compile(dlc.onnx.load(tmp_path / "m.onnx"), "reference")(x)
    assert wanted.dtype == again.dtype == numpy_dtype(half)
    np.testing.assert_array_equal(again, wanted)
    if half == "float16":  # ONNX Runtime's Python interface has no bfloat16
        (theirs,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})
        np.testing.assert_allclose(theirs.astype("f"), wanted.astype("f"), rtol=2e-3, atol=2e-3)


def test_bfloat16_comes_in_by_dlpack_on_the_memory_it_has() -> None:
    bits = np.array([1.5, -2.0, 0.1], numpy_dtype("bfloat16")).view(np.uint16)

    class Elsewhere(Handed):
        def __init__(self) -> None:
            pass

        def __dlpack__(self, **_: Any) -> Any:
            capsule = bits.__dlpack__()
            tensor_of(capsule).code = BFLOAT
            return capsule

    x = dlc.input("x", ("N",), "bfloat16")
    program = dlc.compile(dlc.graph([x], [x * 2]), "reference")
    assert program(Elsewhere())[0].tolist() == [3.0, -4.0, 0.2001953125]
    from dlc.arguments import read_foreign

    assert np.shares_memory(read_foreign(Elsewhere(), "x"), bits)
