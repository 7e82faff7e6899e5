"""How long pictures take, from a graph to a file, with nothing but what pip installs, and how large they become.

    python -m benchmarks.pictures [--rounds 3]

What is asked of dlc: the joint graph of 300 nodes, all of them drawn, in 3 s as SVG and 6 s as PNG, with text of at
least 9 points. PNGs have 120 dots an inch, large ones 96.
"""

from __future__ import annotations

import argparse
import re
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dlc
from dlc import nn, optim
from dlc.ir import Graph
from dlc.render import layout, render, to_dot

LIMITS = {"svg": 3.0, "png": 6.0}  # seconds, for 300 nodes


class Residual(nn.Module):
    """A normalised, gated layer around which its input is added."""

    def __init__(self, width: int) -> None:
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        """x [N, width] -> [N, width]."""
        return x + self.narrow(dlc.tanh(self.wide(self.norm(x))))


def joint(model: nn.Module, *sample: int, optimizer: Any = None) -> Graph:
    """The graph of a training step on samples of this shape, before any pass."""
    x, y = dlc.input("x", ("N", *sample)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    step = dlc.train_step(model, [x, y], loss, optimizer or optim.SGD(0.1), backend="reference")
    return step.program.graph


def mlp() -> Graph:
    """Two layers."""
    return joint(nn.Sequential(nn.Linear(32), nn.Tanh(), nn.Linear(10)), 16)


def lenet() -> Graph:
    """LeNet-5 with Adam."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(120), nn.ReLU(), nn.Linear(84), nn.ReLU(), nn.Linear(10),
    )  # fmt: skip
    return joint(model, 1, 28, 28, optimizer=optim.Adam(1e-3))


def tower(blocks: int) -> Graph:
    """Residual blocks, each alike."""
    return joint(nn.Sequential(nn.Linear(32), *[Residual(32) for _ in range(blocks)], nn.Linear(10)), 16)


def convolutions() -> Graph:
    """A deep network of convolutions and batch norms that widens, so that few of its layers are alike; with Adam."""
    layers: list[nn.Module] = []
    for i in range(18):
        channels, filters = 8 + 2 * i, 10 + 2 * i
        layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
    return joint(nn.Sequential(*layers, nn.Flatten(), nn.Linear(10)), 8, 8, 8, optimizer=optim.Adam(1e-3))


CASES: dict[str, tuple[Callable[[], Graph], int]] = {  # the graph, and how many boxes may be drawn
    "MLP": (mlp, 250),
    "LeNet-5, Adam": (lenet, 250),
    "4 residual blocks, all drawn": (lambda: tower(4), 10_000),
    "12 residual blocks": (lambda: tower(12), 250),
    "18 convolutions with batch norm, Adam": (convolutions, 250),
}


def rows(name: str, rounds: int, folder: Path) -> Iterator[str]:
    """One case as SVG and PNG: the best time of several."""
    make, max_boxes = CASES[name]
    graph = make()
    text = to_dot(graph, "joint", max_boxes=max_boxes)
    boxes = len(re.findall(r"^ *\w+ \[label=", text, re.MULTILINE))
    for form in ("svg", "png"):
        path = folder / f"picture.{form}"
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            render(graph, path, view="joint", max_boxes=max_boxes)
            times.append(time.perf_counter() - started)
        yield f"| {name} | {len(graph.nodes)} | {boxes} | {form} | {min(times):.2f} | {_size(path)} |"


def _size(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".png":
        width, height = struct.unpack(">II", data[16:24])
        return f"{width} x {height} dots"
    width, height = re.findall(rb'(?:width|height)="(\d+)pt"', data)[:2]
    fonts = [float(size) for size in re.findall(rb'font-size="([\d.]+)"', data)]
    return f"{int(width)} x {int(height)} pt, smallest text {min(fonts):g} pt"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"drawn by {layout.renderers()[0].name}\n")
    print("| joint graph | nodes | boxes | file | seconds | size |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            for row in rows(name, options.rounds, Path(folder)):
                print(row, flush=True)


if __name__ == "__main__":
    main()
