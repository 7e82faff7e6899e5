"""Data sets and batches: the module `dlc.frontend.data` under its short name.

With it `import dlc.data` and `from dlc.data import ...` work.
"""

import sys

from dlc.frontend import data as _home
from dlc.frontend.data import *  # noqa: F403

sys.modules[__name__] = _home  # the import system hands out what stands here: both names are one module
