"""The CPU that kernels are written and compiled for: this machine's, or a lesser one by choice."""

from __future__ import annotations

import os
import platform
from functools import cache

from dlc.backends.target import Target
from dlc.errors import AttributeValueError

# What $DLC_CPU may ask for instead of all that this machine has: (LLVM's name, features); x86-64 alone has choices.
LESSER = {"avx2": ("haswell", ""), "portable": ("x86-64", "")}


@cache
def host() -> tuple[str, str]:
    """LLVM's CPU name and feature string, with 512-bit vectors preferred where there are any.

    Raises `AttributeValueError` where $DLC_CPU names no known CPU.
    """
    from llvmlite import binding

    chosen = os.environ.get("DLC_CPU", "native")
    if chosen in LESSER and platform.machine() in ("x86_64", "AMD64"):
        return LESSER[chosen]
    if chosen not in ("native", "portable"):
        raise AttributeValueError(f"DLC_CPU is 'native', {', '.join(map(repr, LESSER))}, not {chosen!r}")
    features = binding.get_host_cpu_features()
    features["prefer-256-bit"] = False
    return binding.get_host_cpu_name(), features.flatten()


@cache
def converts_halves() -> bool:
    """Whether the host has instructions that convert between float16 and float32."""
    name, features = host()
    return name == "haswell" or "+f16c" in features or platform.machine() in ("aarch64", "arm64")


@cache
def cpu_target() -> Target:
    """Vectors and registers of the host, as far as generated code counts on them."""
    name, features = host()
    if "+avx512f" in features:
        return Target("cpu", vector=64, registers=32)
    if name == "haswell" or "+avx2" in features:
        return Target("cpu", vector=32, registers=16)
    wide = platform.machine() in ("aarch64", "arm64")
    return Target("cpu", vector=16, registers=32 if wide else 16)
