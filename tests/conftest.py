"""Every compilation in the tests is checked after each pass, unless the test or the environment says otherwise."""

import os

os.environ.setdefault("DLC_CHECK", "1")
