"""How compile time grows with depth: an MLP's training step (forward, backward, Adam) of 10, 100 and 1,000 layers.

python -m benchmarks.scaling [--layers 10 100 1000] [--width 8]
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

import dlc
from dlc import nn, optim


def training_program(layers: int, width: int) -> tuple[dlc.Program, float, float]:
    """(program, seconds to build the graph, seconds to compile it)."""
    started = time.perf_counter()
    model = nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(width, width), nn.ReLU())])
    x, y = dlc.input("x", ("N", width)), dlc.input("y", ("N", width))
    loss = nn.functional.mse_loss(model(x), y)
    step = dlc.train_step(model, inputs=[x, y], loss=loss, optimizer=optim.Adam(1e-3))
    seconds = time.perf_counter() - started
    program = step.program
    step(np.zeros((2, width), np.float32), np.zeros((2, width), np.float32))
    return program, seconds - program.seconds, program.seconds


def main() -> None:
    """Print, for each depth, nodes, seconds in passes and in all, kernels, and the growth against the last depth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--width", type=int, default=8)
    options = parser.parse_args()
    print("| layers | nodes | build s | passes s | compile s | kernels | calls | growth of passes |")
    print("|---|---|---|---|---|---|---|---|")
    last: tuple[int, float] | None = None
    for layers in options.layers:
        program, build, compiled = training_program(layers, options.width)
        passes = sum(record.seconds for record in program.passes)
        growth = f"n^{math.log(passes / last[1]) / math.log(layers / last[0]):.2f}" if last else ""
        calls = len(program.plan.kernels)
        print(
            f"| {layers} | {len(program.graph.nodes)} | {build:.2f} | {passes:.2f} | {compiled:.2f} | "
            f"{len(program.kernels)} | {calls} | {growth} |",
            flush=True,
        )
        last = layers, passes


if __name__ == "__main__":
    main()
