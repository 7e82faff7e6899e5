"""Threads: how many, the same bits for any number, several callers at once, forks, and the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, optim
from dlc.backends import table
from dlc.backends.cpu.threads import available_cores, fork_join_microseconds, pool
from dlc.errors import AttributeValueError


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Leave the number of threads as it was."""
    before = dlc.get_threads()
    yield
    dlc.set_threads(before)


def in_a_process(text: str, **environment: str) -> str:
    """What a program prints; it must end well and soon."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("wrong", [0, -1, 257, 2.0, "2", True, None])
def test_a_wrong_number_of_threads_is_refused(wrong: Any) -> None:
    with pytest.raises(AttributeValueError, match="an int from 1 to 256"):
        dlc.set_threads(wrong)


@pytest.mark.parametrize("wrong", ["0", "many", "-2", "1000"])
def test_a_wrong_number_in_the_environment_is_refused(wrong: str) -> None:
    text = """
        import dlc
        try:
            dlc.get_threads()
        except dlc.errors.AttributeValueError as error:
            print(error)
        """
    assert "DLC_THREADS" in in_a_process(text, DLC_THREADS=wrong)


def test_the_default_is_the_cores_or_the_environment() -> None:
    text = "import dlc; print(dlc.get_threads())"
    assert in_a_process(text, DLC_THREADS="3") == "3\n"
    environment = {k: v for k, v in os.environ.items() if k != "DLC_THREADS"}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == available_cores()


def test_small_kernels_stay_on_one_thread() -> None:
    assert table.grain(tasks=4, work=100) == 4
    assert table.grain(tasks=1_000_000, work=1_000_000) < 1_000_000
    assert table.grain(tasks=1, work=10**9) == 1
    assert table.grain(tasks=0, work=0) == 1


def large() -> tuple[dlc.Program, np.ndarray[Any, Any]]:
    """A program whose work is worth sharing, and an argument."""
    x = dlc.input("x", ("N", 512))
    graph = dlc.graph([x], [dlc.exp(x) * 2 + x, dlc.sum(x * x, axis=1), dlc.sum(x, axis=0)])
    return dlc.compile(graph), np.random.default_rng(0).standard_normal((1000, 512)).astype("float32")


def bits(arrays: Any) -> tuple[bytes, ...]:
    return tuple(np.asarray(a).tobytes() for a in arrays)


def test_results_have_the_same_bits_for_any_number_of_threads() -> None:
    program, x = large()
    dlc.set_threads(1)
    wanted = bits(program(x))
    for n in (2, 3, 4, 7):
        dlc.set_threads(n)
        for _ in range(5):
            assert bits(program(x)) == wanted
        assert pool().ready and len(threading.enumerate()) >= n


def trained(threads: int, steps: int = 50) -> bytes:
    """The weights of LeNet-5 after some steps of Adam on random images."""
    dlc.set_threads(threads)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(120), nn.ReLU(), nn.Linear(84), nn.ReLU(), nn.Linear(10),
    )  # fmt: skip
    image, label = dlc.input("image", ("N", 1, 28, 28)), dlc.input("label", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(image), label)
    step = dlc.train_step(model, inputs=[image, label], loss=loss, optimizer=optim.Adam(1e-3), seed=0)
    rng = np.random.default_rng(1)
    x, y = rng.random((64, 1, 28, 28)).astype("float32"), rng.integers(0, 10, 64)
    for _ in range(steps):
        step(x, y)
    return b"".join(a.tobytes() for a in model.state_dict().values())


def test_training_has_the_same_bits_for_any_number_of_threads() -> None:
    wanted = trained(1)
    assert trained(2) == wanted
    assert trained(4) == wanted


TRAINING = """
    import hashlib
    from tests.test_threads import trained
    print(hashlib.sha256(trained({threads})).hexdigest())
    """


@pytest.mark.slow
def test_training_has_the_same_bits_in_two_processes_with_a_cold_and_a_warm_cache(tmp_path: Any) -> None:
    text = textwrap.dedent(TRAINING)
    cold = in_a_process(text.format(threads=1), DLC_CACHE_DIR=str(tmp_path / "kernels"))
    warm = in_a_process(text.format(threads=2), DLC_CACHE_DIR=str(tmp_path / "kernels"))
    assert cold == warm and len(cold) == 65


def test_several_python_threads_may_call_at_once() -> None:
    dlc.set_threads(3)
    program, x = large()
    wanted = bits(program(x))
    wrong: list[int] = []

    def call(number: int) -> None:
        for _ in range(20):
            if bits(program(x)) != wanted:
                wrong.append(number)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_the_number_may_change_while_programs_run() -> None:
    dlc.set_threads(2)
    program, x = large()
    wanted = bits(program(x))
    same: list[bool] = []
    caller = threading.Thread(target=lambda: same.extend(bits(program(x)) == wanted for _ in range(60)))
    caller.start()
    for n in (1, 3, 2, 4, 1, 2):
        dlc.set_threads(n)
    caller.join()
    assert len(same) == 60 and all(same)


FORKS = """
    import os, sys, threading
    import numpy as np
    import dlc
    from tests.test_threads import large, bits
    dlc.set_threads(3)
    program, x = large()
    wanted = bits(program(x))
    stop = []
    background = threading.Thread(target=lambda: [program(x) for _ in iter(lambda: not stop, False)], daemon=True)
    background.start()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            good = all(bits(program(x)) == wanted for _ in range(3))
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
    stop.append(1)
    background.join()
    assert bits(program(x)) == wanted
    print("good")
    """


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own() -> None:
    assert in_a_process(FORKS) == "good\n"


def test_a_process_ends_while_threads_are_at_work() -> None:
    text = """
        import threading
        import dlc
        from tests.test_threads import large
        dlc.set_threads(4)
        program, x = large()
        program(x)
        def forever():
            while True:
                program(x)
        for _ in range(2):
            threading.Thread(target=forever, daemon=True).start()
        print("end")
        """
    for _ in range(3):
        assert in_a_process(text) == "end\n"


def test_an_index_error_is_reported_once_by_whichever_thread_finds_it() -> None:
    dlc.set_threads(4)
    table_, index = dlc.input("table", (10, 64)), dlc.input("index", ("N",), "int64")
    program = dlc.compile(dlc.graph([table_, index], [dlc.take(table_, index, axis=0) * 2]))
    values, rows = np.ones((10, 64), "float32"), np.full(50_000, 3)
    assert (program(values, rows)[0] == 2).all()
    rows[::100] = 99
    for _ in range(5):
        with pytest.raises(dlc.errors.IndexOutOfRangeError, match="index 99 is out of range for an axis of 10"):
            program(values, rows)
    rows[:] = 1
    assert (program(values, rows)[0] == 2).all()


def test_all_threads_join_in_a_kernel() -> None:
    """Each region waits for one task of every thread, so it would not end if one of them stayed away."""
    for n in (1, 2, 3):
        dlc.set_threads(n)
        assert fork_join_microseconds(regions=20, rounds=2) > 0
