"""Training steps (forward, backward, Adam) of small networks, beside PyTorch's eager mode, interleaved in one run.

    python -m pip install torch
    python -m benchmarks.steps [--threads 2] [--rounds 50]

Both sides compute in float32 and are warmed. The table gives best and median microseconds a step, and the ratio of the
bests: above 1, dlc is faster. `error` is the difference of the two losses after the first step from the same weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import dlc
from benchmarks.accuracy import lenet
from dlc import nn, optim


class Case(NamedTuple):
    """A network for dlc, the same for PyTorch, the shape of one sample, and the number of classes."""

    name: str
    ours: Callable[[], nn.Module]
    theirs: Callable[[Any], Any]
    sample: tuple[int, ...]
    classes: int
    batch: int


def _torch_lenet(t: Any) -> Any:
    return t.Sequential(
        t.Conv2d(1, 6, 5, padding=2), t.ReLU(), t.MaxPool2d(2), t.Conv2d(6, 16, 5), t.ReLU(), t.MaxPool2d(2),
        t.Flatten(), t.Linear(400, 120), t.ReLU(), t.Linear(120, 84), t.ReLU(), t.Linear(84, 10),
    )  # fmt: skip


def _mlp(library: Any, widths: tuple[int, ...]) -> Any:
    layers = [m for i, o in pairwise(widths) for m in (library.Linear(i, o), library.ReLU())]
    return library.Sequential(*layers[:-1])


XOR, MNIST = (2, 8, 2), (784, 512, 512, 10)
CASES = (
    Case("XOR 2-8-2, b4", lambda: _mlp(nn, XOR), lambda t: _mlp(t, XOR), (2,), 2, 4),
    Case("LeNet-5, b1", lenet, _torch_lenet, (1, 28, 28), 10, 1),
    Case("LeNet-5, b64", lenet, _torch_lenet, (1, 28, 28), 10, 64),
    Case("MLP 784-512-512-10, b128", lambda: _mlp(nn, MNIST), lambda t: _mlp(t, MNIST), (784,), 10, 128),
)


def our_step(case: Case, x: Any, y: Any) -> tuple[Callable[[], float], dict[str, Any]]:
    """(one training step, the weights before it)."""
    model = case.ours()
    image, label = dlc.input("x", ("N", *case.sample)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(image), label)
    step = dlc.train_step(model, inputs=[image, label], loss=loss, optimizer=optim.Adam(1e-3))
    weights = {name: value.copy() for name, value in model.state_dict().items()}
    return lambda: float(step(x, y)), weights


def their_step(case: Case, x: Any, y: Any, weights: dict[str, Any]) -> Callable[[], float]:
    """The same step by PyTorch, from the same weights."""
    import torch

    model = case.theirs(torch.nn)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    xt, yt = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> float:
        adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(xt), yt)
        loss.backward()
        adam.step()
        return float(loss.detach())

    return step


def timed(step: Callable[[], float], seconds: float = 0.02) -> float:
    """Seconds a step takes, averaged over about `seconds`."""
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        step()
        count += 1
    return (time.perf_counter() - began) / count


def measure(rounds: int) -> Iterator[str]:
    """One row of the table a case."""
    rng = np.random.default_rng(0)
    for case in CASES:
        x = rng.standard_normal((case.batch, *case.sample), dtype=np.float32)
        y = rng.integers(0, case.classes, case.batch)
        ours, weights = our_step(case, x, y)
        theirs = their_step(case, x, y, weights)
        error = abs(ours() - theirs())
        pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
        (a, b), (am, bm) = map(min, zip(*pairs, strict=True)), map(statistics.median, zip(*pairs, strict=True))
        times = f"{a * 1e6:.0f} / {am * 1e6:.0f} | {b * 1e6:.0f} / {bm * 1e6:.0f}"
        yield f"| {case.name} | {times} | {b / a:.2f} | {error:.0e} |"


def main() -> None:
    """Print the table as Markdown."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's threads; dlc runs on one")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| step | dlc us, best / median | PyTorch us, best / median | ratio | error |\n|---|---|---|---|---|")
    for row in measure(options.rounds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
