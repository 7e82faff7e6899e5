"""The CPU backend: kernels of loops, compiled by Numba to object code, cached, and run by one dispatcher."""

MICRO_KERNEL = "micro_kernel_"  # how the names of register tiles begin, in LLVM IR
