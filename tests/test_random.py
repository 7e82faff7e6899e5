"""Random draws: the generator's published vectors, distributions, and which draws are equal."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc import nn, ops
from dlc.errors import AttributeValueError, DTypeError
from dlc.ops.philox import philox4x32, random_word
from dlc.ops.random import counted_draws, site_named

# Philox4x32-10 from kat_vectors of Random123 (D. E. Shaw Research): counter, key, result
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[np.uint64]:
    return [np.uint64(int(w, 16)) for w in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_philox_gives_the_published_vectors(counter: str, key: str, result: str) -> None:
    assert list(philox4x32(*words(counter), *words(key))) == words(result)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_counter_layout_on_every_backend(counter: str, key: str, result: str, backend: str) -> None:
    """index = words 0 and 1, step = word 2, site = word 3, seed = key: so one element shows a published vector."""
    c, k = words(counter), words(key)
    if c[1] == 0:
        seed, step = dlc.input("seed", (), "uint64"), dlc.input("step", (), "int64")
        bits = [ops.random_bits(seed, step, int(c[3]), (2, 3), word=w) for w in range(4)]
        program = dlc.compile(dlc.graph([seed, step], bits), backend)
        drawn = program(np.uint64(int(k[0]) | int(k[1]) << 32), np.int64(int(c[2])))
        assert [int(d[0, 0]) for d in drawn] == [int(w) for w in words(result)]
    index = int(c[0]) | int(c[1]) << 32
    seed_value = int(k[0]) | int(k[1]) << 32
    assert [int(random_word(seed_value, int(c[2]), int(c[3]), index, w)) for w in range(4)] == words(result)


def test_numba_compiles_the_generator_as_it_stands() -> None:
    numba = pytest.importorskip("numba")
    compiled = numba.njit(philox4x32)
    for counter, key, result in VECTORS:
        assert list(compiled(*words(counter), *words(key))) == words(result)


@pytest.mark.parametrize("backend", BACKENDS)
def test_distributions(backend: str) -> None:
    n = 40_000
    drawn = [dlc.uniform((n,), -1.0, 3.0), dlc.normal((n,), 2.0, 0.5), dlc.bernoulli(0.3, (n,)),
             dlc.uniform((n,), dtype="float64"), dlc.normal((n,), dtype="float64")]  # fmt: skip
    u, z, b, u64, z64 = dlc.compile(dlc.graph([], drawn), backend)()
    assert u.min() >= -1 and u.max() <= 3 and abs(u.mean() - 1) < 0.03 and abs(u.var() - 16 / 12) < 0.03
    assert abs(z.mean() - 2) < 0.02 and abs(z.std() - 0.5) < 0.01
    assert abs(b.mean() - 0.3) < 0.01
    assert u64.min() >= 0 and u64.max() < 1 and len(np.unique(u64)) == n
    standard = np.sort(z64)
    assert abs((standard < 1.0).mean() - 0.8413) < 0.01 and abs(standard.mean()) < 0.02
    counts, _ = np.histogram(u64, 20, (0, 1))
    assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 45.0  # chi-squared, 19 degrees of freedom: p < 0.001 above 43.8


def test_backends_draw_the_same_bits() -> None:
    graph = dlc.graph([], [dlc.uniform((7, 5), site=3), dlc.bernoulli(0.5, (33,), site="mask")])
    for reference, native in zip(*(dlc.compile(graph, b, seed=11)() for b in BACKENDS), strict=True):
        np.testing.assert_array_equal(reference, native)


def test_every_step_seed_and_site_draws_anew() -> None:
    program = dlc.compile(dlc.graph([], [dlc.uniform((8,), site=1), dlc.uniform((8,), site=2)]), "reference", seed=5)
    (a, b), (c, _) = program(), program()
    (again, _) = dlc.compile(
        dlc.graph([], [dlc.uniform((8,), site=1), dlc.uniform((8,), site=2)]), "reference", seed=5
    )()
    (other, _) = dlc.compile(
        dlc.graph([], [dlc.uniform((8,), site=1), dlc.uniform((8,), site=2)]), "reference", seed=6
    )()
    np.testing.assert_array_equal(a, again)
    assert all(not np.array_equal(a, x) for x in (b, c, other))


def test_elements_do_not_depend_on_the_size_of_the_draw() -> None:
    """The counter is the row-major index, so a longer draw starts like a shorter one."""
    short, long = dlc.evaluate(dlc.uniform((4,), site=0), dlc.uniform((3, 5), site=0))
    np.testing.assert_array_equal(short, long.ravel()[:4])


def sites(graph: Any) -> list[int]:
    return [n.attrs["site"] for n in graph.nodes if n.op.name == "random_bits" and n.attrs["word"] == 0]


def model() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))


def test_sites_follow_path_and_ordinal() -> None:
    graph = dlc.trace(model(), dlc.input("x", ("N", 4)))
    assert set(sites(graph)) == {site_named("0#0"), site_named("1#0")}


def test_tracing_again_and_another_instance_give_the_same_sites() -> None:
    x = dlc.input("x", ("N", 4))
    first, second = model(), model()
    assert sites(dlc.trace(first, x)) == sites(dlc.trace(first, x)) == sites(dlc.trace(second, x))
    assert sites(dlc.graph([x], [first(x)])) == sites(dlc.graph([x], [second(x)]))


def test_a_second_call_of_a_module_draws_anew() -> None:
    x, net = dlc.input("x", ("N", 4)), model()
    graph = dlc.graph([x], [net(x), net(x)])
    assert len(set(sites(graph))) == 4


def test_draws_outside_of_scopes_are_all_different_and_scopes_start_anew() -> None:
    def draws() -> list[int]:
        return [dlc.uniform((2,)).node.inputs[0].inputs[0].inputs[0].attrs["site"] for _ in range(3)]

    assert len({*draws(), *draws()}) == 6
    with counted_draws():
        first = draws()
    with counted_draws():
        assert draws() == first


def test_sites_are_equal_in_another_process() -> None:
    code = "from dlc.ops.random import site_named; print(site_named('encoder.0#1'))"
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert int(done.stdout) == site_named("encoder.0#1")


def test_errors() -> None:
    with pytest.raises(DTypeError, match="uniform draws floating-point numbers, not int32"):
        dlc.uniform((2,), dtype="int32")
    with pytest.raises(AttributeValueError, match=r"probability 1.5"):
        dlc.bernoulli(1.5, (2,))
    with pytest.raises(DTypeError, match="seed"):
        ops.random_bits(np.int32(1), np.int64(0), 0, (2,))


def test_dropout_keeps_the_mean_and_scales() -> None:
    x = dlc.constant(np.ones(20_000, "f"))
    y = dlc.dropout(x, 0.25)
    np.testing.assert_array_equal(dlc.evaluate(y), 1.0)
    kept = dlc.evaluate(y, training=True)
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.75)} and abs(kept.mean() - 1) < 0.02
