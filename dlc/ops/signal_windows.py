"""Window functions, by which a stretch of a signal is tapered before its spectrum is taken.

Each is a vector of `size`, an int or a named dim, symmetric about its middle. With `periodic`, the default as in torch
and ONNX, it is the window of one element more without its last: such windows add up evenly where they overlap. The
formulas are those of F. J. Harris, On the use of windows for harmonic analysis with the discrete Fourier transform,
1978, with n the position and N the size, less 1 unless periodic. A window of one element is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from dlc.dims import Dim, dim
from dlc.dtypes import FLOATING, HALF, dtype_name
from dlc.errors import AttributeValueError, DTypeError
from dlc.ops.arithmetic import abs as abs_
from dlc.ops.definition import located, plain_number
from dlc.ops.elementwise import convert, where
from dlc.ops.fill import iota, size_of, zeros
from dlc.ops.functions import cos, exp, sin
from dlc.ops.tensor import Tensor


def _window(
    name: str, size: Any, periodic: bool, dtype: Any, shape: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """``shape(n, N)`` of the positions n, both in float32 at least."""
    count, given = dim(size), dtype_name(dtype)
    if given not in FLOATING:
        raise DTypeError(f"{name} gives floating-point numbers, not {given}; convert with .astype('int64')")
    if isinstance(count, int) and count < 1:
        return zeros((count,), given)
    work = "float32" if given in HALF else given
    last = size_of(count if periodic else count - 1, work)
    if isinstance(count, Dim) or count == 1:  # where N may be 0
        alone = size_of(count, work) <= 1.0
        tapered = shape(iota((count,), 0, work), where(alone, 1.0, last))
        return convert(where(alone, 1.0, tapered), given)
    return convert(shape(iota((count,), 0, work), last), given)


def _above_zero(value: Any, name: str, what: str) -> float:
    if not plain_number(value, name, what) > 0:
        raise AttributeValueError(f"{name}: {what} is a number above 0, not {value!r}")
    return float(value)


def _cosines(name: str, size: Any, coefficients: Sequence[float], periodic: bool, dtype: Any) -> Tensor:
    def shape(n: Tensor, last: Tensor) -> Tensor:
        total = None
        for k, a in enumerate(coefficients):
            term = (-a if k % 2 else a) * cos(n * (2.0 * math.pi * k) / last)
            total = term if total is None else total + term
        assert total is not None
        return total

    return _window(name, size, periodic, dtype, shape)


@located
def general_cosine_window(
    size: Any, coefficients: Sequence[float], periodic: bool = True, dtype: Any = "float32"
) -> Tensor:
    """a[0] - a[1] cos(2 pi n / N) + a[2] cos(4 pi n / N) - ... of the `coefficients` a.

    >>> import dlc
    >>> [f"{v:.2f}" for v in dlc.evaluate(dlc.general_cosine_window(4, [0.5, 0.25, 0.25]))]
    ['0.50', '0.25', '1.00', '0.25']
    """
    if not isinstance(coefficients, (tuple, list)) or not coefficients:
        raise AttributeValueError(f"general_cosine_window takes a list of plain numbers, not {coefficients!r}")
    given = [plain_number(a, "general_cosine_window", "a coefficient") for a in coefficients]
    return _cosines("general_cosine_window", size, given, periodic, dtype)


@located
def hann_window(size: Any, periodic: bool = True, dtype: Any = "float32") -> Tensor:
    """(1 - cos(2 pi n / N)) / 2.

    >>> import dlc
    >>> [f"{v:.2f}" for v in dlc.evaluate(dlc.hann_window(4))]
    ['0.00', '0.50', '1.00', '0.50']
    """
    return _cosines("hann_window", size, (0.5, 0.5), periodic, dtype)


@located
def hamming_window(size: Any, periodic: bool = True, alpha: float = 0.54, dtype: Any = "float32") -> Tensor:
    """alpha - (1 - alpha) cos(2 pi n / N).

    >>> import dlc
    >>> [f"{v:.2f}" for v in dlc.evaluate(dlc.hamming_window(4))]
    ['0.08', '0.54', '1.00', '0.54']
    """
    a = plain_number(alpha, "hamming_window", "alpha")
    return _cosines("hamming_window", size, (a, 1.0 - a), periodic, dtype)


@located
def blackman_window(size: Any, periodic: bool = True, dtype: Any = "float32") -> Tensor:
    """0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N).

    >>> import dlc
    >>> [f"{abs(v):.2f}" for v in dlc.evaluate(dlc.blackman_window(4))]
    ['0.00', '0.34', '1.00', '0.34']
    """
    return _cosines("blackman_window", size, (0.42, 0.5, 0.08), periodic, dtype)


@located
def nuttall_window(size: Any, periodic: bool = True, dtype: Any = "float32") -> Tensor:
    """The window of four cosines with the least side lobes. A. H. Nuttall, 1981.

    >>> import dlc
    >>> [f"{v:.3f}" for v in dlc.evaluate(dlc.nuttall_window(4))]
    ['0.000', '0.227', '1.000', '0.227']
    """
    return _cosines("nuttall_window", size, (0.3635819, 0.4891775, 0.1365995, 0.0106411), periodic, dtype)


@located
def bartlett_window(size: Any, periodic: bool = True, dtype: Any = "float32") -> Tensor:
    """The triangle 1 - |2 n / N - 1|, 0 at the ends.

    >>> import dlc
    >>> dlc.evaluate(dlc.bartlett_window(4)).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    shape = lambda n, last: 1.0 - abs_(n * 2.0 / last - 1.0)  # noqa: E731
    return _window("bartlett_window", size, periodic, dtype, shape)


@located
def cosine_window(size: Any, periodic: bool = True, dtype: Any = "float32") -> Tensor:
    """sin(pi (n + 1/2) / (N + 1)): half a wave, nowhere 0.

    >>> import dlc
    >>> [f"{v:.4f}" for v in dlc.evaluate(dlc.cosine_window(3))]
    ['0.3827', '0.9239', '0.9239']
    """
    shape = lambda n, last: sin((n + 0.5) * math.pi / (last + 1.0))  # noqa: E731
    return _window("cosine_window", size, periodic, dtype, shape)


@located
def gaussian_window(size: Any, std: float = 1.0, periodic: bool = True, dtype: Any = "float32") -> Tensor:
    """exp(-((n - N / 2) / std)^2 / 2).

    >>> import dlc
    >>> [f"{v:.4f}" for v in dlc.evaluate(dlc.gaussian_window(4))]
    ['0.1353', '0.6065', '1.0000', '0.6065']
    """
    width = _above_zero(std, "gaussian_window", "std")

    def shape(n: Tensor, last: Tensor) -> Tensor:
        z = (n - last * 0.5) / width
        return exp(z * z * -0.5)

    return _window("gaussian_window", size, periodic, dtype, shape)


@located
def exponential_window(
    size: Any, tau: float = 1.0, center: float | None = None, periodic: bool = True, dtype: Any = "float32"
) -> Tensor:
    """exp(-|n - center| / tau), the center being N / 2 unless given.

    >>> import dlc
    >>> [f"{v:.4f}" for v in dlc.evaluate(dlc.exponential_window(4))]
    ['0.1353', '0.3679', '1.0000', '0.3679']
    """
    decay = _above_zero(tau, "exponential_window", "tau")
    middle = None if center is None else plain_number(center, "exponential_window", "the center")

    def shape(n: Tensor, last: Tensor) -> Tensor:
        return exp(abs_(n - (last * 0.5 if middle is None else middle)) * (-1.0 / decay))

    return _window("exponential_window", size, periodic, dtype, shape)
