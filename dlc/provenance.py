"""Where a value was written: file and line, module path, and phase. Kept beside the graph, never inside a node."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OWN_FOLDERS = tuple(
    folder + os.sep
    for name in ("dlc", "frontend", "passes", "backends")
    for folder in {os.path.join(_ROOT, name), os.path.realpath(os.path.join(_ROOT, name))}
)
_own_file: dict[str, bool] = {}

_path: ContextVar[tuple[str, ...]] = ContextVar("dlc_module_path", default=())
_classes: ContextVar[str] = ContextVar("dlc_module_classes", default="")
_phase: ContextVar[str] = ContextVar("dlc_phase", default="forward")
_written_at: ContextVar[Origin | None] = ContextVar("dlc_written_at", default=None)


class Origin(NamedTuple):
    """One place a node comes from. `module` is a dotted path ("0.conv"), `phase` forward, backward or update.

    `classes` has the class of each module on that path ("Block.Conv2d"); a part of the path without one, such as the
    name of a list, leaves its place empty.
    """

    file: str
    line: int
    module: str = ""
    phase: str = "forward"
    classes: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"{place} (in {self.module})" if self.module else place


def here() -> Origin:
    """The origin of the innermost frame outside dlc itself, under the current module path and phase."""
    stated = _written_at.get()
    if stated is not None:
        return stated
    frame = sys._getframe(1)
    own_file = _own_file.get
    while frame.f_back is not None:
        filename = frame.f_code.co_filename
        own = own_file(filename)
        if own is False or (own is None and not _is_own(filename)):
            break
        frame = frame.f_back
    path = _path.get()
    module = ".".join(path) if path else ""
    return Origin(frame.f_code.co_filename, frame.f_lineno, module, _phase.get(), _classes.get())


def _is_own(filename: str) -> bool:
    own = os.path.abspath(filename).startswith(_OWN_FOLDERS) or filename.startswith("<frozen")
    _own_file[filename] = own or os.path.basename(filename) in ("contextlib.py", "functools.py")
    return _own_file[filename]


@contextmanager
def written_at(origin: Origin | None) -> Iterator[None]:
    """Nodes built inside have exactly this origin, if it is known: that of the node they are derived from."""
    token = _written_at.set(origin)
    try:
        yield
    finally:
        _written_at.reset(token)


@contextmanager
def module_scope(name: str) -> Iterator[None]:
    """Nodes built inside carry `name` as the next part of their module path."""
    path, classes = _path.get(), _classes.get()
    with _at((*path, name), f"{classes}." if path else ""):
        yield


@contextmanager
def module_path(path: str, classes: str = "") -> Iterator[None]:
    """Nodes built inside carry exactly `path` as their module path, through modules of these classes."""
    with _at(tuple(path.split(".")) if path else (), classes):
        yield


@contextmanager
def _at(path: tuple[str, ...], classes: str) -> Iterator[None]:
    path_before, classes_before = _path.set(path), _classes.set(classes)
    try:
        yield
    finally:
        _path.reset(path_before)
        _classes.reset(classes_before)


def current_path() -> str:
    """The dotted module path that nodes built now would carry."""
    return ".".join(_path.get())


def current_classes() -> str:
    """The dotted classes along that path."""
    return _classes.get()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Nodes built inside carry the phase `name`: "forward", "backward" or "update"."""
    token = _phase.set(name)
    try:
        yield
    finally:
        _phase.reset(token)
