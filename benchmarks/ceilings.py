"""What this machine can do at most: multiply-adds from the first-level cache, and bytes copied out of cache.

Both are measured here, by kernels that do nothing else, so that a benchmark can say how near it comes.
"""

from __future__ import annotations

import ctypes
import statistics
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from dlc.state import aligned_empty

ROWS, VECTORS = 12, 2  # accumulators of a tile, as a matrix product keeps them in registers
STEPS = 64  # steps of the tile's sum that are read again and again: 14 KiB with vectors of 64 bytes
COPIED = 128 << 20  # bytes; several times any cache


class Ceilings(NamedTuple):
    """float32 GFLOP/s on one core and on all threads, and GB/s (read and written) of a copy by all threads."""

    core: float
    threads: float
    copy: float
    streamed: float

    @property
    def bandwidth(self) -> float:
        """GB/s of the quicker copy: what is out of cache is measured against this."""
        return max(self.copy, self.streamed)

    def over(self, other: Ceilings) -> Ceilings:
        """The higher of two measurements: whatever else runs on the machine only lowers them."""
        return Ceilings(*map(max, self, other))

    def __str__(self) -> str:
        return (
            f"multiply-adds from L1 {self.core:.0f} GFLOP/s on one core, {self.threads:.0f} on all threads; "
            f"copying out of cache {self.copy:.1f} GB/s with plain stores, {self.streamed:.1f} GB/s by the C library"
        )


