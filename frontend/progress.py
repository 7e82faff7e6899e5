"""What a training run says while it goes: that it compiles, then a bar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any


@contextmanager
def compiling(verbose: bool) -> Iterator[None]:
    """Says that there is something to wait for; the line goes when the block is done. Nothing unless `verbose`."""
    if not verbose:
        yield
        return
    from tqdm import tqdm

    with tqdm(bar_format="{desc}", desc="compiling ...", leave=False):
        yield


class Progress:
    """A tqdm bar over all batches of a run, with the last epoch's numbers beside it; nothing unless `verbose`."""

    def __init__(self, first: int, last: int, batches: int, *, done: int, verbose: bool) -> None:
        self._bar: Any = None
        if verbose:
            from tqdm import tqdm

            total, initial = (last - first) * batches, done - first * batches
            self._bar = tqdm(total=total, initial=initial, unit="batch", dynamic_ncols=True)
        self._last = last

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """One batch is done."""
        if self._bar is not None:
            self._bar.update()

    def show(self, history: Mapping[str, Sequence[float]]) -> None:
        """Show the newest entry of each metric."""
        if self._bar is not None:
            epochs = max(map(len, history.values()), default=0)
            self._bar.set_description(f"epoch {epochs}", refresh=False)
            self._bar.set_postfix({name: f"{values[-1]:.4g}" for name, values in history.items()}, refresh=True)
