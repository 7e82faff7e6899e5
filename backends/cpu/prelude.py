"""The names that generated kernels are written in: typed pointers, arithmetic, conversions and the status block.

Each is a Numba intrinsic that emits its LLVM IR in place, so that a kernel is one function and calls nothing but the
C library. Everything stays in the dtype of its operands: float32 never widens.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core import imputils
from numba.core.imputils import RefType, iternext_impl
from numba.core.typing import templates
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import models, register_model

from dlc import dtypes
from dlc.backends.cpu import philox, vector_math
from dlc.backends.cpu.vector_math import llvm

ACCESS = "dlc.access"  # marks accesses that iterations of an independent loop do not share
INDEPENDENT = "dlc.independent"  # a call of this marks the loop around it; it is gone before LLVM sees the module
I1, I8, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(64)
DTYPES = {"boolean" if n == "bool" else n: getattr(types, "boolean" if n == "bool" else n) for n in dtypes.ALL}
TYPING, LOWERING = templates.Registry(), imputils.Registry("dlc")  # our own, so that nobody else's Numba sees them
NAMES: dict[str, Any] = {"inf": float("inf"), "nan": float("nan")}

# ---------------------------------------------------------------- typed pointers


class Buffer(types.Type):
    """A pointer to the elements of a dense array."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Buffer({dtype})")


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


def access(b: Any, instruction: Any) -> Any:
    """Mark a load or store as one that independent iterations do not share."""
    instruction.set_metadata("llvm.access.group", b.module.add_metadata([ir.MetaDataString(b.module, ACCESS)]))
    return instruction


@LOWERING.lower(operator.getitem, Buffer, types.Integer)
def _load(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = access(b, b.load(b.gep(args[0], [args[1]], inbounds=True)))
    return b.icmp_unsigned("!=", value, ir.Constant(I8, 0)) if sig.return_type == types.boolean else value


@LOWERING.lower(operator.setitem, Buffer, types.Integer, types.Any)
def _store(context: Any, b: Any, sig: Any, args: Any) -> Any:
    buffer, index, value = args
    value = b.zext(value, I8) if sig.args[2] == types.boolean else value
    access(b, b.store(value, b.gep(buffer, [index], inbounds=True)))
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


def _named(text: str, typing: Callable[..., Any], literals: bool = False) -> None:
    NAMES[text] = Intrinsic(typing, text, literals)


def name(typing: Callable[..., Any]) -> Callable[..., Any]:
    """Enter an intrinsic into the names that kernels are written in."""
    _named(typing.__name__, typing)
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
        return Buffer(dtype)(length), emit

    _named(f"pointer_{text}", pointer)
    _named(f"local_{text}", local, literals=True)


for _text, _dtype in DTYPES.items():
    _define_pointers(_text, _dtype)


# ---------------------------------------------------------------- loops


class Range(types.SimpleIterableType):
    """An ascending range of int64."""

    def __init__(self, independent: bool) -> None:
        self.independent = independent
        super().__init__(f"Range({independent})", RangeIterator(independent))


class RangeIterator(types.SimpleIteratorType):
    """What a loop over a range keeps."""

    def __init__(self, independent: bool) -> None:
        self.independent = independent
        super().__init__(f"RangeIterator({independent})", types.int64)


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


def _define_range(text: str, independent: bool) -> None:
    def span(typingctx: Any, start: Any, stop: Any, step: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            made = cgutils.create_struct_proxy(sig.return_type)(context, b)
            made.start, made.stop, made.step = values
            return made._getvalue()

        return Range(independent)(types.int64, types.int64, types.int64), emit

    _named(text, span)


_define_range("span", False)  # Python's range, without Numba's check of the step, which costs a division
_define_range("independent", True)  # a span whose iterations touch no memory in common: they may run side by side


@LOWERING.lower("getiter", Range)
def _iterator(context: Any, b: Any, sig: Any, args: Any) -> Any:
    bounds = cgutils.create_struct_proxy(sig.args[0])(context, b, args[0])
    made = cgutils.create_struct_proxy(sig.return_type)(context, b)
    made.next = cgutils.alloca_once_value(b, bounds.start)
    made.stop, made.step = bounds.stop, bounds.step
    return made._getvalue()


@LOWERING.lower("iternext", RangeIterator)
@iternext_impl(RefType.UNTRACKED)
def _advance(context: Any, b: Any, sig: Any, args: Any, result: Any) -> None:
    if sig.args[0].independent:
        b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(ir.VoidType(), []), INDEPENDENT), [])
    iterator = cgutils.create_struct_proxy(sig.args[0])(context, b, args[0])
    value = b.load(iterator.next)
    result.set_valid(b.icmp_signed("<", value, iterator.stop))
    result.yield_(value)
    b.store(b.add(value, iterator.step, flags=("nsw",)), iterator.next)


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
            clear = b.icmp_signed("==", b.load(status), ir.Constant(I64, 0))
            with b.if_then(clear):
                for i, value in enumerate([ir.Constant(I64, 1), *report]):
                    b.store(value, b.gep(status, [ir.Constant(I64, i)], inbounds=True))
        return context.get_dummy_value()

    long = types.int64
    return types.none(types.boolean, status, long, long, long, long), emit


