"""Choices between bodies, and loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from dlc import ops
from dlc.dims import Dim, DimLike
from dlc.errors import DlcError, DTypeError, FileFormatError, ShapeError, UnsupportedError
from dlc.frontend.onnx.call import Call, Importer, Value
from dlc.ops.definition import Kind
from dlc.ops.tensor import Tensor
from dlc.passes.vmap import vmap

MAX_UNROLLED = 1000  # steps of a Loop that is read one by one

Step: TypeAlias = Callable[..., list[Value]]


def _if(c: Call) -> list[Value] | list[Tensor]:
    """The branch that a condition known from the file takes, or a choice between both."""
    branches = c.body("then_branch"), c.body("else_branch")
    condition = c.known(0)
    if condition is None:
        then, otherwise = (lambda b=b: tuple(v.as_tensor() for v in b()) for b in branches)
        try:
            return list(ops.cond(_one_bool(c, 0), then, otherwise))
        except (DTypeError, ShapeError):  # of sequences, or of tensors that differ, one is known while reading
            condition = c.static(0)
    if condition.size != 1:
        raise FileFormatError(f"{c.place}: the condition must be one bool")
    return branches[0 if condition.item() else 1]()


def _one_bool(c: Call, number: int) -> Tensor:
    """A condition, which may have axes of 1."""
    t = c[number]
    if t.dtype != "bool" or any(d != 1 for d in t.shape):
        raise FileFormatError(f"{c.place}: the condition is {t.type}, not one bool")
    return ops.reshape(t, ())


def _loop(c: Call) -> list[Any]:
    """A loop where the body is the same graph in each step; else, where it ends is known, its steps one by one."""
    body = c.body("body")
    carries = len(c.operands) - 2
    if not 0 <= carries <= c.results:
        raise FileFormatError(f"{c.place}: {c.results} results for {carries} carried values")

    def step(number: Tensor | Value, goes_on: Value, *carry: Tensor | Value) -> list[Value]:
        turn = number.as_tensor() if isinstance(number, Value) else number
        found = body(number, goes_on, *carry, turn=turn)
        if len(found) != 1 + c.results:
            raise FileFormatError(f"{c.place}: the body has {len(found)} outputs, not {1 + c.results}")
        return found

    try:
        return _rolled(c, step, [c[i] for i in range(2, 2 + carries)])
    except (UnsupportedError, ShapeError, DTypeError) as error:
        return _unrolled(c, step, carries, error)


def _rolled(c: Call, step: Step, start: list[Tensor]) -> list[Tensor]:
    """A scan where the number of steps is known, a while_loop otherwise; the latter stacks nothing."""
    stacked = c.results - len(start)
    first_known = c.static if stacked else c.known  # how many steps there are decides the shape of what is stacked
    goes_on = first_known(1) if c.has(1) else np.array(True)
    always = goes_on is not None and _always(step, start)
    if stacked or (always and (not c.has(0) or c.known(0) is not None)):
        if not always:
            raise c.unsupported("a Loop that stacks results and stops by a condition that it computes")
        if not c.has(0):
            raise c.unsupported("a Loop without end")
        length = c.number(0) if goes_on is not None and goes_on.all() else 0
        return _counted(step, start, length if isinstance(length, Dim) else max(length, 0))
    first = _one_bool(c, 1) if c.has(1) else ops.constant(True)

    def once(number: Tensor, goes_on: Tensor, *carry: Tensor) -> tuple[Tensor, ...]:
        new, *rest = step(number, Value(goes_on), *carry)
        return number + 1, ops.reshape(new.as_tensor(), ()), *(v.as_tensor() for v in rest)

    most = ops.reshape(c[0], ()) if c.has(0) else None

    def holds(number: Tensor, goes_on: Tensor, *_: Tensor) -> Tensor:
        return goes_on if most is None else ops.bitwise_and(goes_on, ops.less(number, most))

    return list(ops.while_loop(holds, once, ops.scalar(0, "int64"), first, *start)[2:])


def _unrolled(c: Call, step: Step, carries: int, error: DlcError) -> list[Tensor | Value]:
    """Step after step, with the number of each known: so shapes may depend on it, and differ between steps."""
    length = c.number(0) if c.has(0) else MAX_UNROLLED + 1
    if isinstance(length, Dim):
        raise error
    goes_on = Value(static=np.array(True if not c.has(1) else bool(c.number(1))))
    carry = [c.value(i) for i in range(2, 2 + carries)]
    rows: list[list[Tensor]] = []
    while len(rows) < length and c.known_value(goes_on, "the condition").all():
        if len(rows) == MAX_UNROLLED:
            message = f"{c.place}: of its {error.message}; so its steps are read one by one, of which there are more"
            raise UnsupportedError(f"{message} than {MAX_UNROLLED}") from error
        goes_on, *found = step(Value(static=np.array(len(rows), np.int64)), goes_on, *carry)
        carry = found[:carries]
        rows.append([v.as_tensor() for v in found[carries:]])
    if not rows and c.results > carries:
        raise c.unsupported("a Loop of no steps, where the shapes of what it stacks depend on the step") from error
    return [*carry, *(ops.stack(column) for column in zip(*rows, strict=True))]


def _always(step: Step, start: list[Tensor]) -> bool:
    """Whether the body hands a true condition on, so that the number of steps alone ends the loop."""
    carry = [ops.input(f"carry{i}", t.shape, t.dtype) for i, t in enumerate(start)]
    value = step(ops.input("step", (), "int64"), Value(static=np.array(True)), *carry)[0]
    node = value.as_tensor().node
    while node.op.kind is Kind.VIEW or node.op.name == "astype":
        node = node.inputs[0]
    return node.op.name == "constant" and bool(node.attrs["value"].array.all())


def _counted(step: Step, start: list[Tensor], length: DimLike) -> list[Tensor]:
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
        return _batched_scan(c)
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
    if draws := body.draws:
        xs.append(ops.iota((xs[0].shape[0],), 0))

    def step(carry: tuple[Tensor, ...], x: tuple[Tensor, ...]) -> Any:
        found = [v.as_tensor() for v in body(*carry, *x[:slices], turn=x[slices] if draws else None)]
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


def _batched_scan(c: Call) -> list[Tensor]:
    """Opset 8: the body is of one sample of a batch, and operand 0 has the lengths of the sequences."""
    body, slices = c.body("body"), c.int("num_scan_inputs", 0)
    carries = len(c.operands) - 1 - slices
    if slices < 1 or carries < 0 or c.results < carries:
        raise FileFormatError(f"{c.place}: num_scan_inputs={slices} does not fit {len(c.operands)} operands")
    ways = _axes(c, "directions", slices, 1)
    given = [c[i] for i in range(1, len(c.operands))]
    if any(t.ndim < 2 for t in given[carries:]):
        raise FileFormatError(f"{c.place}: a sequence has an axis of samples and one of steps")
    if c.has(0):
        if any(ways):
            raise c.unsupported("a Scan that goes backwards over sequences of different lengths")
        given.append(ops.astype(c[0], "int64"))

    def sample(*parts: Tensor) -> tuple[Tensor, ...]:
        xs = [ops.flip(x, 0) if way else x for x, way in zip(parts[carries:], ways, strict=False)]
        length = parts[-1] if c.has(0) else None

        def step(carry: tuple[Tensor, ...], x: tuple[Tensor, ...]) -> Any:
            found = [v.as_tensor() for v in body(*carry, *x[:slices], turn=x[slices])]
            if len(found) != c.results:
                raise FileFormatError(f"{c.place}: the body has {len(found)} outputs, not {c.results}")
            if length is not None:  # beyond it the state stays, and the outputs are 0
                olds = [*carry, *(ops.zeros_like(y) for y in found[carries:])]
                found = [ops.where(ops.less(x[slices], length), y, o) for y, o in zip(found, olds, strict=True)]
            return tuple(found[:carries]), tuple(found[carries:])

        last, ys = ops.scan(step, tuple(parts[:carries]), (*xs, ops.iota((xs[0].shape[0],), 0)))
        return *last, *ys

    return list(vmap(sample, randomness="different")(*given))


CONTROL: dict[str, Importer] = {"If": _if, "Loop": _loop, "Scan": _scan}
