"""What each ONNX operator becomes: one table, an entry per operator."""

from dlc.frontend.onnx.call import Importer
from dlc.frontend.onnx.importers.arrangements import ARRANGEMENTS
from dlc.frontend.onnx.importers.control import CONTROL
from dlc.frontend.onnx.importers.draws import DRAWS
from dlc.frontend.onnx.importers.elementwise import ELEMENTWISE
from dlc.frontend.onnx.importers.features import FEATURES
from dlc.frontend.onnx.importers.grams import GRAMS
from dlc.frontend.onnx.importers.layers import LAYERS
from dlc.frontend.onnx.importers.optimisers import OPTIMISERS
from dlc.frontend.onnx.importers.places import PLACES
from dlc.frontend.onnx.importers.pooling import POOLING
from dlc.frontend.onnx.importers.quantised import QUANTISED
from dlc.frontend.onnx.importers.recurrent import RECURRENT
from dlc.frontend.onnx.importers.reductions import REDUCTIONS
from dlc.frontend.onnx.importers.sequences import SEQUENCES
from dlc.frontend.onnx.importers.shapes import FOLDED, SHAPES
from dlc.frontend.onnx.importers.signals import SIGNALS
from dlc.frontend.onnx.importers.vision import VISION

# What takes about ten times as long as others to import.
_SLOW = [REDUCTIONS, LAYERS, POOLING, PLACES, CONTROL, ARRANGEMENTS, QUANTISED, RECURRENT, OPTIMISERS, DRAWS,
         SEQUENCES, SIGNALS, VISION, FEATURES, GRAMS]  # fmt: skip
HEAVY = frozenset(name for table in _SLOW for name in table)

IMPORTERS: dict[str, Importer] = {n: f for table in [ELEMENTWISE, SHAPES, *_SLOW] for n, f in table.items()}

__all__ = [
    "ARRANGEMENTS", "CONTROL", "DRAWS", "ELEMENTWISE", "FEATURES", "FOLDED", "GRAMS", "HEAVY", "IMPORTERS",
    "LAYERS", "OPTIMISERS", "PLACES", "POOLING", "QUANTISED", "RECURRENT", "REDUCTIONS", "SEQUENCES", "SHAPES",
    "SIGNALS", "VISION",
]  # fmt: skip