# ---------------------------------------------------------------- conversions


def convert(b: Any, value: Any, source: Any, target: Any) -> Any:
    """`value` as NumPy's astype gives it. What NumPy leaves undefined (floats beyond the integers' range) saturates."""
    if source == target:
        return value
    if target == types.boolean:
        zero = ir.Constant(value.type, 0)
        return b.fcmp_unordered("!=", value, zero) if isinstance(source, types.Float) else b.icmp_signed("!=", value, zero)
    kind = {32: ir.FloatType(), 64: ir.DoubleType()}[target.bitwidth] if isinstance(target, types.Float) else ir.IntType(target.bitwidth)
    if isinstance(source, types.Float):
        if isinstance(target, types.Float):
            return (b.fpext if target.bitwidth > source.bitwidth else b.fptrunc)(value, kind)
        return _truncated(b, value, target, kind)
    unsigned = source == types.boolean or not source.signed
    if isinstance(target, types.Float):
        return (b.uitofp if unsigned else b.sitofp)(value, kind)
    if value.type.width == kind.width:
        return value
    if value.type.width > kind.width:
        return b.trunc(value, kind)
    return (b.zext if unsigned else b.sext)(value, kind)


def _truncated(b: Any, value: Any, target: Any, kind: Any) -> Any:
    """A float towards zero; narrow integers keep the low bits of a wider one, as on the machines NumPy runs on."""
    wide = kind.width if target.bitwidth == 64 or target == types.int32 else 64 if target == types.uint32 else 32
    rule = "fptoui" if target == types.uint64 else "fptosi"
    whole = vector_math.call(
        b, f"llvm.{rule}.sat.i{wide}.{'f32' if value.type == ir.FloatType() else 'f64'}", value, result=ir.IntType(wide)
    )
    return whole if wide == kind.width else b.trunc(whole, kind)


def _define_conversion(text: str, target: Any) -> None:
    def conversion(typingctx: Any, x: Any) -> Any:
        x = types.unliteral(x)

        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            return convert(b, values[0], x, target)

        return (target(x), emit) if isinstance(x, (types.Integer, types.Float, types.Boolean)) else None

    _named(text, conversion)


for _text, _dtype in DTYPES.items():
    _define_conversion(_text, _dtype)


def _define_extreme(text: str, floating: float, highest: bool) -> None:
    def extreme(typingctx: Any, constructor: Any) -> Any:
        target = next((DTYPES[n] for n in DTYPES if getattr(constructor, "typing_key", None) is NAMES[n]), None)
        if target is None:
            return None

        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            if isinstance(target, types.Float):
                return context.get_constant(target, floating)
            return context.get_constant(target, target.maxval if highest else target.minval)

        return target(constructor), emit

    _named(text, extreme)


_define_extreme("lowest", float("-inf"), highest=False)
_define_extreme("highest", float("inf"), highest=True)

# ---------------------------------------------------------------- arithmetic


def _elementary(text: str, operands: int, emit: Callable[..., Any], result: Any = None) -> None:
    """An intrinsic on operands of one dtype; `emit` takes the builder, the Numba type and the values."""

    def build(*xs: Any) -> Any:
        kinds = [types.unliteral(x) for x in xs]
        if any(kind != kinds[0] for kind in kinds):
            return None
        return (result or kinds[0])(*kinds), lambda context, b, sig, values: emit(b, kinds[0], *values)

    if operands == 1:
        _named(text, lambda typingctx, x: build(x))
    else:
        _named(text, lambda typingctx, x, y: build(x, y))


def _is_float(kind: Any) -> bool:
    return isinstance(kind, types.Float)


def _accumulate(b: Any, kind: Any, x: Any, y: Any) -> Any:
    return b.fadd(x, y, flags=("reassoc", "contract")) if _is_float(kind) else b.add(x, y)


def _extremum(sign: str, text: str) -> Callable[..., Any]:
    def emit(b: Any, kind: Any, x: Any, y: Any) -> Any:
        if _is_float(kind):  # LLVM's maximum and minimum give NaN if either is; which zero wins is left open
            found = llvm(b, text, x, y)
            found.fastmath.add("nsz")
            return found
        compare = b.icmp_signed if kind.signed else b.icmp_unsigned
        return b.select(compare(sign, x, y), x, y)

    return emit


def _sign(b: Any, kind: Any, x: Any) -> Any:
    zero, one, less = (ir.Constant(x.type, v) for v in (0, 1, -1))
    if _is_float(kind):
        y = b.select(b.fcmp_ordered("<", x, zero), less, x)
        return b.select(b.fcmp_ordered(">", x, zero), one, y)
    return b.select(b.icmp_signed(">", x, zero), one, b.select(b.icmp_signed("<", x, zero), less, zero))


def _relu(b: Any, kind: Any, x: Any) -> Any:
    zero = ir.Constant(x.type, 0)
    below = b.fcmp_ordered("<", x, zero) if _is_float(kind) else b.icmp_signed("<", x, zero)
    return b.select(below, zero, x)


