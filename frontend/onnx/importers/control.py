"""Choices between bodies, and loops."""

from __future__ import annotations

from typing import Any

from dlc import ops
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer, Value
from dlc.ops.tensor import Tensor


def _if(c: Call) -> list[Value]:
    """The branch that a condition known from the file takes."""
    condition = c.static(0)
    if condition.size != 1:
        raise FileFormatError(f"{c.place}: the condition must be one bool")
    branches = c.body("then_branch"), c.body("else_branch")
    return branches[0 if condition.item() else 1]()


def _axes(c: Call, name: str, count: int, most: int) -> list[int]:
    values = c.ints(name, [0] * count)
    assert values is not None
    if len(values) != count or any(not 0 <= v <= most for v in values):
        raise FileFormatError(f"{c.place}: {name} must be {count} ints from 0 to {most}, not {values[:8]}")
    return values


def _scan(c: Call) -> list[Tensor]:
    """A scan along axis 0; operands and results whose axis is another are turned before and after."""
    if c.opset < 9:
        raise c.unsupported("Scan before opset 9")
    body, slices = c.body("body"), c.int("num_scan_inputs", 0)
    carries = len(c.operands) - slices
    if slices < 1 or carries < 0 or c.results < carries:
        raise FileFormatError(f"{c.place}: num_scan_inputs={slices} does not fit {len(c.operands)} operands")
    stacked = c.results - carries
    ways = _axes(c, "scan_input_directions", slices, 1)
    back = _axes(c, "scan_output_directions", stacked, 1)
    reverse = bool(ways[0])
    xs = []
    axes = _axes(c, "scan_input_axes", slices, 63)
    for i, (axis, way) in enumerate(zip(axes, ways, strict=True)):
        x = c[carries + i]
        if axis >= x.ndim:
            raise FileFormatError(f"{c.place}: {x.type} has no axis {axis}")
        x = ops.moveaxis(x, axis, 0) if axis else x
        xs.append(x if bool(way) == reverse else ops.flip(x, 0))

    def step(carry: tuple[Tensor, ...], x: tuple[Tensor, ...]) -> Any:
        found = [v.as_tensor() for v in body(*carry, *x)]
        if len(found) != c.results:
            raise FileFormatError(f"{c.place}: the body has {len(found)} outputs, not {c.results}")
        return tuple(found[:carries]), tuple(found[carries:])

    last, ys = ops.scan(step, tuple(c[i] for i in range(carries)), tuple(xs), reverse=reverse)
    results = []
    for y, axis, way in zip(ys, _axes(c, "scan_output_axes", stacked, 63), back, strict=True):
        if axis >= y.ndim:
            raise FileFormatError(f"{c.place}: {y.type} has no axis {axis}")
        turned = y if bool(way) == reverse else ops.flip(y, 0)
        results.append(ops.moveaxis(turned, 0, axis) if axis else turned)
    return [*last, *results]


CONTROL: dict[str, Importer] = {"If": _if, "Scan": _scan}
