"""The backends that run on any machine. The cuda backend has tests of its own, in test_cuda.py."""

from dlc import compiler

BACKENDS = tuple(name for name in compiler.BACKENDS if name != "cuda")
