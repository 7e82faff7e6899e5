"""What dlc promises in figures, measured: ``python -m benchmarks`` from a checkout, beside PyTorch and JAX.

One by one: ``python -m benchmarks.NAME`` with accuracy, latency, memory, profile or scaling.
"""
