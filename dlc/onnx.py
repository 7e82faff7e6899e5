"""ONNX in and out: the module `dlc.frontend.onnx` under its short name.

With it `import dlc.onnx` and `from dlc.onnx import ...` work.
"""

import sys

from dlc.frontend import onnx as _home
from dlc.frontend.onnx import *  # noqa: F403

sys.modules[__name__] = _home  # the import system hands out what stands here: both names are one module
