"""Networks from 1989 to today, written in dlc: one file a kind, full-size where a parameter count was published.

Each file can be read alone. `published` and `small` list what tests/test_architectures.py counts and differentiates.
"""
