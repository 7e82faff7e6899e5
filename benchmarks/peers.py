"""Which libraries run beside dlc, in which versions, on how many threads, on what machine."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import dlc


def use_threads(threads: int) -> None:
    """Let dlc and PyTorch use this many threads. JAX has no such setting: its pool has one for each core."""
    dlc.set_threads(threads)
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(threads)


def versions() -> str:
    """The versions of what is measured, as text."""
    found = [f"dlc {dlc.__version__}"]
    for name, module in (("PyTorch", "torch"), ("JAX", "jax"), ("Numba", "numba"), ("NumPy", "numpy")):
        found.append(f"{name} {metadata.version(module)}" if find_spec(module) else f"no {name}")
    return ", ".join([*found, f"Python {platform.python_version()}"])


def machine() -> str:
    """The processor, the cores and how busy they are now, as text."""
    from dlc.backends.cpu.threads import available_cores

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {available_cores()} cores{load}"
