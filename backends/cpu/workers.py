"""Processes that compile beside this one: Numba's half of the work holds the interpreter's lock.

A worker is a fresh interpreter, which runs none of the user's code. It reads one source after the other from a pipe
and writes object code to another; a message is its length in eight bytes, then its bytes. When its input ends, so does
the worker; it is killed when nothing is left to do. Whatever goes wrong with one, the process that wanted the code
compiles it itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import BinaryIO

SHARE = 12_000  # characters of source that are worth a process, which takes about a second to start
MOST = 8  # processes
PATIENCE = 60.0  # seconds that a worker may take to finish what it is at; a kernel takes one or two
LARGEST = 1 << 28  # bytes of a message

Task = tuple[str, str]  # a source, and the name of its entry

# Held while a process is started. A fork waits for it: a child that held the other ends of the pipes, among them the
# one on which `Popen` learns that the start went well, would keep their readers waiting.
_starting = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
    )


def workers_for(sources: Sequence[str], cores: int) -> int:
    """How many processes to start for the compilation of these sources, besides this one."""
    if os.name != "posix" or not os.path.basename(sys.executable or "").startswith("python"):
        return 0  # a program that holds an interpreter is none
    return max(0, min(cores - 1, MOST, sum(map(len, sources)) // SHARE))


class Workers:
    """Some processes that take tasks from the end of a queue until it is empty.

    `done(task, object code)` is called from their threads. What a worker fails at it puts into `left`.
    """

    def __init__(self, count: int, queue: deque[Task], done: Callable[[Task, bytes], None]) -> None:
        self.left: list[Task] = []
        self._queue, self._done = queue, done
        self._at: dict[threading.Thread, Task] = {}  # what each has taken and not done
        self._processes: dict[threading.Thread, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        with suppress(RuntimeError):  # where no thread can start, this process does without
            for i in range(count):
                thread = threading.Thread(target=self._drive, name=f"dlc-compile-{i}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def join(self, patience: float = PATIENCE) -> None:
        """Wait until they have done all they took; those that are not done after so many seconds are given up."""
        until = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                if process := self._processes.get(thread):
                    process.kill()
                thread.join(1)  # its pipe ends
        self.left += self._at.values()

    def _drive(self) -> None:
        me = threading.current_thread()
        with suppress(Exception), _Worker() as worker:  # one may fail to start, or answer anything or nothing
            self._processes[me] = worker.process
            while (task := self._next()) is not None:
                self._at[me] = task
                self._done(task, worker.compile(*task))
                del self._at[me]

    def _next(self) -> Task | None:
        try:
            return self._queue.pop()
        except IndexError:
            return None


class _Worker:
    """One process, and the pipes to and from it."""

    def __enter__(self) -> _Worker:
        paths = os.pathsep.join(path for path in sys.path if path)
        with _starting, ExitStack() as theirs, ExitStack() as ours:
            there, to = os.pipe()
            theirs.callback(os.close, there)
            self._input = ours.enter_context(os.fdopen(to, "wb"))
            from_, back = os.pipe()
            theirs.callback(os.close, back)
            self._output = ours.enter_context(os.fdopen(from_, "rb"))
            call = f"from dlc.backends.cpu.workers import serve; serve({there}, {back})"
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", call],  # nothing is imported from the working folder
                pass_fds=(there, back), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths},
            )  # fmt: skip
            ours.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()  # that its input ends it may not see: processes forked from this one hold the pipe too
        for pipe in (self._input, self._output):
            with suppress(OSError):
                pipe.close()
        self.process.wait()

    def compile(self, source: str, entry: str) -> bytes:
        """The object code of a source. Raises `OSError` or `EOFError` where the process fails."""
        _send(self._input, entry.encode())
        _send(self._input, source.encode())
        return _receive(self._output)


def serve(input_: int, output: int) -> None:
    """What a worker runs: sources from one file descriptor, object code to another."""
    from dlc.backends.cpu.compile import object_code
    from dlc.backends.cpu.lower import lowered

    with os.fdopen(input_, "rb") as sources, os.fdopen(output, "wb") as results:
        while True:
            try:
                entry = _receive(sources).decode()
            except EOFError:
                return
            _send(results, object_code(lowered(_receive(sources).decode(), entry)))


def _send(pipe: BinaryIO, message: bytes) -> None:
    pipe.write(len(message).to_bytes(8, "little") + message)
    pipe.flush()


def _receive(pipe: BinaryIO) -> bytes:
    """One message. Raises `EOFError` where the pipe ends first."""
    size = int.from_bytes(_exactly(pipe, 8), "little")
    if size > LARGEST:
        raise EOFError("that is no message")
    return _exactly(pipe, size)


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    found = pipe.read(size)
    if len(found) < size:
        raise EOFError("the pipe ended")
    return found
