"""The CUDA backend: the kernels of the loop emitter, one task a thread, as Numba CUDA kernels. See docs/cuda.md."""
