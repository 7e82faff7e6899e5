"""What each ONNX operator becomes: one table, an entry per operator."""

from dlc.frontend.onnx.call import Importer
from dlc.frontend.onnx.importers.arrangements import ARRANGEMENTS
from dlc.frontend.onnx.importers.control import CONTROL
from dlc.frontend.onnx.importers.elementwise import ELEMENTWISE
from dlc.frontend.onnx.importers.layers import LAYERS
from dlc.frontend.onnx.importers.places import PLACES
from dlc.frontend.onnx.importers.reductions import REDUCTIONS
from dlc.frontend.onnx.importers.shapes import FOLDED, SHAPES

# What takes about ten times as long as another to import.
HEAVY = frozenset({*REDUCTIONS, *LAYERS, *PLACES, *CONTROL, *ARRANGEMENTS})

IMPORTERS: dict[str, Importer] = {**ELEMENTWISE, **REDUCTIONS, **SHAPES, **LAYERS, **PLACES, **CONTROL, **ARRANGEMENTS}

__all__ = ["FOLDED", "HEAVY", "IMPORTERS"]
