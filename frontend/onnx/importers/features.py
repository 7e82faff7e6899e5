"""Operators of the domain ai.onnx.ml that choose features and compare them."""

from __future__ import annotations

from dlc import ops
from dlc.frontend.onnx.call import Call, Importer
from dlc.ops.tensor import Tensor


def _chosen(c: Call) -> Tensor:
    """The elements along the last axis at some places; a vector is one row."""
    x, places = c[0], ops.reshape(c[1], (-1,))
    rows = x if x.ndim > 1 else ops.reshape(x, (1, -1))
    return ops.take(rows, places, rows.ndim - 1)


FEATURES: dict[str, Importer] = {
    "ArrayFeatureExtractor": _chosen,
    "Binarizer": lambda c: (c[0] > c.float("threshold", 0.0)).astype(c[0].dtype),
}
