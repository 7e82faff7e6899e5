"""How long until the first training step is done, from process start, with a cold kernel cache and with a warm one.

    python -m benchmarks.latency [lenet resnet ...] [--warm 5] [--no-demo]

Each figure is a process of its own; cold ones have a kernel cache that is new and empty. The demo is
``python -m dlc demo``, all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def first_step(name: str) -> dict[str, Any]:
    """Build, compile and run a network's training step once, in this process."""
    from benchmarks.networks import NETWORKS, training_step
    from dlc.backends.cpu.compile import compiled

    network = next(n for n in NETWORKS if name.lower() in n.name.lower())
    step, _ = training_step(network)
    loss = float(step(*network.data()))
    done = time.time()
    assert loss > 0
    return {"done": done, "compile": step.program.seconds, "kernels": compiled(), "numba": "numba" in sys.modules}


def started(arguments: Sequence[str], cache: str, folder: str) -> tuple[float, str]:
    """(when a process with this cache was started, what it printed); the process has ended."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "DLC_CACHE_DIR": cache, "PYTHONPATH": path}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode beside it
    began = time.time()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    return began, done.stdout


def step_rows(name: str, warm: int) -> Iterator[str]:
    """A network's first step, cold once and warm several times, of which the best counts."""
    with tempfile.TemporaryDirectory() as cache:
        for what, times in (("cold", 1), ("warm", warm)):
            found = []
            for _ in range(times):
                began, text = started(["-m", "benchmarks.latency", "--child", name], cache, str(ROOT))
                told = json.loads(text)
                found.append((told["done"] - began, told))
            wall, told = min(found, key=lambda f: f[0])
            numba = "yes" if told["numba"] else "no"
            yield f"| {name} step, {what} | {wall:.2f} | {told['compile']:.2f} | {told['kernels']} | {numba} |"


def demo_rows() -> Iterator[str]:
    """The demo from start to end, cold and warm."""
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as folder:
        for what in ("cold", "warm"):
            began, _ = started(["-m", "dlc", "demo"], cache, folder)
            yield f"| demo, {what} | {time.time() - began:.2f} | | | |"


def table(names: Sequence[str], warm: int, demo: bool) -> Iterator[str]:
    """The lines of the table as they become known."""
    yield "| | seconds from process start | of them compiling | kernels compiled | Numba imported |"
    yield "|---|---|---|---|---|"
    for name in names:
        yield from step_rows(name, warm)
    if demo:
        yield from demo_rows()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["LeNet-5, b64"], help="parts of networks' names")
    parser.add_argument("--warm", type=int, default=5, help="warm processes, of which the best counts")
    parser.add_argument("--no-demo", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(first_step(options.child)))
        return
    for line in table(options.names, options.warm, not options.no_demo):
        print(line, flush=True)


if __name__ == "__main__":
    main()
