"""What training recorded: one list per metric, with one entry an epoch."""

from __future__ import annotations

import os
from typing import Any


class History(dict[str, list[float]]):
    """Metric name -> values, one an epoch: "loss", "accuracy", "val_loss", ...

    >>> history = History()
    >>> history.record({"loss": 2.5})
    >>> history.record({"loss": 1.5})
    >>> history["loss"], history.epochs
    ([2.5, 1.5], 2)
    """

    @property
    def epochs(self) -> int:
        """How many epochs are recorded."""
        return max(map(len, self.values()), default=0)

    def record(self, values: dict[str, float]) -> None:
        """Append one epoch. A metric that starts late, or is left out, has NaN in the epochs without it."""
        epochs = self.epochs
        for name, value in values.items():
            self.setdefault(name, [float("nan")] * epochs).append(float(value))
        for entries in self.values():
            entries.extend([float("nan")] * (epochs + 1 - len(entries)))

    def plot(self, path: str | os.PathLike[str]) -> Any:
        """Draw the curves over the epochs into a file; the ending says the format. Raises `RenderError`."""
        from dlc.render.curves import plot_history

        return plot_history(self, path)