def measure(threads: int, seconds: float = 1.0) -> Ceilings:
    """The ceilings of this machine; each the best of the trials that fit into `seconds`."""
    source, target = np.ones(COPIED // 4, np.float32), np.full(COPIED // 4, 2, np.float32)

    def copied(function: Any, workers: int) -> float:
        share = COPIED // workers // 4096 * 4096
        to, start = target.ctypes.data, source.ctypes.data
        spans = _trials(lambda i: function(to + i * share, start + i * share, share), workers, seconds)
        return 2 * share * workers / min(spans) / 1e9

    several = sorted({1, threads})  # a core may have all of a machine's bandwidth, and the others may be busy
    core = multiply_rate(1, seconds)
    return Ceilings(
        core,
        max(core, multiply_rate(threads, seconds)),
        max(copied(_kernels()[1], n) for n in several),
        max(copied(_memmove(), n) for n in several),
    )


def multiply_rate(threads: int, seconds: float, usual: bool = False) -> float:
    """GFLOP/s that threads reach together in the first-level cache: the best trial, or the usual one."""
    data = aligned_empty((threads, 1 << 14), "float32")
    data[...] = 1

    def multiply(i: int) -> None:
        _kernels()[0](data[i].ctypes.data, data[i].ctypes.data + 4 * ROWS * STEPS, 1000)

    spans = _trials(multiply, threads, seconds)
    flops = threads * 2 * ROWS * VECTORS * _lanes() * STEPS * 1000
    return flops / (statistics.median(spans) if usual else min(spans)) / 1e9


def _trials(work: Callable[[int], None], threads: int, seconds: float) -> list[float]:
    """Seconds of each trial in which all threads did their work at once, from the first start to the last end."""
    barrier = threading.Barrier(threads)
    stop = time.perf_counter() + seconds
    spans: list[list[tuple[float, float]]] = [[] for _ in range(threads)]
    going = True

    def trials(i: int) -> None:
        nonlocal going
        while going:
            barrier.wait()
            began = time.perf_counter()
            work(i)
            spans[i].append((began, time.perf_counter()))
            barrier.wait()
            if i == 0 and time.perf_counter() > stop:
                going = False
            barrier.wait()

    workers = [threading.Thread(target=trials, args=(i,)) for i in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return [max(e for _, e in at) - min(b for b, _ in at) for at in zip(*spans, strict=True)]


def _memmove() -> Any:
    function = ctypes.CDLL(None).memmove
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return function


def _lanes() -> int:
    from dlc.backends.cpu.host import cpu_target

    return cpu_target().vector // 4


@cache
def _kernels() -> tuple[Any, Any]:
    """(tile(a, b, times), copy(target, source, bytes)), which run without the interpreter's lock."""
    from llvmlite import binding

    from dlc.backends.cpu.host import host

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    name, features = host()
    machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(name, features, opt=3)
    module = binding.parse_assembly(_tile(_lanes()) + _copy(_lanes()))
    module.verify()
    _kernels.engine = engine = binding.create_mcjit_compiler(module, machine)  # type: ignore[attr-defined]
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    return kind(engine.get_function_address("tile")), kind(engine.get_function_address("copy"))


def _tile(lanes: int) -> str:
    """LLVM IR of a tile's inner loop: each step broadcasts an element of a for every row and reads vectors of b."""
    v = f"<{lanes} x float>"
    cells = [(r, c) for r in range(ROWS) for c in range(VECTORS)]
    lines = [
        f"declare {v} @llvm.fma.v{lanes}f32({v}, {v}, {v})",
        "define void @tile(ptr %a, ptr %b, i64 %times) {",
        "entry:",
        "  %all = mul i64 %times, " + str(STEPS),
        "  br label %loop",
        "loop:",
        "  %n = phi i64 [0, %entry], [%n1, %loop]",
    ]
    lines += [f"  %c{r}_{c} = phi {v} [zeroinitializer, %entry], [%d{r}_{c}, %loop]" for r, c in cells]
    lines += [
        f"  %s = and i64 %n, {STEPS - 1}",
        f"  %at = mul i64 %s, {ROWS}",
        f"  %bt = mul i64 %s, {VECTORS * lanes}",
    ]
    lines += ["  %pa = getelementptr float, ptr %a, i64 %at", "  %pb = getelementptr float, ptr %b, i64 %bt"]
    for c in range(VECTORS):
        lines.append(f"  %q{c} = getelementptr float, ptr %pb, i64 {c * lanes}")
        lines.append(f"  %b{c} = load {v}, ptr %q{c}, align 4")
    for r in range(ROWS):
        lines.append(f"  %p{r} = getelementptr float, ptr %pa, i64 {r}")
        lines.append(f"  %e{r} = load float, ptr %p{r}")
        lines.append(f"  %i{r} = insertelement {v} poison, float %e{r}, i32 0")
        lines.append(f"  %a{r} = shufflevector {v} %i{r}, {v} poison, <{lanes} x i32> zeroinitializer")
    lines += [f"  %d{r}_{c} = call {v} @llvm.fma.v{lanes}f32({v} %a{r}, {v} %b{c}, {v} %c{r}_{c})" for r, c in cells]
    lines += [
        "  %n1 = add i64 %n, 1",
        "  %more = icmp slt i64 %n1, %all",
        "  br i1 %more, label %loop, label %end",
        "end:",
    ]
    for r, c in cells:
        lines.append(f"  store volatile {v} %d{r}_{c}, ptr %b, align 4")
    return "\n".join([*lines, "  ret void", "}", ""])


def _copy(lanes: int) -> str:
    """LLVM IR of a copy by whole vectors, as an elementwise kernel reads and writes."""
    v = f"<{lanes} x float>"
    lines = ["define void @copy(ptr %target, ptr %source, i64 %bytes) {", "entry:", "  br label %loop", "loop:"]
    lines.append("  %n = phi i64 [0, %entry], [%n1, %loop]")
    for i in range(4):
        lines.append(f"  %o{i} = add i64 %n, {4 * lanes * i}")
        lines.append(f"  %s{i} = getelementptr i8, ptr %source, i64 %o{i}")
        lines.append(f"  %t{i} = getelementptr i8, ptr %target, i64 %o{i}")
        lines.append(f"  %x{i} = load {v}, ptr %s{i}, align 4")
        lines.append(f"  store {v} %x{i}, ptr %t{i}, align 4")
    lines += [f"  %n1 = add i64 %n, {16 * lanes}", "  %more = icmp slt i64 %n1, %bytes"]
    return "\n".join([*lines, "  br i1 %more, label %loop, label %end", "end:", "  ret void", "}", ""])
