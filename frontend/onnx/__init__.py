"""ONNX in and out: `load` reads a model as a graph, `save` writes a graph as a model. Needs the extra ``onnx``."""

from dlc.frontend.onnx.export import save, to_model
from dlc.frontend.onnx.load import load

__all__ = ["load", "save", "to_model"]
