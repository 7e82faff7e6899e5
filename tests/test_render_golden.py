"""Pictures word for word: the DOT text of small graphs, kept in tests/golden. Written anew with DLC_WRITE_GOLDEN=1.

They are graphs as users write them, before any pass, so that they change only when pictures do.
"""

import os
import re
from pathlib import Path

import pytest

import dlc
from dlc import nn, ops, optim
from dlc.ir import Graph
from dlc.ops.fused import FUSED
from dlc.ops.tensor import collect_origins
from dlc.render import to_dot

GOLDEN = Path(__file__).with_name("golden")


class Residual(nn.Module):
    """A module with parts, and an op of its own."""

    def __init__(self):
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, x):
        return x + self.inner(x)


def formula():
    a, b = dlc.input("a", ("N", 3)), dlc.input("b", ("N", 3))
    J = (3 * (a + a * b)).mean()
    return dlc.graph([a, b], [J, *dlc.grad(J, [a, b])])


def tower():
    x = dlc.input("x", ("N", 4))
    return dlc.trace(nn.Sequential(*[Residual() for _ in range(4)], nn.BatchNorm1d(4)), x)


def chain():
    x = y = dlc.input("x", ("N",))
    for _ in range(4):
        y = ops.exp(ops.sin(y) * 2)
    return dlc.graph([x], [y])


def training_step():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", ("N", 2))
    loss = ((model(x) - y) ** 2).sum()
    return dlc.train_step(model, [x, y], loss, optim.SGD(0.1), backend="reference").program.graph


def two_kernels():
    """A map with two results, and a reduction with what precedes it, as a pass would fuse them."""
    a, b = dlc.input("a", ("N", 3)), dlc.input("b", ("N", 3))
    map_body = dlc.graph([a, b], [ops.exp(a) * b, a * 2])
    total_body = dlc.graph([a], [ops.sqrt(ops.sum(a * a, axis=1))])
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", ("N", 3))
    both = FUSED(x, y, body=map_body)
    total = FUSED(ops.item(both, 0), body=total_body)
    doubled = ops.item(both, 1)
    return Graph((x.node, y.node), (total.node, doubled.node), (), collect_origins([total, doubled]))


PICTURES = {
    "formula_joint": (formula, {"view": "joint", "title": 'J = 3 (a + ab), "mean"'}),
    "formula_backward": (formula, {"view": "backward", "rankdir": "LR"}),
    "tower": (tower, {}),
    "tower_depth_2": (tower, {"depth": 2}),
    "chain_of_5_boxes": (chain, {"max_boxes": 5, "rankdir": "LR"}),
    "tower_of_8_boxes": (tower, {"max_boxes": 8}),
    "training_step": (training_step, {"view": "joint"}),
    "two_kernels": (two_kernels, {"kernels": True}),
}


def without_lines(text):
    """The text without file names and line numbers, which are those of this test."""
    return re.sub(r" at [\w<>.]+:\d+", "", text)


@pytest.mark.parametrize("name", PICTURES)
def test_the_dot_text_is_as_it_was(name):
    make, options = PICTURES[name]
    text = without_lines(to_dot(make(), **options))
    path = GOLDEN / f"{name}.dot"
    if os.environ.get("DLC_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8")


def test_each_file_belongs_to_a_picture():
    assert {path.stem for path in GOLDEN.glob("*.dot")} == set(PICTURES)
