"""Data sets and batches: another name of the module `dlc.frontend.data`, so that `import dlc.data` and `from dlc.data import ...` work."""

import sys

from dlc.frontend import data as _home
from dlc.frontend.data import *

# the import system hands out what stands here, so that both names are one module, and its parts too
for _name in [n for n in sys.modules if n.startswith(f"{_home.__name__}.")]:
    sys.modules[__name__ + _name.removeprefix(_home.__name__)] = sys.modules[_name]
sys.modules[__name__] = _home
