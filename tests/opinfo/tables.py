"""All tables, which enter themselves when imported."""

from . import elementwise, indexing, losses, networks, products, reductions, shapes

__all__ = ["elementwise", "indexing", "losses", "networks", "products", "reductions", "shapes"]
