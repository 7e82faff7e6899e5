"""Public modules under their short names, in a fresh process: `import dlc.nn as nn` and the module itself are one."""

import subprocess
import sys

import pytest

PROGRAM = """
import dlc.{name} as short
from dlc.{name} import {member}
import dlc, dlc.frontend.{name} as home
assert short is home and dlc.{name} is home and home.{member} is {member}
assert home.__spec__.name == home.__name__ == "dlc.frontend.{name}"
"""


@pytest.mark.parametrize("name, member", [("nn", "Linear"), ("optim", "Adam"), ("data", "batches")])
def test_short_names_are_the_modules_themselves(name: str, member: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM.format(name=name, member=member)], check=True)


def test_parts_of_a_short_name_are_not_loaded_twice() -> None:
    program = "import dlc.nn.functional as F, dlc.frontend.nn.functional as G; assert F is G"
    subprocess.run([sys.executable, "-c", program], check=True)
