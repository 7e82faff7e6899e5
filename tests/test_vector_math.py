"""The functions of float32 in native code, against float64: within 2 ulp, and the special values exactly."""

import math
from typing import Any

import numpy as np
import pytest
from native import run_kernel, source_of

import dlc
from dlc.backends.cpu.compile import assembly
from dlc.backends.cpu.host import cpu_target

Array = np.ndarray[Any, Any]
ULP = 2.0


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


ORACLES: dict[str, Any] = {
    "exp": np.exp, "log": np.log, "tanh": np.tanh, "sigmoid": _sigmoid, "erf": np.vectorize(math.erf, otypes="d"),
    "rsqrt": lambda x: 1 / np.sqrt(x), "expm1": np.expm1, "log1p": np.log1p, "sin": np.sin, "cos": np.cos,
}  # fmt: skip
EDGES = (
    0.0, math.inf, math.nan, 1.0, 0.5, 0.625, 4.0, math.sqrt(0.5), math.sqrt(2), math.sqrt(0.5) - 1, math.sqrt(2) - 1,
    math.log(2) / 2, 1.5 * math.log(2), 88.72284, 87.33655, 103.97208, 16.635532, 90.0, 105.0, 120.0,
    *(k * math.pi / 2 for k in range(1, 20)), 2.0**31, 2.0**32, 2.0**33, 2.0**50, 16367173 * 2.0**72,
)  # fmt: skip


def bits_around(values: Any, reach: int) -> Array:
    """Every float32 within `reach` places of a value, of both signs; NaN and inf have no neighbours above."""
    centres = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    bits = (centres[:, None] + np.arange(-reach, reach + 1)).ravel()
    bits = np.clip(bits, 0, np.float32(np.nan).view(np.int32))
    x = bits.astype(np.int32).view(np.float32)
    return np.concatenate([x, -x])


def sample() -> Array:
    """All exponents, subnormals, neighbourhoods of the edges, and a stride over all bit patterns."""
    mantissas = np.concatenate([np.arange(16), (1 << np.arange(23)), (1 << 23) - 1 - np.arange(16)])
    exponents = (np.arange(256)[:, None] << 23 | mantissas).ravel().astype(np.uint32)
    strided = np.arange(0, 1 << 32, 30011, dtype=np.uint64).astype(np.uint32)
    x = np.concatenate([exponents, exponents | np.uint32(1 << 31), strided]).view(np.float32)
    return np.concatenate([x, bits_around(EDGES, 300)])


def ulps(found: Array, true: Array) -> Array:
    """The error in units of float32's last place at the true value; infinite where a special value is wrong."""
    with np.errstate(all="ignore"):
        rounded = true.astype(np.float32)
        unit = np.ldexp(1.0, np.maximum(np.frexp(true)[1] - 24, -149))
        error = np.abs(found.astype(np.float64) - true) / unit
    special = ~np.isfinite(rounded) | ~np.isfinite(found) | (true == 0)
    same = (np.isnan(true) & np.isnan(found)) | ((rounded == found) & (np.signbit(true) == np.signbit(found)))
    return np.where(special, np.where(same, 0.0, np.inf), error)


@pytest.mark.parametrize("name", ORACLES)
def test_float32_is_within_two_ulp_of_float64(name: str) -> None:
    x = sample()
    (found,), _ = run_kernel(getattr(dlc, name)(dlc.input("x", x.shape, "float32")).node, [x])
    with np.errstate(all="ignore"):
        error = ulps(found, ORACLES[name](x.astype(np.float64)))
    worst = int(error.argmax())
    assert error[worst] <= ULP, (name, x[worst], found[worst], error[worst])


def test_pow_is_within_two_ulp_and_has_ieee_special_values() -> None:
    rng = np.random.default_rng(3)
    special = np.array([0, 1, 2, 3, 0.5, 1.5, 2.5, math.inf, math.nan, 1e-45, 1e-38, 3.4e38, 2**24 - 1, 2**24,
                        1 - 2**-24, 1 + 2**-23], np.float32)  # fmt: skip
    special = np.concatenate([special, -special])
    x, y = (v.ravel() for v in np.meshgrid(special, special))
    bases = np.exp(rng.uniform(-87, 88, 200_000)).astype(np.float32)
    powers = (rng.uniform(-104, 90, bases.size) / np.log(bases.astype(np.float64))).astype(np.float32)
    near = (1 + rng.uniform(-1e-2, 1e-2, 100_000)).astype(np.float32)
    x = np.concatenate([x, bases, near])
    y = np.concatenate([y, powers, rng.uniform(-9e3, 9e3, near.size).astype(np.float32)])
    operands = [dlc.input("x", x.shape, "float32"), dlc.input("y", y.shape, "float32")]
    (found,), _ = run_kernel(dlc.pow(*operands).node, [x, y])
    with np.errstate(all="ignore"):
        true = np.power(x.astype(np.float64), y.astype(np.float64))
        error = ulps(found, np.where(np.abs(true) < 2.0**-160, np.copysign(0.0, true), true))  # float32 gives 0 there
    worst = int(error.argmax())
    assert error[worst] <= ULP, (x[worst], y[worst], found[worst], true[worst])


@pytest.mark.skipif(cpu_target().vector < 64, reason="no 512-bit vectors")
@pytest.mark.parametrize("name", sorted(ORACLES.keys() - {"sin", "cos"}))  # which look a factor up
def test_the_loop_is_vectors_of_full_width_without_calls(name: str) -> None:
    code = assembly(source_of(getattr(dlc, name)(dlc.input("x", ("n",), "float32")).node))
    assert "zmm" in code
    assert "\tcall" not in code
