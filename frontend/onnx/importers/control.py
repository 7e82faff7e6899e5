"""Choices between bodies, and loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import Dim, DimLike
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer, Value
from dlc.ops.definition import Kind
from dlc.ops.tensor import Tensor


def _if(c: Call) -> list[Value] | list[Tensor]:
    """The branch that a condition known from the file takes, or a choice between both."""
    branches = c.body("then_branch"), c.body("else_branch")
    condition = c.known(0)
    if condition is None:
        then, otherwise = (lambda b=b: tuple(v.as_tensor() for v in b()) for b in branches)
        return list(ops.cond(_one_bool(c, 0), then, otherwise))
    if condition.size != 1:
        raise FileFormatError(f"{c.place}: the condition must be one bool")
    return branches[0 if condition.item() else 1]()


def _one_bool(c: Call, number: int) -> Tensor:
    """A condition, which may have axes of 1."""
    t = c[number]
    if t.dtype != "bool" or any(d != 1 for d in t.shape):
        raise FileFormatError(f"{c.place}: the condition is {t.type}, not one bool")
    return ops.reshape(t, ())


def _loop(c: Call) -> list[Tensor]:
    """A scan where the number of steps is known, a while_loop otherwise; the latter stacks nothing."""
    body = c.body("body")
    start = [c[i] for i in range(2, len(c.operands))]
    carries, stacked = len(start), c.results - len(start)
    if stacked < 0:
        raise FileFormatError(f"{c.place}: {c.results} results for {carries} carried values")

    def step(number: Tensor, goes_on: Value, *carry: Tensor) -> list[Value]:
        found = body(number, goes_on, *carry)
        if len(found) != 1 + c.results:
            raise FileFormatError(f"{c.place}: the body has {len(found)} outputs, not {1 + c.results}")
        return found

    first_known = c.static if stacked else c.known  # how many steps there are decides the shape of what is stacked
    goes_on = first_known(1) if c.has(1) else np.array(True)
    always = goes_on is not None and _always(step, start)
    if stacked or (always and (not c.has(0) or c.known(0) is not None)):
        if not always:
            raise c.unsupported("a Loop that stacks results and stops by a condition that it computes")
        if not c.has(0):
            raise c.unsupported("a Loop without end")
        length = c.number(0) if goes_on is not None and goes_on.all() else 0
        return _counted(c, step, start, length if isinstance(length, Dim) else max(length, 0))
    first = _one_bool(c, 1) if c.has(1) else ops.constant(True)

    def once(number: Tensor, goes_on: Tensor, *carry: Tensor) -> tuple[Tensor, ...]:
        new, *rest = step(number, Value(goes_on), *carry)
        return number + 1, ops.reshape(new.as_tensor(), ()), *(v.as_tensor() for v in rest)

    most = ops.reshape(c[0], ()) if c.has(0) else None

    def holds(number: Tensor, goes_on: Tensor, *_: Tensor) -> Tensor:
        return goes_on if most is None else ops.bitwise_and(goes_on, ops.less(number, most))

    return list(ops.while_loop(holds, once, ops.scalar(0, "int64"), first, *start)[2:])


def _always(step: Any, start: list[Tensor]) -> bool:
    """Whether the body hands a true condition on, so that the number of steps alone ends the loop."""
    carry = [ops.input(f"carry{i}", t.shape, t.dtype) for i, t in enumerate(start)]
    value = step(ops.input("step", (), "int64"), Value(static=np.array(True)), *carry)[0]
    node = value.as_tensor().node
    while node.op.kind is Kind.VIEW or node.op.name == "astype":
        node = node.inputs[0]
    return node.op.name == "constant" and bool(node.attrs["value"].array.all())


def _counted(c: Call, step: Any, start: list[Tensor], length: DimLike) -> list[Tensor]:
    def body(carry: tuple[Tensor, ...], number: Tensor) -> Any:
        found = [v.as_tensor() for v in step(number, Value(static=np.array(True)), *carry)[1:]]
        return tuple(found[: len(start)]), tuple(found[len(start) :])

    last, ys = ops.scan(body, tuple(start), ops.iota((length,), 0))
    return [*last, *ys]


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


CONTROL: dict[str, Importer] = {"If": _if, "Loop": _loop, "Scan": _scan}
