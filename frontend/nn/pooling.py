"""Pooling layers, over one to three axes."""

from __future__ import annotations

from typing import Any

from dlc.errors import ShapeError
from dlc.frontend.nn.convolution import Ints, Padding, window_size
from dlc.frontend.nn.module import Module, layer_name
from dlc.ops import adaptive_avg_pool, adaptive_max_pool, avg_pool, lp_pool, max_pool, max_unpool
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class _Pool(Module):
    """What pooling layers share: windows, and the number of axes they pool over."""

    rank = 0

    def _set_windows(self, kernel_size: Ints, stride: Ints | None, padding: Padding = 0) -> None:
        self.kernel_size = window_size(self, kernel_size, self.rank)
        self.stride = self.kernel_size if stride is None else stride
        self.padding = padding

    def _images(self, x: Any) -> Tensor:
        t = wrap(x)
        if t.ndim != self.rank + 2:
            axes = ("L", "H, W", "D, H, W")[self.rank - 1]
            raise ShapeError(f"{layer_name(self)} takes [N, channels, {axes}], not {t.type}", where=here())
        return t

    def describe(self) -> str:
        """Kernel, stride and padding."""
        text = f"kernel_size={self.kernel_size}, stride={self.stride}"
        return text + (f", padding={self.padding}" if self.padding != 0 else "")


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self._set_windows(kernel_size, stride, padding)
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, x: Any) -> Any:
        """x [N, C, ...] -> [N, C, ...'], and with `return_indices` the places of the maxima, int64 of that shape."""
        how = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        if self.return_indices:
            return max_pool(self._images(x), *how, return_indices=True)
        return max_pool(self._images(x), *how)


class MaxPool1d(_MaxPool):
    """The maximum over windows: x [N, C, L] -> [N, C, L']. As `MaxPool2d`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.MaxPool1d(2)(dlc.input("x", ("N", 6, 28))).shape
    (N, 6, 14)
    """

    rank = 1


class MaxPool2d(_MaxPool):
    """The maximum over windows: x [N, C, H, W] -> [N, C, H', W'], H' = (H + 2 padding - kernel) // stride + 1.

    `stride` is the kernel size unless given. Padding counts as -infinity. With `ceil_mode` the division is rounded up;
    with `return_indices` the second result says where the maxima are, for `MaxUnpool2d`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.MaxPool2d(2)(dlc.input("x", ("N", 6, 28, 28))).shape
    (N, 6, 14, 14)
    """

    rank = 2


