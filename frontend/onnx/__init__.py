"""Networks in ONNX's file format."""

from dlc.frontend.onnx.export import save, to_model

__all__ = ["save", "to_model"]
