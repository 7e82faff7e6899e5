"""The threads that share the tasks of large kernels: how many, when they start, and that they end well.

Workers are Python threads that spend their lives in native code without the interpreter's lock. They start when the
first program that has work for them runs, sleep when there is none, are forgotten by a forked child, which starts its
own, and are stopped before the interpreter ends.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np

from dlc.backends.cpu import pool as p
from dlc.errors import AttributeValueError
from dlc.state import aligned_empty

MOST = 256
WORKER_STACK = 16 << 20  # bytes; kernels keep small arrays of their own there


class Pool:
    """The process's threads. `address` is where the dispatcher finds the words of `dlc.backends.cpu.pool`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._words = aligned_empty((p.WORDS,), "int64")
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._words))  # workers look at it as long as there is a process
        self.address = self._words.ctypes.data
        self._workers: list[threading.Thread] = []
        self.threads = _at_start()
        self.ready = False
        self._clear()

    def _clear(self) -> None:
        """Nothing runs, nobody works."""
        self._words[...] = 0
        self._words[p.THREADS] = 1
        for place, function in ((p.MUTEX, "pthread_mutex_init"), (p.CONDITION, "pthread_cond_init")):
            getattr(ctypes.CDLL(None), function)(ctypes.c_void_p(self.address + 8 * place), None)

    def start(self) -> None:
        """See that there are as many workers as there should be."""
        from dlc.backends.cpu.dispatcher import worker

        with self._lock:
            if self.ready:
                return
            native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)(worker())
            before = threading.stack_size(WORKER_STACK)
            try:
                for i in range(self.threads - 1):
                    thread = threading.Thread(
                        target=native, args=(self.address, None, i, 0), name=f"dlc-{i}", daemon=True
                    )
                    thread.start()
                    self._workers.append(thread)
            finally:
                threading.stack_size(before)
            self._words[p.THREADS] = 1 + len(self._workers)
            self.ready = True

    def stop(self) -> None:
        """End the workers. A kernel that they are helping with is finished by its caller."""
        self.resize(self.threads)

    def resize(self, threads: int) -> None:
        """Let this many threads work from the next call on."""
        with self._lock:
            self.threads = threads
            self._words[p.THREADS] = 1
            self._words[p.STOP] = 1
            library = ctypes.CDLL(None)
            mutex = ctypes.c_void_p(self.address + 8 * p.MUTEX)
            while any(w.is_alive() for w in self._workers):
                library.pthread_mutex_lock(mutex)
                library.pthread_cond_broadcast(ctypes.c_void_p(self.address + 8 * p.CONDITION))
                library.pthread_mutex_unlock(mutex)
                self._workers[0].join(0.001)
                self._workers = [w for w in self._workers if w.is_alive()]
            self._words[p.STOP] = 0
            self.ready = False

    def forget(self) -> None:
        """In a forked child, which has none of its parent's threads."""
        self._lock = threading.Lock()
        self._workers = []
        self._clear()
        self.ready = False


@cache
def pool() -> Pool:
    """The process's pool."""
    made = Pool()
    os.register_at_fork(after_in_child=made.forget)
    atexit.register(made.stop)
    return made


def set_threads(threads: int) -> None:
    """Let this many threads, the calling one included, share the work of each call. Results do not depend on it.

    The default is the number of cores that the process may use, or $DLC_THREADS. Raises `AttributeValueError` unless
    it is an int from 1 to 256.

    >>> import dlc
    >>> dlc.set_threads(2)
    >>> dlc.get_threads()
    2
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST:
        raise AttributeValueError(f"the number of threads is an int from 1 to {MOST}, not {threads!r}")
    if threads != pool().threads:
        pool().resize(threads)


def get_threads() -> int:
    """How many threads share the work of a call.

    >>> import dlc
    >>> dlc.get_threads() >= 1
    True
    """
    return pool().threads


def _at_start() -> int:
    chosen = os.environ.get("DLC_THREADS")
    if chosen is None:
        return min(MOST, available_cores())
    if not (chosen.isascii() and chosen.isdecimal()) or not 1 <= int(chosen) <= MOST:
        raise AttributeValueError(f"DLC_THREADS is a number from 1 to {MOST}, not {chosen!r}")
    return int(chosen)


def available_cores() -> int:
    """The cores that this process may use: its affinity, within the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return max(1, cores)


# A task that waits for one task of every thread: the region ends when all threads have come and gone. It does not wait
# for ever: where another caller holds the pool or makes it smaller, a thread runs tasks of this region alone.
MEETING = """def kernel(bases, args, begin, end):
    arrived = pointer_at(bases[2])
    threads = bases[3]
    increase(arrived, 0, 1)
    goal = (look(arrived, 0) + threads - 1) // threads * threads
    spins = int64(0)
    while look(arrived, 0) < goal and spins < 30000:
        spins += 1
        if spins < 10000:
            pause()
        else:
            give_way()
"""


def fork_join_microseconds(regions: int = 200, rounds: int = 10) -> float:
    """How long it takes until all threads have joined in a kernel and left it: the mean of the best of some rounds."""
    from dlc.backends.cpu.compile import compile_kernels
    from dlc.backends.cpu.dispatcher import dispatcher

    (meeting,) = compile_kernels([MEETING])
    pool().start()
    tasks = pool().threads
    table = np.tile(np.array([meeting, 0], np.int64), (regions, 1))
    args = np.array([tasks, 1, 1, 0, 6, tasks], np.int64)
    status, arrived = np.zeros(8, np.int64), np.zeros(8, np.int64)
    bases = np.array([status.ctypes.data, 0, arrived.ctypes.data, tasks, 0, 0], np.int64)
    head = np.array([table.ctypes.data, regions, args.ctypes.data, 0, 0, 4, 0, 0, 0, pool().address], np.int64)
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)(dispatcher())
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        native(bases.ctypes.data, head.ctypes.data, 0, 0)
        best = min(best, time.perf_counter() - began)
    return best / regions * 1e6