def _abs(b: Any, kind: Any, x: Any) -> Any:
    if _is_float(kind):
        return llvm(b, "fabs", x)
    return b.select(b.icmp_signed("<", x, ir.Constant(x.type, 0)), b.neg(x), x)


def _masked_multiply(b: Any, kind: Any, g: Any, d: Any) -> Any:
    zero = ir.Constant(g.type, 0)
    return b.select(b.fcmp_ordered("==", g, zero), zero, b.fmul(g, d))


def _divided(b: Any, kind: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Integer quotient towards minus infinity and remainder; division by 0 gives 0 for both, overflow wraps."""
    zero, one = ir.Constant(x.type, 0), ir.Constant(x.type, 1)
    by_zero = b.icmp_signed("==", y, zero)
    unsafe = by_zero
    if kind.signed:
        lowest = b.icmp_signed("==", x, ir.Constant(x.type, kind.minval))
        unsafe = b.or_(by_zero, b.and_(lowest, b.icmp_signed("==", y, ir.Constant(x.type, -1))))
    safe = b.select(unsafe, one, y)
    if not kind.signed:
        q, r = b.udiv(x, safe), b.urem(x, safe)
    else:
        q, r = b.sdiv(x, safe), b.srem(x, safe)
        off = b.and_(b.icmp_signed("!=", r, zero), b.icmp_signed("<", b.xor(r, safe), zero))
        q, r = b.select(off, b.sub(q, one), q), b.select(off, b.add(r, safe), r)
    return b.select(by_zero, zero, q), b.select(by_zero, zero, r)


def _float_divided(b: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """floor(x / y) by way of the exact remainder, and that remainder with the sign of y, as NumPy defines them."""
    zero, one = ir.Constant(x.type, 0.0), ir.Constant(x.type, 1.0)
    r = b.frem(x, y)
    q = b.fdiv(b.fsub(x, r), y)
    exact = b.fcmp_ordered("==", r, zero)
    off = b.and_(b.not_(exact), b.xor(b.fcmp_ordered("<", y, zero), b.fcmp_ordered("<", r, zero)))
    r = b.select(off, b.fadd(r, y), b.select(exact, llvm(b, "copysign", zero, y), r))
    q = b.select(off, b.fsub(q, one), q)
    whole = llvm(b, "floor", q)
    whole = b.select(b.fcmp_ordered(">", b.fsub(q, whole), ir.Constant(x.type, 0.5)), b.fadd(whole, one), whole)
    whole = b.select(b.fcmp_ordered("==", q, zero), llvm(b, "copysign", zero, b.fdiv(x, y)), whole)
    by_zero = b.fcmp_ordered("==", y, zero)
    return b.select(by_zero, b.fdiv(x, y), whole), b.select(by_zero, b.frem(x, y), r)


def _floor_divide(b: Any, kind: Any, x: Any, y: Any) -> Any:
    return (_float_divided(b, x, y) if _is_float(kind) else _divided(b, kind, x, y))[0]


def _remainder(b: Any, kind: Any, x: Any, y: Any) -> Any:
    return (_float_divided(b, x, y) if _is_float(kind) else _divided(b, kind, x, y))[1]


def _isfinite(b: Any, kind: Any, x: Any) -> Any:
    return b.fcmp_ordered("<", llvm(b, "fabs", x), ir.Constant(x.type, float("inf")))


_elementary("accumulate", 2, _accumulate)
_elementary("lesser", 2, lambda b, kind, x, y: b.select(b.icmp_signed("<", x, y), x, y))  # of dims and indices
_elementary("greater", 2, lambda b, kind, x, y: b.select(b.icmp_signed(">", x, y), x, y))
_elementary("maximum", 2, _extremum(">", "maximum"))
_elementary("minimum", 2, _extremum("<", "minimum"))
_elementary("masked_multiply", 2, _masked_multiply)
_elementary("floor_divide", 2, _floor_divide)
_elementary("remainder", 2, _remainder)
_elementary("power", 2, lambda b, kind, x, y: llvm(b, "pow", x, y))
_elementary("sign", 1, _sign)
_elementary("absolute", 1, _abs)
_elementary("relu", 1, _relu)
_elementary("invert", 1, lambda b, kind, x: b.not_(x))
_elementary("isnan", 1, lambda b, kind, x: b.fcmp_unordered("uno", x, x), result=types.boolean)
_elementary("isfinite", 1, _isfinite, result=types.boolean)
for _text, _emit in vector_math.UNARY.items():
    _elementary(_text, 1, lambda b, kind, x, emit=_emit: emit(b, x))


@name
def select(typingctx: Any, condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; both are evaluated."""
    kind = types.unliteral(x)
    if types.unliteral(y) != kind:
        return None
    return kind(types.boolean, kind, kind), lambda context, b, sig, values: b.select(*values)


@name
def random_word(typingctx: Any, seed: Any, step: Any, site: Any, index: Any, word: Any) -> Any:
    """32 random bits, held as uint64: word 0 to 3 of an element's draw."""
    places = (types.int64,) * 4
    return types.uint64(types.uint64, *places), lambda context, b, sig, values: philox.random_word(b, *values)
