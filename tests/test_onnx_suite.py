"""ONNX's own backend tests, on both backends. `onnx_exclusions.txt` names those that dlc does not pass, and why."""

import numpy as np
import onnx_suite
import pytest
from onnx.backend.test import loader
from onnx_suite import Suite

from dlc.errors import DlcError
from dlc.frontend.onnx import Model

# How many tests are excluded: a list that grows does so here too.
EXCLUDED = 240


@pytest.fixture(scope="module")
def suite() -> Suite:
    return Suite.of_onnx()


def check(suite: Suite, part: int, parts: int, backend: str, checked: bool | None) -> None:
    """Exactly the tests that are excluded fail, of a part of the suite that is spread over all of it."""
    reasons = onnx_suite.excluded()
    failed = suite.failures(backend, suite.names[part::parts], checked)
    new = {name: str(error) for name, error in failed.items() if name not in reasons}
    assert not new, f"{len(new)} tests are not passed: {new}"
    passed = sorted(set(suite.names[part::parts]) & set(reasons) - set(failed))
    assert not passed, f"excluded, but passed: {passed}"


def test_by_the_reference(suite: Suite) -> None:
    check(suite, 0, 1, "reference", None)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_natively(suite: Suite, part: int) -> None:
    """The passes are not checked once more: they are those of the reference."""
    check(suite, part, 4, "cpu", False)


def test_the_list_of_what_is_excluded_has_not_grown(suite: Suite) -> None:
    reasons = onnx_suite.excluded()
    assert all(reasons.values())
    assert set(reasons) <= set(suite.names)
    assert len(reasons) == EXCLUDED, "state the new number in this file"


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_what_fails_among_many_is_found(suite: Suite, backend: str) -> None:
    """One wrong value and one program that fails while running, between those that pass."""
    names = ["test_abs", "test_neg", "test_gather_0", "test_exp"]
    some = [suite.exchanges[n][0] for n in names]
    wrong = some[1].changed(expected=[some[1].expected[0] + 1])
    stray = some[2].changed(inputs=[some[2].inputs[0], np.full_like(some[2].inputs[1], 1000)])
    failed = onnx_suite.failures([some[0], wrong, stray, some[3]], backend)
    assert set(failed) == {"test_neg", "test_gather_0"}
    assert isinstance(failed["test_neg"], AssertionError)
    assert isinstance(failed["test_gather_0"], DlcError)


@pytest.mark.parametrize("kind", ["simple", "pytorch-operator"])
def test_models_are_called_with_the_inputs_of_the_file(kind: str) -> None:
    """Each by itself, through `Model`, which learns which inputs decide shapes."""
    reasons = onnx_suite.excluded()
    for case in loader.load_model_tests(kind=kind):
        if case.name not in reasons:
            model, pairs = onnx_suite.stored_case(case)
            run = Model(model, "reference")
            for inputs, expected in pairs:
                onnx_suite.compare(expected, run(*inputs), case.rtol, case.atol)
