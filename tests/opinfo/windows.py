"""torch's window functions in dlc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dlc
from dlc.ops.tensor import Tensor

from .registry import register


def window(function: Callable[..., Tensor], **renamed: str) -> Any:
    """torch counts a window as symmetric unless told; some of its arguments have other names."""

    def adapted(size: int, *, sym: bool = True, dtype: str = "float32", **named: Any) -> Tensor:
        named = {renamed.get(name, name): value for name, value in named.items()}
        return function(size, periodic=not sym, dtype=dtype, **named)

    return adapted


register(
    {
        "signal.windows.bartlett": window(dlc.bartlett_window),
        "signal.windows.blackman": window(dlc.blackman_window),
        "signal.windows.cosine": window(dlc.cosine_window),
        "signal.windows.exponential": window(dlc.exponential_window),
        "signal.windows.gaussian": window(dlc.gaussian_window),
        "signal.windows.general_cosine": window(dlc.general_cosine_window, a="coefficients"),
        "signal.windows.general_hamming": window(dlc.hamming_window),
        "signal.windows.hamming": window(dlc.hamming_window),
        "signal.windows.hann": window(dlc.hann_window),
        "signal.windows.nuttall": window(dlc.nuttall_window),
    }
)
