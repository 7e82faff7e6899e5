"""Training curves: what a `History` recorded, as lines over the epochs.

Drawn by the Graphviz that draws the graphs, through its drawing language xdot
(https://graphviz.org/docs/outputs/canon/#xdot), so that curves need no plotting package of their own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from dlc.errors import AttributeValueError
from dlc.render.dot import BLUE, FONT, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from dlc.render.labels import plain
from dlc.render.layout import FORMATS, TIMEOUT, checked_path, draw, write_atomically

PANEL_WIDTH, PANEL_HEIGHT = 380.0, 300.0  # points
LEFT, RIGHT, BOTTOM, TOP = 62.0, 16.0, 46.0, 40.0  # margins of a panel
TITLE_HEIGHT = 30.0
PANELS_IN_A_ROW = 3
MARKED_POINTS = 40  # a line of more points is drawn without markers
VALIDATION = "val_"  # the prefix of what was measured on held-out data
INK = "#333333"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)


def plot_history(
    records: Mapping[str, Sequence[float]],
    path: str | os.PathLike[str],
    title: str | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Path:
    """Draw one value an epoch of each metric into a .png, .svg or .pdf file. Returns the path.

    A panel a metric; ``val_`` before a metric's name puts it into that metric's panel as a dashed line with hollow
    squares, beside the solid line with dots of training. Values that are not finite leave a gap. Accuracies between 0
    and 1 are drawn in per cent. Epochs are counted from 1.

    Raises `AttributeValueError` when there is nothing to draw or a value is not a number, and `RenderError` when the
    path does not fit or no Graphviz is found.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_history({"loss": [2.3, 1.1], "val_loss": [2.2, 1.4]}, os.path.join(folder, "curves.svg")).name
    'curves.svg'
    """
    target = checked_path(path, FORMATS)
    series = {str(name): _numbers(str(name), values) for name, values in records.items()}
    if not any(series.values()):
        raise AttributeValueError("there is nothing to plot: no metric has a value yet; train for at least one epoch")
    text = curves_dot(series, title)
    write_atomically(target, draw(text, target.suffix.lower().lstrip("."), timeout=timeout, engine="nop2"))
    return target


def curves_dot(series: Mapping[str, Sequence[float]], title: str | None = None) -> str:
    """The curves as DOT text: an empty graph with the drawing as its background."""
    panels: dict[str, dict[str, Sequence[float]]] = {}
    for name, values in series.items():
        if values:
            panels.setdefault(name.removeprefix(VALIDATION), {})[name] = values
    columns = min(len(panels), PANELS_IN_A_ROW)
    rows = math.ceil(len(panels) / columns)
    width, height = columns * PANEL_WIDTH, rows * PANEL_HEIGHT + (TITLE_HEIGHT if title else 0)
    pen = _Pen()
    for number, (metric, lines) in enumerate(panels.items()):
        x, y = number % columns * PANEL_WIDTH, (rows - 1 - number // columns) * PANEL_HEIGHT
        colour = COLOURS[number % len(COLOURS)]
        _panel(pen, x, y, metric, lines, colour)
    if title:
        pen.text(width / 2, height - 20, plain(title, 100), 14)
    corner = "shape=point, width=0.01, style=invis"
    return (
        f'digraph curves {{\n  graph [fontname="{FONT}", bgcolor=white, pad=0.1, _background="{pen.drawing}"]\n'
        f'  a [pos="0,0!", {corner}]\n  b [pos="{_n(width)},{_n(height)}!", {corner}]\n}}\n'
    )


# ---------------------------------------------------------------- one panel


def _panel(pen: _Pen, x: float, y: float, metric: str, lines: Mapping[str, Sequence[float]], colour: str) -> None:
    values = [v for line in lines.values() for v in line if math.isfinite(v)]
    percent = "accuracy" in metric and all(0 <= v <= 1 for v in values)
    scale = 100.0 if percent else 1.0
    epochs = max(map(len, lines.values()))
    across = Axis.over(1, max(epochs, 2), x + LEFT, x + PANEL_WIDTH - RIGHT, whole=True)
    low, high = min(values, default=0.0) * scale, max(values, default=1.0) * scale
    up = Axis.over(low, high, y + BOTTOM, y + PANEL_HEIGHT - TOP, widen=True)
    _frame(pen, across, up)
    pen.text((across.start + across.end) / 2, y + 12, "epoch", 11)
    pen.text(x + 8, y + PANEL_HEIGHT - TOP + 24, plain(metric, 36) + (" (%)" if percent else ""), 12, align=-1)
    if not values:
        pen.text((across.start + across.end) / 2, (up.start + up.end) / 2, "no finite values", 11)
    legend = x + PANEL_WIDTH - RIGHT
    for name in sorted(lines, key=lambda name: not name.startswith(VALIDATION)):  # from right to left
        held_out = name.startswith(VALIDATION)
        shade = INK if held_out else colour
        points = [(across.at(i + 1), up.at(v * scale)) for i, v in enumerate(lines[name])]
        _line(pen, points, shade, held_out, marked=epochs <= MARKED_POINTS)
        label = "validation" if held_out else "training"
        row = y + PANEL_HEIGHT - TOP + 10
        legend -= 8 * len(label)
        pen.text(legend + 4, row - 4, label, 10, align=-1)
        _line(pen, [(legend - 24, row), (legend - 12, row), (legend, row)], shade, held_out, marked=False)
        pen.marker(legend - 12, row, shade, hollow=held_out)
        legend -= 34


def _frame(pen: _Pen, across: Axis, up: Axis) -> None:
    pen.style("solid", 0.5)
    for value, text in up.ticks():
        pen.line([(across.start, up.at(value)), (across.end, up.at(value))], "#DDDDDD")
        pen.text(across.start - 6, up.at(value) - 3.5, text, 10, align=1)
    for value, text in across.ticks():
        pen.line([(across.at(value), up.start), (across.at(value), up.start - 4)], INK)
        pen.text(across.at(value), up.start - 16, text, 10)
    pen.style("solid", 1.0)
    pen.line([(across.start, up.end), (across.start, up.start), (across.end, up.start)], INK)


def _line(pen: _Pen, points: Sequence[tuple[float, float]], colour: str, held_out: bool, marked: bool) -> None:
    """One curve: dashed and hollow for held-out data; gaps where a value is not finite."""
    pen.style("dashed" if held_out else "solid", 1.8)
    for finite, run in groupby(points, key=lambda point: math.isfinite(point[1])):
        found = list(run)
        if finite and len(found) > 1:
            pen.line(found, colour)
        if finite and (marked or len(found) == 1):
            for px, py in found:
                pen.marker(px, py, colour, hollow=held_out)


# ---------------------------------------------------------------- axes


@dataclass(frozen=True)
class Axis:
    """A range of values laid onto a range of the page, with round ticks `step` apart."""

    low: float
    high: float
    start: float
    end: float
    step: float

    @classmethod
    def over(
        cls, low: float, high: float, start: float, end: float, *, widen: bool = False, whole: bool = False
    ) -> Axis:
        """The axis of a data range; `widen` ends it on ticks, `whole` keeps ticks to whole numbers."""
        if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
            pad = abs(high) * 0.5 or 0.5
            low, high = low - pad, high + pad
        step = round_step((high - low) / 5)
        step = max(1.0, step) if whole else step
        if widen:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(low, high, start, end, step)

    def at(self, value: float) -> float:
        """Where a value stands on the page."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Round values within the axis, with their text."""
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        for i in range(first, last + 1):
            value = i * self.step
            yield value, f"{value:.{digits}f}" if digits <= 6 and abs(value) < 1e7 else f"{value:.3g}"


