"""Fourier transforms against NumPy's, and onnx's forms of them against its reference and ONNX Runtime; gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx_nodes import by_reference, by_runtime, graph_of, one_node
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError, IndexOutOfRangeError
from dlc.ops.interpret import interpret
from dlc.testing import check_grad

RNG = np.random.default_rng(0)


def joined(pairs: Any) -> Any:
    return pairs[..., 0] + 1j * pairs[..., 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_transforms_are_numpys(backend: str) -> None:
    """Lengths that are short, prime, and products of factors on several levels; cut, and filled with zeros."""
    lengths = (1, 2, 5, 32, 37, 74, 90, 1080) if backend == "reference" else (74,)
    inputs, outputs, given, wanted = [], [], [], []
    for n in lengths:
        data = RNG.standard_normal((2, n, 3, 2))
        x, z = dlc.input(f"x{n}", ("N", n, 3, 2), "float64"), joined(data)
        inputs.append(x)
        given.append(data)
        for m in (None, n + 3, max(n - 2, 1)) if backend == "reference" and n < 80 else (None,):
            outputs += [dlc.dft(x, m, 1), dlc.dft(x, m, -3, inverse=True), dlc.dft(x[..., :1], m, 1, onesided=True)]
            wanted += [np.fft.fft(z, m, 1), np.fft.ifft(z, m, 1), np.fft.rfft(data[..., 0], m, 1)]
            if m or n > 1:
                outputs.append(dlc.dft(x, m, 1, inverse=True, onesided=True))
                wanted.append(np.fft.irfft(z, m, 1))
    for y, want in zip(dlc.compile(dlc.graph(inputs, outputs), backend)(*given), wanted, strict=True):
        found = joined(y) if want.dtype.kind == "c" else y[..., 0]
        np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-11)


def test_frames_are_transformed_one_by_one() -> None:
    """Of a signal whose length is named, and of a complex one."""
    data, window = RNG.standard_normal((2, 23, 2)), np.hanning(8)
    x = dlc.input("x", ("N", "T", 2), "float64")
    real = x[..., :1]
    outputs = [dlc.stft(real, 8, 3, window), dlc.stft(x, 8, 3, window, onesided=False), dlc.stft(real, 5, 5)]
    found = dlc.compile(dlc.graph([x], outputs), "reference")(data)
    starts = range(0, 16, 3)
    np.testing.assert_allclose(
        joined(found[0]), np.stack([np.fft.rfft(data[:, i : i + 8, 0] * window) for i in starts], 1), atol=1e-12
    )
    np.testing.assert_allclose(
        joined(found[1]), np.stack([np.fft.fft(joined(data)[:, i : i + 8] * window) for i in starts], 1), atol=1e-12
    )
    assert found[2].shape == (2, 4, 3, 2)


def test_gradients() -> None:
    data = RNG.standard_normal((2, 36, 2))
    check_grad(lambda x: dlc.dft(x, 40, onesided=True), [data], directions=2)
    check_grad(lambda x: dlc.dft(x, 33, inverse=True, onesided=True), [data], directions=2)
    check_grad(lambda x, w: dlc.stft(x, 6, 4, w), [data[..., :1], RNG.standard_normal(6)], directions=2)


SIGNAL = RNG.standard_normal((2, 12, 2)).astype("f")


@pytest.mark.parametrize("op, operands, opset, attributes", [
    ("DFT", [SIGNAL], 17, {"axis": 1}), ("DFT", [SIGNAL[..., :1]], 17, {"axis": 1, "onesided": 1}),
    ("DFT", [SIGNAL, np.array(9)], 17, {"axis": 1, "inverse": 1}),
    ("DFT", [SIGNAL[..., :1], None, np.array(1)], 20, {"onesided": 1}), ("DFT", [SIGNAL, np.array(16)], 20, {}),
    ("STFT", [SIGNAL[..., :1], np.array(3), np.hanning(5).astype("f")], 17, {}),
    ("STFT", [SIGNAL[..., :1], np.array(2), None, np.array(4)], 17, {"onesided": 0}),
    ("MelWeightMatrix", [np.array(v) for v in (8, 32, 8000)] + [np.array(v, "f") for v in (0, 3000)], 17, {}),
    ("MelWeightMatrix", [np.array(v) for v in (4, 15, 8192)] + [np.array(v, "f") for v in (5, 4000)], 17, {}),
])  # fmt: skip
def test_onnx_runtime_gives_the_same(op: str, operands: Any, opset: int, attributes: dict[str, Any]) -> None:
    fixed = [i for i, a in enumerate(operands) if a is not None and a.ndim == 0]
    model = one_node(op, operands, opset, ("float32",), fixed, **attributes)
    arrays = [a for a in operands if a is not None and a.ndim > 0]
    for oracle in (by_runtime, by_reference):
        np.testing.assert_allclose(interpret(graph_of(model), arrays)[0][0], oracle(model, arrays)[0], 1e-5, 1e-5)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_a_cache_is_written_where_each_sample_is(mode: str) -> None:
    """A write beyond the end of a linear cache fails the run."""
    past, new = RNG.standard_normal((2, 3, 5, 2)).astype("f"), RNG.standard_normal((2, 3, 2, 2)).astype("f")
    graph = graph_of(one_node("TensorScatter", [past, new, np.array([1, 3])], 24, ("float32",), mode=mode))
    want = past.copy()
    want[0, :, 1:3], want[1, :, 3:5] = new[0], new[1]
    np.testing.assert_array_equal(interpret(graph, [past, new, np.array([1, 3])])[0][0], want)
    if mode == "linear":
        with pytest.raises(IndexOutOfRangeError):
            interpret(graph, [past, new, np.array([1, 4])])
    else:
        found = interpret(graph, [past, new, np.array([0, 9])])[0][0]
        np.testing.assert_array_equal(found[1, :, [4, 0]], np.moveaxis(new[1], 1, 0))


X = np.zeros((2, 8, 1))


@pytest.mark.parametrize("call", [
    lambda: dlc.dft(X, axis=-1), lambda: dlc.dft(X[..., 0]), lambda: dlc.dft(X.astype(int)), lambda: dlc.dft(X, 0),
    lambda: dlc.dft(X, 2.0), lambda: dlc.dft(dlc.input("x", ("N", "T", 1))), lambda: dlc.stft(X, 4, 0),
    lambda: dlc.stft(X, 9, 1), lambda: dlc.stft(X, 4, 2, np.ones(3)), lambda: dlc.dft(X[:, :1], None, 1, True, True),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_fourier\.py:\d+"):
        call()
