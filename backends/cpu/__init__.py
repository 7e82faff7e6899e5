"""The CPU backend: kernels of loops, compiled by Numba to object code, cached, and run by one dispatcher."""