def round_step(span: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `span`.

    >>> round_step(0.13), round_step(4.1)
    (0.2, 5.0)
    """
    power = 10.0 ** math.floor(math.log10(span))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= span * (1 - 1e-9))


# ---------------------------------------------------------------- xdot


class _Pen:
    """Writes xdot: every text goes with its length in bytes."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    @property
    def drawing(self) -> str:
        """The drawing, for a quoted attribute: texts hold no backslash, and quotes are escaped."""
        return " ".join(self.parts).replace('"', '\\"')

    def style(self, line: str, width: float) -> None:
        """Solid or dashed, and a width in points."""
        self.parts += [f"S {_counted(f'setlinewidth({width:g})')}", f"S {_counted(line)}"]

    def line(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """A line through points."""
        self.parts.append(f"c {_counted(colour)} L {len(points)} {' '.join(f'{_n(x)} {_n(y)}' for x, y in points)}")

    def marker(self, x: float, y: float, colour: str, *, hollow: bool) -> None:
        """A dot, or a hollow square."""
        self.style("solid", 1.4)
        fill = "#FFFFFF" if hollow else colour
        shape = f"P 4 {_square(x, y, 2.4)}" if hollow else f"E {_n(x)} {_n(y)} 2.4 2.4"
        self.parts.append(f"c {_counted(colour)} C {_counted(fill)} {shape}")

    def text(self, x: float, y: float, text: str, size: float, align: int = 0) -> None:
        """Text on a base line; `align` -1 puts its left end at x, 0 its middle, 1 its right end."""
        width = 0.6 * size * len(text)
        self.parts.append(
            f"c {_counted(INK if size > 10 else GREY)} F {size:g} {_counted(FONT)} "
            f"T {_n(x)} {_n(y)} {align} {_n(width)} {_counted(text)}"
        )


def _counted(text: str) -> str:
    safe = text.replace("\\", "∖")  # DOT would keep a doubled backslash, and the count would be wrong
    return f"{len(safe.encode('utf-8'))} -{safe}"


def _square(x: float, y: float, r: float) -> str:
    return " ".join(f"{_n(x + dx)} {_n(y + dy)}" for dx, dy in ((-r, -r), (r, -r), (r, r), (-r, r)))


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _numbers(name: str, values: Sequence[float]) -> list[float]:
    try:
        return [float(v) for v in values]
    except (TypeError, ValueError) as error:
        raise AttributeValueError(
            f"the metric {plain(name)!r} is not a list of numbers, one an epoch: {values!r:.80}"
        ) from error
