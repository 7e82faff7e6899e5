"""Transformations of functions within each other, against numbers that PyTorch gave (see `compositions.py`)."""

import json

import numpy as np
import pytest
from compositions import FIXTURE, N, case, outputs

import dlc

WANTED = json.loads(FIXTURE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("seed", WANTED)
def test_random_compositions_have_the_values_and_gradients_of_torch(seed: str) -> None:
    t, at = case(int(seed))
    x = dlc.input("x", (N,), "float64")
    found = dlc.compile(dlc.graph([x], outputs(t, x)), "reference", check=False)(np.array(at))
    np.testing.assert_allclose(found, WANTED[seed], rtol=1e-9, atol=1e-9, err_msg=str(t))


@pytest.mark.slow
def test_compositions_run_natively() -> None:
    seeds = list(WANTED)[:12]
    x, cases = dlc.input("x", (len(seeds), N), "float64"), [case(int(seed)) for seed in seeds]
    graph = dlc.graph([x], [y for i, (t, _) in enumerate(cases) for y in outputs(t, x[i])])
    found = dlc.compile(graph, check=False)(np.array([at for _, at in cases]))
    for i, seed in enumerate(seeds):
        np.testing.assert_allclose(found[2 * i : 2 * i + 2], WANTED[seed], rtol=1e-9, atol=1e-9, err_msg=seed)