class MaxPool3d(_MaxPool):
    """The maximum over windows: x [N, C, D, H, W] -> [N, C, D', H', W']. As `MaxPool2d`."""

    rank = 3


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self._set_windows(kernel_size, stride, padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> [N, C, ...']."""
        windows = (self.kernel_size, self.stride, self.padding)
        return avg_pool(self._images(x), *windows, self.count_include_pad, self.ceil_mode, self.divisor_override)


class AvgPool1d(_AvgPool):
    """The mean over windows: x [N, C, L] -> [N, C, L']. As `AvgPool2d`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.AvgPool1d(2)(dlc.input("x", ("N", 6, 28))).shape
    (N, 6, 14)
    """

    rank = 1


class AvgPool2d(_AvgPool):
    """The mean over windows: x [N, C, H, W] -> [N, C, H', W'], H' = (H + 2 padding - kernel) // stride + 1.

    `stride` is the kernel size unless given. Padding counts as zeros, also in the divisor unless `count_include_pad` is
    false, as in torch.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.AvgPool2d(2)(dlc.input("x", ("N", 6, 28, 28))).shape
    (N, 6, 14, 14)
    """

    rank = 2


class AvgPool3d(_AvgPool):
    """The mean over windows: x [N, C, D, H, W] -> [N, C, D', H', W']. As `AvgPool2d`."""

    rank = 3


class _LPPool(_Pool):
    def __init__(
        self, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False
    ) -> None:
        self._set_windows(kernel_size, stride)
        self.norm_type = norm_type
        self.ceil_mode = ceil_mode

    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> [N, C, ...']."""
        return lp_pool(self._images(x), self.norm_type, self.kernel_size, self.stride, self.ceil_mode)

    def describe(self) -> str:
        """Norm, kernel and stride."""
        return f"norm_type={self.norm_type:g}, {_Pool.describe(self)}"


class LPPool1d(_LPPool):
    """The p-norm of windows: x [N, C, L] -> [N, C, L']; `norm_type` is p.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.LPPool1d(2, 4)(dlc.input("x", ("N", 6, 28))).shape
    (N, 6, 7)
    """

    rank = 1


class LPPool2d(_LPPool):
    """The p-norm of windows: x [N, C, H, W] -> [N, C, H', W']; `norm_type` is p."""

    rank = 2


class LPPool3d(_LPPool):
    """The p-norm of windows: x [N, C, D, H, W] -> [N, C, D', H', W']; `norm_type` is p."""

    rank = 3


class _MaxUnpool(_Pool):
    def __init__(self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0) -> None:
        self._set_windows(kernel_size, stride, padding)

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Tensor:
        """x and indices [N, C, ...'] -> [N, C, ...]; `output_size` gives the trailing dims, or all of them."""
        size = None if output_size is None else tuple(output_size)[-self.rank :]
        return max_unpool(self._images(x), indices, self.kernel_size, self.stride, self.padding, size)


class MaxUnpool1d(_MaxUnpool):
    """Maxima put back where `MaxPool1d` found them, zeros elsewhere: x, indices [N, C, L'] -> [N, C, L].

    >>> import dlc
    >>> from dlc import nn
    >>> y, at = nn.MaxPool1d(2, return_indices=True)(dlc.input("x", ("N", 6, 28)))
    >>> nn.MaxUnpool1d(2)(y, at).shape
    (N, 6, 28)
    """

    rank = 1


class MaxUnpool2d(_MaxUnpool):
    """Maxima put back where `MaxPool2d` found them, zeros elsewhere: x, indices [N, C, H', W'] -> [N, C, H, W]."""

    rank = 2


class MaxUnpool3d(_MaxUnpool):
    """Maxima put back where `MaxPool3d` found them, zeros elsewhere: x, indices [N, C, D', H', W'] -> [N, C, ...]."""

    rank = 3


class _Adaptive(_Pool):
    def __init__(self, output_size: Ints) -> None:
        self.output_size = output_size

    def describe(self) -> str:
        """The output's size."""
        return f"output_size={self.output_size}"


class _AdaptiveAvgPool(_Adaptive):
    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> [N, C, *output_size]."""
        return adaptive_avg_pool(self._images(x), self.output_size)


class _AdaptiveMaxPool(_Adaptive):
    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> [N, C, *output_size]."""
        return adaptive_max_pool(self._images(x), self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means over windows that make an axis `output_size` long: x [N, C, L] -> [N, C, output_size].

    >>> import dlc
    >>> from dlc import nn
    >>> nn.AdaptiveAvgPool1d(5)(dlc.input("x", ("N", 6, 28))).shape
    (N, 6, 5)
    """

    rank = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means over windows that make an image of `output_size`: x [N, C, H, W] -> [N, C, *output_size]."""

    rank = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means over windows that make a volume of `output_size`: x [N, C, D, H, W] -> [N, C, *output_size]."""

    rank = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maxima over windows that make an axis `output_size` long: x [N, C, L] -> [N, C, output_size].

    >>> import dlc
    >>> from dlc import nn
    >>> nn.AdaptiveMaxPool1d(5)(dlc.input("x", ("N", 6, 28))).shape
    (N, 6, 5)
    """

    rank = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima over windows that make an image of `output_size`: x [N, C, H, W] -> [N, C, *output_size]."""

    rank = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maxima over windows that make a volume of `output_size`: x [N, C, D, H, W] -> [N, C, *output_size]."""

    rank = 3


class GlobalAvgPool2d(Module):
    """The mean over height and width: x [N, C, H, W] -> [N, C].

    >>> import dlc
    >>> from dlc import nn
    >>> nn.GlobalAvgPool2d()(dlc.input("x", ("N", 6, "H", "W"))).shape
    (N, 6)
    """

    def forward(self, x: Any) -> Tensor:
        """x [N, C, H, W] -> [N, C]."""
        return wrap(x).mean(axis=(2, 3))
