"""The examples in docstrings run. Those of ops are run by the catalogue's test too, op by op."""

import doctest
import importlib
import pkgutil

import pytest

import dlc

MODULES = sorted(m.name for m in pkgutil.walk_packages(dlc.__path__, "dlc.") if "__main__" not in m.name)


@pytest.mark.parametrize("name", ["dlc", *MODULES])
def test_examples_of(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_most_public_functions_have_examples() -> None:
    found = doctest.DocTestFinder(exclude_empty=True)
    examples = [t for name in MODULES for t in found.find(importlib.import_module(name)) if t.examples]
    assert len(examples) > 150
