"""Each benchmark's dlc side builds, runs and is right; what is around it works. Other libraries need not be there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dlc
from benchmarks import adam, ceilings, convolutions, gemm, latency, memory, profile, report, rows, steps, timing
from benchmarks.cases import DLC, JAX, TORCH, Case, Outcome, measure
from benchmarks.networks import NETWORKS, Network, training_step
from benchmarks.resnet import BasicBlock, ResNet18
from benchmarks.timing import Times
from dlc import nn

ROOT = Path(__file__).parent.parent


def small_cases() -> Iterator[Case]:
    for form in gemm.FORMS:
        yield gemm.case_of(form, 5, 7, 3)
    for function in rows.FUNCTIONS:
        yield rows.case_of(function, 6, 10)
    yield adam.case_of(((3, 4), (5,), (3, 4)))
    for which in convolutions.PASSES:
        yield convolutions.case_of(convolutions.Layer(3, 4, 3, 2, 6), which, batch=2)


@pytest.mark.parametrize("case", list(small_cases()), ids=lambda c: c.name)
def test_our_side_of_an_operation(case: Case) -> None:
    for make in case.sides[DLC].values():
        assert case.error(make()) < 1e-5


def test_an_error_would_be_seen() -> None:
    case = gemm.case_of("x@w", 5, 7, 3)
    right = case.sides[DLC][""]()
    assert case.error(lambda: right() * 1.001) > 5e-4
    layer = convolutions.case_of(convolutions.Layer(3, 4, 3, 2, 6), "data gradient", batch=2)
    turned = layer.sides[DLC][""]()
    assert layer.error(lambda: turned()[:, :, ::-1]) > 0.1


def small(network: Network) -> Network:
    return network._replace(batch=2)


@pytest.mark.parametrize("network", [NETWORKS[0], NETWORKS[3]], ids=lambda n: n.kind)
def test_our_training_step(network: Network) -> None:
    (make,) = steps.case_of(small(network)).sides[DLC].values()
    assert steps.case_of(small(network)).error(make()) < 1e-4


@pytest.mark.slow
def test_our_training_step_of_a_residual_block() -> None:
    def build() -> nn.Module:
        return nn.Sequential(BasicBlock(3, 4, 2), nn.GlobalAvgPool2d(), nn.Linear(5))

    network = Network("block", "block", build, (3, 8, 8), 5, 4)
    x, y = network.data()
    (step, _), (reference, _) = training_step(network), training_step(network, "reference")
    for _ in range(3):
        assert step(x, y) == pytest.approx(reference(x, y), rel=1e-5)


def test_resnet_is_the_one_that_is_known() -> None:
    model = ResNet18()
    model(dlc.input("x", ("N", 3, 32, 32)))
    assert model.num_parameters() == 11_173_962  # as of ResNet-18 with this stem and ten classes elsewhere


def test_the_cases_cover_what_is_promised() -> None:
    assert [n.name for n in NETWORKS] == [c.name for c in steps.cases()]
    names = [c.name for subject in (gemm, rows, adam, convolutions) for c in subject.cases()]
    assert len(names) == len(set(names)) == 24 + 8 + 1 + 32
    for subject in (steps, gemm, rows, adam, convolutions):
        assert {c.name for c in subject.cases(True)} or subject is adam


def test_a_race_takes_turns() -> None:
    order: list[str] = []
    times = timing.race({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, seconds=0.0)
    assert order == ["a", "b"] * 3
    assert all(0 < t.best <= t.median for t in times.values())


def test_a_side_that_is_wrong_or_missing_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> timing.Run:
        raise ValueError("no such thing")

    case = Case("case", "gemm", {DLC: {"": lambda: lambda: 1.0}, TORCH: {"": broken}}, lambda run: 0.0, flops=100)
    outcome = measure(case, rounds=2, seconds=0.001)
    assert outcome.times.keys() == {DLC}
    assert JAX in outcome.missing
    assert "no such thing" in outcome.missing[TORCH] or "not installed" in outcome.missing[TORCH]
    text = report.row(outcome, [DLC, TORCH], ceilings.Ceilings(1, 2, 3, 4))
    assert outcome.missing[TORCH] in text


def test_ratios_and_tables() -> None:
    limits = ceilings.Ceilings(core=100, threads=200, copy=5, streamed=10)
    outcome = Outcome(Case("x@w 8", "gemm", {DLC: {}, TORCH: {}}, lambda run: 0.0, flops=10**9, family="products"))
    outcome.times = {DLC: Times(0.01, 0.02), TORCH: Times(0.02, 0.03)}
    outcome.errors, outcome.modes = {DLC: 1e-7, TORCH: 2e-7}, {DLC: "", TORCH: "fused"}
    assert outcome.ratio(TORCH) == 2.0
    assert outcome.ratio(JAX) is None
    text = report.markdown([outcome], limits)
    assert "10000 / 20000; 100 GF/s 50%; 1e-07 |" in text
    assert "20000 / 30000; 50 GF/s 25%; 2e-07; fused | 2.00 |" in text
    assert report.geometric_mean([2.0, 8.0, None]) == pytest.approx(4.0)
    assert report.geometric_mean([]) is None


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="part of the extra that the benchmarks have")
    outcome = Outcome(Case("one", "steps", {DLC: {}, TORCH: {}}, lambda run: 0.0))
    outcome.times = {DLC: Times(0.01, 0.02), TORCH: Times(0.3, 0.4)}
    report.plot([outcome], tmp_path / "a.svg")
    report.plot([outcome], tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "<!-- 30 -->" in (tmp_path / "a.svg").read_text()


def test_ceilings_are_those_of_real_work() -> None:
    limits = ceilings.measure(1, seconds=0.02)
    assert 0.5 < limits.core < 2000
    assert 0.1 < limits.copy < 2000
    assert limits.bandwidth == max(limits.copy, limits.streamed)
    assert limits.over(limits._replace(core=1e6)).core == 1e6


def test_a_profile_runs_the_step() -> None:
    network = small(NETWORKS[0])
    x, y = network.data()
    profiled, _ = training_step(network)
    plain, _ = training_step(network)
    found = profile.Profile(profiled.program, x, y)
    found.run(3)
    for _ in range(4):  # one to bind it, and three passes
        loss = plain(x, y)
    assert found.outputs[0] == loss
    assert all(len(e.times) == 3 for e in found.entries)
    lines = list(profile.report(found, rows=3, layers=True))
    assert any("matmul" in line for line in profile.report(found, rows=99, layers=False))
    assert "others" in lines[-2]


def test_a_profile_runs_loops() -> None:
    xs = dlc.input("xs", ("T", 3))
    total, _ = dlc.scan(lambda carry, x: (carry * 0.5 + x, carry), dlc.constant([0.0, 0.0, 0.0]), xs)
    program = dlc.compile(dlc.graph([xs], [total * 2.0]))
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    found = profile.Profile(program, values)
    expected = program(values)[0]
    found.outputs[0][...] = 0
    found.run(1)
    assert np.array_equal(found.outputs[0], expected)
    assert any(e.name == "scan of 4" for e in found.entries)


def test_memory_and_latency() -> None:
    assert float(memory.row(NETWORKS[0]).split("|")[4]) >= 1.0
    told = latency.first_step("XOR")
    assert told["compile"] > 0


def test_latency_starts_processes(tmp_path: Path) -> None:
    began, text = latency.started(
        ["-c", "import os, json; print(json.dumps(os.environ['DLC_CACHE_DIR']))"], str(tmp_path), "."
    )
    assert json.loads(text) == str(tmp_path)
    assert began > 0


def test_the_command_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "XOR", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| XOR 2-8-2, b4" in done.stdout
    assert "multiply-adds from L1" in done.stdout
