"""LeNet-5 on the UCI digits: test accuracy on the held-out fifth, over several seeds.

    python -m benchmarks.accuracy [--seeds 3] [--epochs 20] [--backend cpu]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import dlc
from dlc import data, nn, optim


def lenet() -> nn.Module:
    """LeNet-5 with full connections between S2 and C3, as in examples/02_lenet_digits.py."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(120), nn.ReLU(), nn.Linear(84), nn.ReLU(), nn.Linear(10),
    )  # fmt: skip


def main() -> None:
    """Train once a seed and print each accuracy, their mean, and the time a training took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--backend", default="cpu")
    options = parser.parse_args()
    (x, y), (xv, yv) = data.digits(size=28)
    accuracies = []
    for seed in range(options.seeds):
        started = time.perf_counter()
        trainer = dlc.Trainer(
            lenet(), loss="cross_entropy", optimizer=optim.Adam(1e-3), metrics=["accuracy"], seed=seed,
            backend=options.backend,
        )  # fmt: skip
        trainer.fit(x, y, epochs=options.epochs, batch_size=64, verbose=False)
        accuracies.append(trainer.evaluate(xv, yv)["accuracy"])
        print(f"seed {seed}: {accuracies[-1]:.4f} in {time.perf_counter() - started:.1f} s", flush=True)
    print(f"mean of {len(accuracies)}: {np.mean(accuracies):.4f}")


if __name__ == "__main__":
    main()
