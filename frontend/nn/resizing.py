"""Images made larger or smaller, with torch's names for the ways to do it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend.nn.module import Module
from dlc.ops import adaptive_avg_pool, pixel_shuffle, resize
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

# torch's mode: the axes it is for, and how `resize` is asked for it
_MODES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "nearest": ((1, 2, 3), {"mode": "nearest", "coordinates": "asymmetric", "rounding": "floor"}),
    "nearest-exact": ((1, 2, 3), {"mode": "nearest", "rounding": "round_prefer_ceil"}),
    "linear": ((1,), {"mode": "linear"}),
    "bilinear": ((2,), {"mode": "linear"}),
    "trilinear": ((3,), {"mode": "linear"}),
    "bicubic": ((2,), {"mode": "cubic"}),
    "area": ((1, 2, 3), {}),
}


def interpolate(
    x: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """x [N, C, ...] with its trailing axes resized to `size`, or to floor(d * scale_factor), as torch does it.

    `mode` is "nearest", "nearest-exact", "linear" (3 axes), "bilinear" (4), "trilinear" (5), "bicubic" (4) or "area",
    the mean over adaptive windows. With `align_corners` the first and last elements stay the first and last. With
    `antialias`, for "bilinear" and "bicubic", each new element is a weighted mean over all of the old ones that it
    covers, as in Pillow.

    >>> import dlc
    >>> dlc.evaluate(interpolate([[[1.0, 3.0]]], 4, mode="linear", align_corners=False)).tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """
    t = wrap(x)
    if mode not in _MODES:
        known = ", ".join(map(repr, _MODES))
        raise AttributeValueError(f"interpolate: mode={mode!r} is unknown; use one of {known}", where=here())
    ranks, how = _MODES[mode]
    if t.ndim - 2 not in ranks:
        axes = " or ".join(str(r + 2) for r in ranks)
        raise ShapeError(f"interpolate: mode {mode!r} takes {axes} axes, not {t.type}", where=here())
    if align_corners:
        if how.get("mode") not in ("linear", "cubic"):
            raise AttributeValueError(f"interpolate: align_corners does not go with mode={mode!r}", where=here())
        how = {**how, "coordinates": "align_corners"}
    if antialias:
        if mode not in ("bilinear", "bicubic") or align_corners:
            raise AttributeValueError(
                "interpolate: antialias goes with mode='bilinear' and 'bicubic', without align_corners", where=here()
            )
        how = {**how, "antialias": True, "exclude_outside": True, "cubic": -0.5}
    if mode == "area":
        if (size is None) == (scale_factor is None):
            raise AttributeValueError("interpolate takes either a size or a scale_factor", where=here())
        return adaptive_avg_pool(t, _scaled(t, scale_factor) if size is None else size)
    return resize(t, size, scale_factor, **how)


def _scaled(t: Tensor, factor: Any) -> tuple[int, ...]:
    """The sizes of the trailing axes times `factor`, one or one for each, rounded down."""
    rank, sizes = t.ndim - 2, t.shape[2:]
    factors = list(factor) if isinstance(factor, (tuple, list)) else [factor] * rank
    known = [d for d in sizes if isinstance(d, int)]
    if len(known) != rank:
        raise ShapeError(f"interpolate: mode 'area' needs sizes of {t.type} that are known before a call", where=here())
    if len(factors) != rank or not all(isinstance(f, (int, float)) and 0 < f < math.inf for f in factors):
        raise AttributeValueError(
            f"interpolate: scale_factor is a number above 0, or one for each of {rank} axes, not {factor!r}",
            where=here(),
        )
    return tuple(math.floor(d * f) for d, f in zip(known, factors, strict=True))


class Upsample(Module):
    """x [N, C, ...] resized to `size`, or by `scale_factor`; see `nn.functional.interpolate`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Upsample(scale_factor=2)(dlc.input("x", ("N", 3, "H", "W"))).shape
    (N, 3, 2*H, 2*W)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> [N, C, ...']."""
        return interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def describe(self) -> str:
        """The size and mode."""
        by = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{by}, mode={self.mode!r}"


class PixelShuffle(Module):
    """x [N, C r^2, H, W] -> [N, C, H r, W r], with r = upscale_factor. W. Shi and others, arXiv:1609.05158."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Any) -> Tensor:
        """Channels made into pixels."""
        return pixel_shuffle(x, self.upscale_factor)

    def describe(self) -> str:
        """The factor."""
        return f"{self.upscale_factor}"
