"""When Python looks for garbage: not while graphs are built, or files of many arrays read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """No search for cycles of garbage inside. Reference counts free what is no longer used, as ever.

    A large graph is many objects that stay, with hardly a cycle among them. The collector would walk them all again and
    again as they grow in number: that takes a quarter of the time of building and transforming 40,000 nodes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
