"""Optimisers and schedules: another name of the module `dlc.frontend.optim`, so that `import dlc.optim` and `from dlc.optim import ...` work."""

import sys

from dlc.frontend import optim as _home
from dlc.frontend.optim import *

# the import system hands out what stands here, so that both names are one module, and its parts too
for _name in [n for n in sys.modules if n.startswith(f"{_home.__name__}.")]:
    sys.modules[__name__ + _name.removeprefix(_home.__name__)] = sys.modules[_name]
sys.modules[__name__] = _home
