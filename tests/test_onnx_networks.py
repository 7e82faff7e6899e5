"""The nine whole networks of ONNX's backend suite: its own outputs, and ONNX Runtime's for random weights.

`python tests/onnx_campaign.py` runs all of them natively.
"""

import onnx_networks
import pytest

COMPILED = ["bvlc_alexnet", "shufflenet", "squeezenet"]  # natively; the others take half a minute each to compile


def test_all_nine_are_there() -> None:
    assert {f"light_{n}.onnx" for n in onnx_networks.NETWORKS} == {p.name for p in onnx_networks.FOLDER.glob("*.onnx")}


@pytest.mark.slow
@pytest.mark.parametrize("name", onnx_networks.NETWORKS)
def test_the_output_of_the_suite(name: str) -> None:
    onnx_networks.as_the_suite_has_it(name, "reference")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_the_output_of_the_suite_natively(name: str) -> None:
    onnx_networks.as_the_suite_has_it(name, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_random_weights_beside_onnx_runtime(name: str) -> None:
    assert onnx_networks.beside_onnx_runtime(name, "cpu") < onnx_networks.TOLERANCE
