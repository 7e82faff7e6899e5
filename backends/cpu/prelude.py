"""The names that generated kernels are written in: typed pointers, loops and the status block; arithmetic.py adds more.

Each is a Numba intrinsic that emits its LLVM IR in place, so that a kernel is one function and calls nothing but the
C library. Everything stays in the dtype of its operands: float32 never widens.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.ir.values import MDValue
from numba.core import cgutils, imputils, types
from numba.core.typing import templates
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import models, register_model

from dlc import dtypes

ACCESS = "dlc.access"  # marks accesses that iterations of an independent loop do not share
OWN = "dlc.own"  # marks accesses to a kernel's own arrays, which iterations of an innermost one do not share
INDEPENDENT = "dlc.independent"  # a call of this marks the loop around it; it is gone before LLVM sees the module
I1, I8, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(64)
TYPING, LOWERING = templates.Registry(), imputils.Registry("dlc")  # our own, so that nobody else's Numba sees them
NAMES: dict[str, Any] = {"inf": float("inf"), "nan": float("nan")}

# ---------------------------------------------------------------- dtypes


class Half(types.Type):
    """A float of 16 bits, which is only moved and converted: its bits, without arithmetic."""


@register_model(Half)
class HalfModel(models.PrimitiveModel):
    """16 bits."""

    def __init__(self, manager: Any, fe_type: Half) -> None:
        super().__init__(manager, fe_type, ir.IntType(16))


def _numba_type(dtype: str) -> Any:
    return Half(dtype) if dtype in dtypes.HALF else getattr(types, "boolean" if dtype == "bool" else dtype)


DTYPES = {"boolean" if n == "bool" else n: _numba_type(n) for n in dtypes.ALL}

# ---------------------------------------------------------------- typed pointers


class Buffer(types.Type):
    """A pointer to the elements of a dense array; `own` says of one that only the running task sees."""

    def __init__(self, dtype: types.Type, own: bool = False) -> None:
        self.dtype, self.own = dtype, own
        super().__init__(name=f"Buffer({dtype}, {own})")


@register_model(Buffer)
class BufferModel(models.PrimitiveModel):
    """A pointer to elements as they lie in memory, bools as bytes."""

    def __init__(self, manager: Any, fe_type: Buffer) -> None:
        element = manager.lookup(fe_type.dtype).get_data_type()
        super().__init__(manager, fe_type, element.as_pointer())


@TYPING.register_global(operator.getitem)
class BufferGet(AbstractTemplate):
    """buffer[index]"""

    def generic(self, args: Any, kws: Any) -> Any:
        buffer, index = args
        if isinstance(buffer, Buffer) and isinstance(index, types.Integer):
            return signature(buffer.dtype, buffer, types.int64)
        return None


@TYPING.register_global(operator.setitem)
class BufferSet(AbstractTemplate):
    """buffer[index] = value"""

    def generic(self, args: Any, kws: Any) -> Any:
        buffer, index, value = args
        if isinstance(buffer, Buffer) and isinstance(index, types.Integer) and value == buffer.dtype:
            return signature(types.none, buffer, types.int64, value)
        return None


def _access(b: Any, instruction: Any, buffer: Buffer) -> Any:
    """Mark a load or store as one that independent iterations do not share."""
    mark = ir.MetaDataString(b.module, OWN if buffer.own else ACCESS)
    instruction.set_metadata("llvm.access.group", b.module.add_metadata([mark]))
    return instruction


@LOWERING.lower(operator.getitem, Buffer, types.Integer)
def _load(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = _access(b, b.load(b.gep(args[0], [args[1]], inbounds=True)), sig.args[0])
    return b.icmp_unsigned("!=", value, ir.Constant(I8, 0)) if sig.return_type == types.boolean else value


@LOWERING.lower(operator.setitem, Buffer, types.Integer, types.Any)
def _store(context: Any, b: Any, sig: Any, args: Any) -> Any:
    buffer, index, value = args
    value = b.zext(value, I8) if sig.args[2] == types.boolean else value
    _access(b, b.store(value, b.gep(buffer, [index], inbounds=True)), sig.args[0])
    return context.get_dummy_value()


class Intrinsic:
    """A name that kernels may call: `typing(context, *types)` gives a signature and what emits the LLVM IR, or None.

    It does what `numba.extending.intrinsic` does, without waking Numba's own CPU target, which takes a second.
    """

    def __init__(self, typing: Callable[..., Any], text: str, literals: bool) -> None:
        self.text = text

        def generic(template: Any, args: Any, kws: Any) -> Any:
            found = typing(template.context, *args)
            if found is None:
                return None
            template.emitters[found[0].args] = found[1]
            LOWERING.lower(found[1], *found[0].args)(found[1])
            return found[0]

        members = {
            "key": self,
            "generic": generic,
            "prefer_literal": literals,
            "emitters": {},
            "get_impl_key": lambda template, sig: template.emitters[sig.args],
        }
        template = TYPING.register(type(f"Intrinsic_{text}", (AbstractTemplate,), members))
        TYPING.register_global(self, types.Function(template))

    def __repr__(self) -> str:
        return self.text


def define(text: str, typing: Callable[..., Any], literals: bool = False) -> None:
    """Enter an intrinsic into the names under a name of its own."""
    NAMES[text] = Intrinsic(typing, text, literals)


def name(typing: Callable[..., Any]) -> Callable[..., Any]:
    """Enter an intrinsic into the names that kernels are written in."""
    define(typing.__name__, typing)
    return typing


def _define_pointers(text: str, dtype: Any) -> None:
    def pointer(typingctx: Any, bases: Any, args: Any, k: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            bases, args, k = values
            at = b.mul(k, ir.Constant(I64, 2))
            base = b.load(b.gep(args, [at], inbounds=True))
            offset = b.load(b.gep(args, [b.add(at, ir.Constant(I64, 1))], inbounds=True))
            address = b.inttoptr(b.load(b.gep(bases, [base], inbounds=True)), I8.as_pointer())
            place = b.gep(address, [offset], inbounds=True)
            return b.bitcast(place, context.get_value_type(Buffer(dtype)))

        return Buffer(dtype)(bases, args, types.int64), emit

    def local(typingctx: Any, length: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            element = context.get_data_type(dtype)
            with b.goto_entry_block():
                array = b.alloca(ir.ArrayType(element, length.literal_value))
                array.align = 64
            return b.bitcast(array, element.as_pointer())

        if not isinstance(length, types.IntegerLiteral):
            return None
        return Buffer(dtype, own=True)(length), emit

    define(f"pointer_{text}", pointer)
    define(f"local_{text}", local, literals=True)


for _text, _dtype in DTYPES.items():
    _define_pointers(_text, _dtype)


# ---------------------------------------------------------------- loops


class Range(types.SimpleIterableType):
    """An ascending range of int64."""

    def __init__(self, mark: str | None) -> None:
        super().__init__(f"Range({mark})", RangeIterator(mark))


class RangeIterator(types.SimpleIteratorType):
    """What a loop over a range keeps; `mark` is what such a loop calls, for lower.py to find."""

    def __init__(self, mark: str | None) -> None:
        self.mark = mark
        super().__init__(f"RangeIterator({mark})", types.int64)


@register_model(Range)
class RangeModel(models.StructModel):
    """The bounds and the step."""

    def __init__(self, manager: Any, fe_type: Range) -> None:
        super().__init__(manager, fe_type, [(n, types.int64) for n in ("start", "stop", "step")])


@register_model(RangeIterator)
class RangeIteratorModel(models.StructModel):
    """The place of the next value, and the bound and step."""

    def __init__(self, manager: Any, fe_type: RangeIterator) -> None:
        following = ("next", types.EphemeralPointer(types.int64))
        super().__init__(manager, fe_type, [following, ("stop", types.int64), ("step", types.int64)])


def _define_range(text: str, mark: str | None) -> None:
    def span(typingctx: Any, start: Any, stop: Any, step: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            return cgutils.pack_struct(b, values)

        return Range(mark)(types.int64, types.int64, types.int64), emit

    define(text, span)


_define_range("span", None)  # Python's range, without Numba's check of the step, which costs a division
_define_range("independent", INDEPENDENT)  # a span whose iterations touch no memory in common


def _lanes(typingctx: Any, count: Any, width: Any) -> Any:
    """A loop over `count` lanes, independent of each other, in vectors of `width`; both are literals."""
    if not isinstance(count, types.IntegerLiteral) or not isinstance(width, types.IntegerLiteral):
        return None
    total, wide = count.literal_value, width.literal_value

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        return cgutils.pack_struct(b, [ir.Constant(I64, v) for v in (0, total, 1)])

    return Range(f"{INDEPENDENT}.{wide}.{total // wide}")(count, width), emit


define("lanes", _lanes, literals=True)


@LOWERING.lower("getiter", Range)
def _iterator(context: Any, b: Any, sig: Any, args: Any) -> Any:
    start, stop, step = (b.extract_value(args[0], i) for i in range(3))
    with b.goto_entry_block():
        place = b.alloca(I64)
    b.store(start, place)
    return cgutils.pack_struct(b, [place, stop, step])


@LOWERING.lower("iternext", RangeIterator)
def _advance(context: Any, b: Any, sig: Any, args: Any) -> Any:
    """The pair of the next value and whether there is one."""
    if sig.args[0].mark:
        b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(ir.VoidType(), []), sig.args[0].mark), [])
    place, stop, step = (b.extract_value(args[0], i) for i in range(3))
    value = b.load(place)
    b.store(b.add(value, step, flags=("nsw",)), place)
    return cgutils.pack_struct(b, [value, b.icmp_signed("<", value, stop)])


class DistinctNode(MDValue):
    """A metadata node with an identity of its own, whose first operand is itself where LLVM asks for that."""

    def __init__(self, module: Any, values: Any, of_itself: bool) -> None:
        super().__init__(module, values, name=str(len(module.metadata)))
        self.of_itself = of_itself

    def descr(self, buf: Any) -> None:
        """The node's text."""
        operands = [self.get_reference()] if self.of_itself else []
        operands += [op.get_reference() for op in self.operands]
        buf += (f"distinct !{{ {', '.join(operands)} }}", "\n")


# ---------------------------------------------------------------- the status block


@name
def pointer_status(typingctx: Any, bases: Any) -> Any:
    """The status block."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        return b.inttoptr(b.load(values[0]), I64.as_pointer())

    return types.CPointer(types.int64)(bases), emit


@name
def check(typingctx: Any, holds: Any, status: Any, number: Any, operand: Any, index: Any, extent: Any) -> Any:
    """Report an index out of range unless `holds`; the first report stays."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        holds, status, *report = values
        with b.if_then(b.not_(holds), likely=False):
            found = b.cmpxchg(status, ir.Constant(I64, 0), ir.Constant(I64, 1), "monotonic", "monotonic")
            with b.if_then(b.extract_value(found, 1)):  # of several threads one reports
                for i, value in enumerate(report):
                    b.store(value, b.gep(status, [ir.Constant(I64, i + 1)], inbounds=True))
        return context.get_dummy_value()

    long = types.int64
    return types.none(types.boolean, status, long, long, long, long), emit
