"""The examples in docstrings run. Those of ops are run by the catalogue's test too, op by op."""

import doctest
import importlib
import pkgutil

import pytest

import dlc

MODULES = sorted(m.name for m in pkgutil.walk_packages(dlc.__path__, "dlc.") if "__main__" not in m.name)
NEEDS = {"dlc.backends.cuda.device_names": "numba_cuda"}


@pytest.mark.parametrize("name", ["dlc", *MODULES])
def test_examples_of(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason="needs the cuda extra")
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_most_public_functions_have_examples() -> None:
    found = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES if name not in NEEDS]
    examples = [t for module in modules for t in found.find(module) if t.examples]
    assert len(examples) > 150
