"""All tables, which enter themselves when imported."""

from . import elementwise, indexing, losses, masked, networks, products, reductions, shapes, windows

__all__ = ["elementwise", "indexing", "losses", "masked", "networks", "products", "reductions", "shapes", "windows"]
