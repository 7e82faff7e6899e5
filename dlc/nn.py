"""Layers and networks: the module `dlc.frontend.nn` under its short name.

With it `import dlc.nn` and `from dlc.nn import ...` work.
"""

import sys

from dlc.frontend import nn as _home
from dlc.frontend.nn import *  # noqa: F403

for _name in [n for n in sys.modules if n.startswith(f"{_home.__name__}.")]:  # its parts, such as dlc.nn.functional
    sys.modules[__name__ + _name.removeprefix(_home.__name__)] = sys.modules[_name]
sys.modules[__name__] = _home  # the import system hands out what stands here: both names are one module
