"""Random typed graphs over the whole catalogue, and what must hold of each: ``python -m tests.fuzz --help``."""
