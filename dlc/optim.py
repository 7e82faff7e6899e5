"""Optimisers and schedules: the module `dlc.frontend.optim` under its short name.

With it `import dlc.optim` and `from dlc.optim import ...` work.
"""

import sys

from dlc.frontend import optim as _home
from dlc.frontend.optim import *  # noqa: F403

sys.modules[__name__] = _home  # the import system hands out what stands here: both names are one module
