"""Compilation on several processes: the same code as on one, whatever becomes of a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.backends.cpu import compile as compiling
from dlc.backends.cpu import workers
from dlc.backends.cpu.workers import Workers, workers_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers are for POSIX")

SOURCE = """def kernel(bases, args, begin, end):
    p0 = pointer_float32(bases, args, 0)
    for i0 in independent(begin, end, 1):
        p0[i0] = float32({number})
"""


def tasks(count: int) -> list[tuple[str, str]]:
    return [(SOURCE.format(number=f"{i}.0"), f"dlc_entry_{i}") for i in range(count)]


@pytest.mark.parametrize(
    ("size", "cores", "wanted"),
    [(0, 8, 0), (11_999, 8, 0), (24_000, 8, 2), (24_000, 2, 1), (24_000, 1, 0), (10**6, 64, workers.MOST)],
)
def test_workers_start_where_there_is_work_for_them(size: int, cores: int, wanted: int) -> None:
    assert workers_for(["x" * size], cores) == wanted


def test_a_program_that_is_no_python_starts_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for odd in (None, "", "/usr/sbin/uwsgi"):
        monkeypatch.setattr(workers.sys, "executable", odd)
        assert workers_for(["x" * 10**6], 8) == 0


def test_workers_import_nothing_from_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "numba.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    found: dict[workers.Task, bytes] = {}
    group = Workers(1, deque(tasks(1)), found.__setitem__)
    group.join()
    assert group.left == [] and len(found) == 1


def test_workers_make_code_that_this_process_can_load() -> None:
    given = tasks(5)
    found: dict[workers.Task, bytes] = {}
    group = Workers(2, deque(given), found.__setitem__)
    group.join()
    assert group.left == [] and set(found) == set(given)
    for source, entry in given:
        assert compiling._load(found[source, entry], entry) != 0


def test_a_source_that_a_worker_fails_at_is_left_to_the_caller() -> None:
    wrong = ("def kernel(bases, args, begin, end):\n    unknown(1)\n", "dlc_wrong")
    found: dict[workers.Task, bytes] = {}
    group = Workers(1, deque([*tasks(1), wrong]), found.__setitem__)
    group.join()
    assert group.left == [wrong]


def test_a_worker_that_is_killed_or_cannot_start_loses_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "workers_for", lambda sources, cores: 1)
    started = subprocess.Popen

    def killed(*args: Any, **named: Any) -> Any:
        process = started(*args, **named)
        os.kill(process.pid, signal.SIGKILL)
        return process

    def refused(*args: Any, **named: Any) -> Any:
        raise PermissionError("no processes here")

    for number, popen in enumerate((killed, refused)):
        monkeypatch.setattr(workers.subprocess, "Popen", popen)
        x = dlc.input("x", (3,))
        (y,) = dlc.compile(dlc.graph([x], [dlc.exp(x * (3.25 + number)) - 1.75]))([0.0, 1.0, 2.0])
        np.testing.assert_allclose(y, np.exp(np.arange(3) * (3.25 + number)) - 1.75, rtol=1e-6)


def test_programs_compiled_by_workers_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "workers_for", lambda sources, cores: 2)
    x = dlc.input("x", ("N", 5))
    outputs = [dlc.sum(x * 4.125, axis=1), x @ dlc.permute_dims(x, (1, 0)) + 0.375, dlc.cos(x) * 2.125]
    value = np.random.default_rng(0).standard_normal((4, 5)).astype("float32")
    found = dlc.compile(dlc.graph([x], outputs))(value)
    wanted = [value.sum(1) * 4.125, value @ value.T + 0.375, np.cos(value) * 2.125]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def replaced_by(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Let workers run other code, which finds its pipes in `sys.argv`."""
    started = subprocess.Popen

    def other(args: list[str], **named: Any) -> Any:
        return started([args[0], "-c", f"import os, sys, time; _, back = map(int, sys.argv[1:]); {call}",
                        *map(str, named["pass_fds"])], **named)  # fmt: skip

    monkeypatch.setattr(workers.subprocess, "Popen", other)


@pytest.mark.parametrize(
    "call",
    [
        "os.write(back, (100).to_bytes(8, 'little') + 100 * b'x')",
        "os.write(back, (2**63).to_bytes(8, 'little'))",
        "os.write(back, b'short')",
        "time.sleep(600)",
    ],
    ids=["garbage", "an endless message", "part of one", "nothing"],
)
def test_what_a_worker_answers_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, call: str) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "workers_for", lambda sources, cores: 1)
    joined = Workers.join
    monkeypatch.setattr(Workers, "join", lambda group: joined(group, 1.0))
    replaced_by(monkeypatch, call)
    number = 5.0 + len(call) / 8
    x = dlc.input("x", (3,))
    (y,) = dlc.compile(dlc.graph([x], [dlc.exp(x) * number]))([0.0, 1.0, 2.0])
    np.testing.assert_allclose(y, np.exp(np.arange(3)) * number, rtol=1e-6)
    for entry in tmp_path.iterdir():
        assert b"ELF" in entry.read_bytes()[:100] or b"xxx" not in entry.read_bytes()


def test_forks_meanwhile_do_not_hold_a_worker() -> None:
    group = Workers(2, deque(tasks(3)), lambda task, image: None)
    children = []
    try:
        for _ in range(20):  # one of them while the processes are started
            children.append(os.fork())
            if children[-1] == 0:
                signal.pause()
            time.sleep(0.001)
        group.join()
        assert group.left == [] and not any(thread.is_alive() for thread in group._threads)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_without_threads_everything_is_compiled_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "workers_for", lambda sources, cores: 2)

    def refused(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refused)
    assert all(address != 0 for address in compiling.compile_kernels([source for source, _ in tasks(2)]))


def test_an_entry_that_cannot_be_loaded_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    source = SOURCE.format(number="77.0")
    key = compiling.source_key(source, compiling.host())
    compiling.ObjectCache().write(key, b"sealed, but no object code")
    with pytest.warns(dlc.errors.DlcWarning, match="cannot be loaded"):
        compiling.compile_kernels([source])
    image = compiling.ObjectCache().read(key)
    assert (image is not None and image.startswith(b"\x7fELF")) or not os.path.exists("/proc")


@pytest.mark.parametrize("which", ["second pipe", "process"])
def test_a_worker_that_cannot_start_leaves_no_pipe_open(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    made = os.pipe
    pipes = iter([made, made if which == "process" else None])

    def refused(*_: Any, **__: Any) -> Any:
        raise OSError("no more")

    monkeypatch.setattr(workers.os, "pipe", lambda: (next(pipes, None) or refused)())
    monkeypatch.setattr(workers.subprocess, "Popen", refused)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    group = Workers(1, deque(tasks(1)), lambda task, image: None)
    group.join()
    after = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    assert after == before and not any(thread.is_alive() for thread in group._threads)
