"""The names that only the dispatcher and the workers are written in: addresses, calls, copies, atomics and pthreads."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from dlc.backends.cpu.prelude import I1, I8, I64, name

I32 = ir.IntType(32)
WORDS = types.CPointer(types.int64)


@name
def pointer_at(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to int64."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        return b.inttoptr(values[0], I64.as_pointer())

    return WORDS(types.int64), emit


@name
def address_of(typingctx: Any, pointer: Any) -> Any:
    """A pointer as an address."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        return b.ptrtoint(values[0], I64)

    return types.int64(WORDS), emit


@name
def call(typingctx: Any, address: Any, bases: Any, args: Any, first: Any, begin: Any, end: Any) -> Any:
    """Call the kernel at an address, for some tasks, on the bases and its arguments, which begin at number `first`."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        kernel, bases, args, first, begin, end = values
        pointer = I64.as_pointer()
        function = ir.FunctionType(ir.VoidType(), [pointer, pointer, I64, I64]).as_pointer()
        b.call(b.inttoptr(kernel, function), [bases, b.gep(args, [first], inbounds=True), begin, end])
        return context.get_dummy_value()

    long = types.int64
    return types.none(long, WORDS, WORDS, long, long, long), emit


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


@name
def byte_at(typingctx: Any, address: Any) -> Any:
    """The byte at an address, as an int64."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        return b.zext(b.load(b.inttoptr(values[0], I8.as_pointer())), I64)

    return types.int64(types.int64), emit


# ---------------------------------------------------------------- atomics, all sequentially consistent


def _word(b: Any, values: Any) -> Any:
    return b.gep(values[0], [values[1]], inbounds=True)


@name
def look(typingctx: Any, words: Any, i: Any) -> Any:
    """The value of a word."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        return b.load_atomic(_word(b, values), "seq_cst", 8)

    return types.int64(WORDS, types.int64), emit


@name
def put(typingctx: Any, words: Any, i: Any, value: Any) -> Any:
    """Set a word."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        b.store_atomic(values[2], _word(b, values), "seq_cst", 8)
        return context.get_dummy_value()

    return types.none(WORDS, types.int64, types.int64), emit


@name
def swap(typingctx: Any, words: Any, i: Any, expected: Any, value: Any) -> Any:
    """Set a word if it holds what is expected; whether it did."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        found = b.cmpxchg(_word(b, values), values[2], values[3], "seq_cst", "seq_cst")
        return b.extract_value(found, 1)

    return types.boolean(WORDS, types.int64, types.int64, types.int64), emit


@name
def increase(typingctx: Any, words: Any, i: Any, value: Any) -> Any:
    """Add to a word."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        b.atomic_rmw("add", _word(b, values), values[2], "seq_cst")
        return context.get_dummy_value()

    return types.none(WORDS, types.int64, types.int64), emit


# ---------------------------------------------------------------- waiting


@name
def pause(typingctx: Any) -> Any:
    """Tell the core that this is a loop that waits."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.none(), emit


def _library(text: str, function: str, pointers: int) -> None:
    """A function of the C library that takes pointers into the words and gives an int that tells nothing."""

    def typing(typingctx: Any, *args: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            pointer = I8.as_pointer()
            kind = ir.FunctionType(I32, [pointer] * pointers)
            places = [b.bitcast(b.gep(values[0], [i], inbounds=True), pointer) for i in values[1:]]
            b.call(cgutils.get_or_insert_function(b.module, kind, function), places)
            return context.get_dummy_value()

        return types.none(*((WORDS,) if pointers else ()), *[types.int64] * pointers), emit

    typing.__name__ = text
    name(typing)


_library("lock", "pthread_mutex_lock", 1)
_library("unlock", "pthread_mutex_unlock", 1)
_library("wake", "pthread_cond_broadcast", 1)
_library("sleep", "pthread_cond_wait", 2)
_library("give_way", "sched_yield", 0)
