"""ONNX in and out: `load` reads a model as a graph, `Model` runs one whose inputs decide shapes, `save` writes a graph.

Needs the extra ``onnx``.
"""

from dlc.frontend.onnx.export import save, to_model
from dlc.frontend.onnx.load import load
from dlc.frontend.onnx.model import Model

__all__ = ["Model", "load", "save", "to_model"]
