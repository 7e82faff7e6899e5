"""All of ONNX's backend tests on the cpu backend: `python tests/onnx_campaign.py` writes docs/onnx-support.md."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_networks
import onnx_suite
from onnx_suite import Suite

REPORT = Path(__file__).parent.parent / "docs" / "onnx-support.md"
FAMILIES = {
    "optimisers and gradients": ("test_adagrad", "test_adam", "test_momentum", "test_nesterov", "test_gradient"),
    "losses": ("test_sce_", "test_nllloss"),
    "normalisation": (
        "test_batchnorm", "test_layer_normalization", "test_group_normalization", "test_instancenorm",
        "test_rms_normalization", "test_lrn", "test_mvn", "test_l1normalization", "test_l2normalization",
    ),
    "recurrent layers": ("test_lstm", "test_gru", "test_rnn", "test_simple_rnn"),
    "convolution and pooling": (
        "test_conv", "test_basic_conv", "test_averagepool", "test_maxpool", "test_maxunpool", "test_lppool",
        "test_globalaveragepool", "test_globalmaxpool", "test_resize", "test_upsample",
    ),
    "attention": ("test_attention", "test_rotary"),
}  # fmt: skip


def report(suite: Suite, failed: dict[str, Exception], networks: list[tuple[str, float]]) -> str:
    """The page: how many tests of each kind and family pass, the networks, and why others do not pass."""
    reasons = onnx_suite.excluded()
    passed = [n for n in suite.names if n not in failed]
    kinds = [(kind, [n for n in suite.names if suite.kinds[n] == kind]) for kind in onnx_suite.KINDS]
    lines = [
        "# ONNX's backend tests on the cpu backend",
        "",
        "`python tests/onnx_campaign.py` runs all tests that the package onnx brings and writes this page;",
        "`tests/test_onnx_suite.py` runs those of the first table in every build, on both backends.",
        "[onnx.md](onnx.md) lists the operators.",
        "",
        f"onnx {onnx.__version__}: **{len(passed) + len(networks)} of {len(suite.names) + len(networks)} pass**.",
        "",
        *_table("kind", suite, passed, kinds),
        "",
        "Of the kind `node`, without those in which the operator is expanded into others:",
        "",
        *_table("family", suite, passed, [(f, _family(suite, starts)) for f, starts in FAMILIES.items()]),
        "",
        "## Whole networks",
        "",
        "Each gives the suite's output. The suite's weights are all equal; with random ones in their place, and no",
        "softmax at the end, this is the largest difference from ONNX Runtime, as a share of the largest number:",
        "",
        "| network | difference |",
        "|---|---|",
        *(f"| {name} | {difference:.1e} |" for name, difference in networks),
        "",
        "## What is not passed",
        "",
        "| tests | reason |",
        "|---|---|",
        *(f"| {count} | {reason} |" for reason, count in Counter(reasons[n] for n in failed).most_common()),
    ]
    return "\n".join(lines) + "\n"


def _family(suite: Suite, starts: tuple[str, ...]) -> list[str]:
    return [n for n in suite.names if n.startswith(starts) and "_expanded" not in n and suite.kinds[n] != "real"]


def _table(head: str, suite: Suite, passed: list[str], rows: list[tuple[str, list[str]]]) -> Iterator[str]:
    yield f"| {head} | tests | passed |"
    yield "|---|---|---|"
    for name, tests in rows:
        yield f"| {name} | {len(tests)} | {len(set(tests) & set(passed))} |"


def main() -> None:
    suite = Suite.of_onnx()
    failed = suite.failures("cpu", checked=False)
    if failed.keys() != onnx_suite.excluded().keys():
        sys.exit(f"the list of exclusions differs: {sorted(failed.keys() ^ onnx_suite.excluded().keys())}")
    networks = []
    for name in onnx_networks.NETWORKS:
        onnx_networks.as_the_suite_has_it(name, "cpu")
        difference = onnx_networks.beside_onnx_runtime(name, "cpu")
        if not difference < onnx_networks.TOLERANCE:
            sys.exit(f"{name} differs from ONNX Runtime by {difference}")
        networks.append((name, difference))
        print(f"{name}: {difference:.1e}", flush=True)
    REPORT.write_text(report(suite, failed, networks))


if __name__ == "__main__":
    main()
