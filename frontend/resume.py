"""Where a training run stands, and how that goes into a checkpoint and back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import ArgumentError, FileFormatError, listed
from dlc.frontend.checkpoint import PathLike, read_checkpoint, write_checkpoint
from dlc.frontend.history import History
from dlc.provenance import here

if TYPE_CHECKING:
    from dlc.frontend.trainer import Trainer

Array = np.ndarray[Any, Any]


@dataclass
class Position:
    """Epochs done, batches done in the epoch under way, and the sums that its averages will come from.

    `first` is the epoch at which a `fit` began that has not ended; None between two calls.
    """

    epoch: int = 0
    batch: int = 0
    first: int | None = None
    batch_size: int = 0
    samples: int = 0
    shuffle: bool = True
    seen: int = 0
    sums: list[float] = field(default_factory=list)

    def begin(self, epochs: int, batch_size: int, samples: int, shuffle: bool) -> int:
        """Begin a run, or take up one that was interrupted; returns the epoch at which it ends."""
        now = (batch_size, samples, shuffle)
        before = (self.batch_size, self.samples, self.shuffle)
        if self.batch and now != before:
            raise ArgumentError(
                "this run was interrupted inside an epoch with batch_size={}, {} samples and shuffle={}; to go "
                "on with it pass the same, not batch_size={}, {} samples and shuffle={}".format(*before, *now),
                where=here(),
            )
        self.batch_size, self.samples, self.shuffle = now
        if self.first is None:
            self.first = self.epoch
        return self.first + epochs

    def add(self, values: Sequence[Any], count: int) -> None:
        """Enter the averages of a batch of `count` samples."""
        if not self.sums:
            self.sums = [0.0] * len(values)
        self.sums = [s + float(v) * count for s, v in zip(self.sums, values, strict=True)]
        self.seen += count
        self.batch += 1

    def averages(self, names: Iterable[str]) -> dict[str, float]:
        """Name -> average over all samples seen."""
        return {name: s / self.seen for name, s in zip(names, self.sums, strict=True)}

    def next_epoch(self) -> None:
        """The epoch under way is done."""
        self.epoch += 1
        self.batch = self.seen = 0
        self.sums = []


def store(trainer: Trainer, path: PathLike) -> None:
    """Write the checkpoint of `trainer`."""
    arrays = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    arrays |= {f"optimizer.{name}": value for name, value in trainer.optimizer.state_dict().items()}
    record = {
        "optimizer": type(trainer.optimizer).__name__,
        "seed": trainer.seed,
        "step": trainer.steps,
        "position": asdict(trainer.position),
        "history": dict(trainer.history),
    }
    write_checkpoint(path, arrays, record)


def restore(trainer: Trainer, path: PathLike) -> None:
    """Read a checkpoint into `trainer`; nothing is changed unless all of it fits."""
    arrays, record = read_checkpoint(path)
    model, optimizer = _group(arrays, "model."), _group(arrays, "optimizer.")
    try:
        position, history = _position(record["position"]), _history(record["history"])
        seed, step, kind = _whole(record["seed"]), _whole(record["step"]), record["optimizer"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"{os.fspath(path)!r} is not a checkpoint that this version can read: {error!r}"
        ) from None
    problems = [f"model: {p}" for p in trainer.model.misfits(model)]
    if kind != type(trainer.optimizer).__name__:
        problems.append(f"optimizer: the file has {kind!r:.40}, this trainer {type(trainer.optimizer).__name__}")
    else:
        problems += [f"optimizer: {p}" for p in trainer.optimizer.misfits(optimizer, model)]
    if problems:
        raise FileFormatError(f"{os.fspath(path)!r} does not fit this trainer:{listed(problems)}", where=here())
    trainer.model.load_state_dict(model)
    trainer.optimizer.load_state_dict(optimizer)
    trainer.resume(seed, step, position, history)


def _group(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _position(value: Any) -> Position:
    sums = [float(s) for s in value["sums"]]
    first = None if value["first"] is None else _whole(value["first"])
    numbers = {name: _whole(value[name]) for name in ("epoch", "batch", "batch_size", "samples", "seen")}
    place = Position(first=first, shuffle=bool(value["shuffle"]), sums=sums, **numbers)
    batches = -(-place.samples // place.batch_size) if place.batch_size else 0
    if (first is not None and first > place.epoch) or place.batch > batches or place.seen > place.samples:
        raise ValueError(f"{value!r:.200} is not a place in a run")
    return place


def _history(value: Any) -> History:
    history = History()
    for name, entries in value.items():
        history[str(name)] = [float(v) for v in entries]
    return history
