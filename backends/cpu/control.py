"""The names that only the dispatcher is written in: pointers from addresses, calls of kernels, copies of bytes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from dlc.backends.cpu.prelude import I1, I8, I64, name


@name
def pointer_at(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to int64."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        return b.inttoptr(values[0], I64.as_pointer())

    return types.CPointer(types.int64)(types.int64), emit


@name
def call(typingctx: Any, address: Any, bases: Any, args: Any, first: Any) -> Any:
    """Call the kernel at an address on the bases and on its arguments, which begin at number `first`."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        kernel, bases, args, first = values
        pointer = I64.as_pointer()
        function = ir.FunctionType(ir.VoidType(), [pointer, pointer]).as_pointer()
        b.call(b.inttoptr(kernel, function), [bases, b.gep(args, [first], inbounds=True)])
        return context.get_dummy_value()

    pointers = types.CPointer(types.int64)
    return types.none(types.int64, pointers, pointers, types.int64), emit


@name
def move(typingctx: Any, target: Any, source: Any, nbytes: Any) -> Any:
    """Copy bytes between addresses that do not overlap, or are equal."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        target, source, nbytes = values
        pointer = I8.as_pointer()
        copy = b.module.declare_intrinsic("llvm.memmove", [pointer, pointer, I64])
        b.call(copy, [b.inttoptr(target, pointer), b.inttoptr(source, pointer), nbytes, ir.Constant(I1, 0)])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), emit
