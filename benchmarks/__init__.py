"""What dlc promises in figures, measured. Run one with ``python -m benchmarks.NAME`` from a checkout."""
