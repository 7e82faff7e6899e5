"""dlc: a deep-learning compiler in Python."""

import os as _os

# frontend/, passes/ and backends/ stand at the top of the repository and are installed as subpackages of dlc. In a
# checkout they are symbolic links in this folder; where a checkout has no links (Windows), find them beside it.
# This comes before any import of a submodule.
if not _os.path.isdir(_os.path.join(_os.path.dirname(__file__), "frontend")):
    __path__.append(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))))
