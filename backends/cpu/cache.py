"""The cache of object code on disk: private, content-addressed, verified before use, written by atomic rename.

It is bounded: where it has outgrown its limit, a write removes the entries that were used longest ago. A file's time of
modification is the time of its last use, kept to the day.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import dlc
from dlc.errors import DlcWarning

MAGIC = b"dlc-object-1\n"
PACKAGE = Path(__file__).parent  # every file of it counts as shaping object code: a list would forget the newest
# What it takes from the rest of dlc for that; a test finds what is missing.
OUTSIDE = ("backends/target.py", "dtypes.py", "ops/philox.py")
DIGEST = hashlib.sha256().digest_size
LIMIT = 1 << 30  # bytes; DLC_CACHE_SIZE says otherwise
KEPT = 0.9  # of the limit, where entries are removed: not to be removing some at every write
DAY, HOUR = 86400.0, 3600.0
NEW = ".new-"  # how a file is called while it is being written
_ENTRY = re.compile(r"[0-9a-f]{64}\.o")
MOST_DIGITS = 32
# No link is followed, and a pipe in the place of an entry is not waited for.
READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
_warned: set[str] = set()
_unseen: dict[Path, int] = {}  # bytes written into a folder since this process last looked at its size


def source_key(source: str, host: tuple[str, str]) -> str:
    """The digest of everything that object code depends on: source, what it is written in, versions, and CPU."""
    digest = hashlib.sha256()
    for part in (*_toolchain(), *host, source):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.encode())
    return digest.hexdigest()


@cache
def _toolchain() -> tuple[str, ...]:
    root = Path(dlc.__file__).parent
    files = (*sorted(PACKAGE.rglob("*.py")), *(root / name for name in OUTSIDE))
    own = tuple(f"{file.name}\n{file.read_text(encoding='utf-8')}" for file in files)
    versions = (platform.python_version(), *(version(name) for name in ("numba", "llvmlite")))
    return (*own, *versions, sys.platform, platform.machine())


def cache_folder() -> Path:
    """Where object code is kept: $DLC_CACHE_DIR, else ``dlc`` in the user's cache folder of the platform."""
    if chosen := os.environ.get("DLC_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "dlc" / "kernels"


def cache_limit() -> int:
    """How many bytes the cache may hold: $DLC_CACHE_SIZE, such as "500M" or "2 GiB", else 1 GiB."""
    chosen = os.environ.get("DLC_CACHE_SIZE")
    if not chosen:
        return LIMIT
    found = _SIZE.fullmatch(chosen)
    if found is None or len(chosen) > MOST_DIGITS:
        _warn(f"DLC_CACHE_SIZE={chosen!r} is not a size and is not heeded; write bytes, or such as 500M or 2G")
        return LIMIT
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


@dataclass(frozen=True)
class Entry:
    """A file of the cache: an object, or what a process that was stopped left of one. `used` is a Unix time."""

    path: Path
    size: int
    used: float

    @property
    def is_object(self) -> bool:
        """Whether it was written to its end."""
        return not self.path.name.startswith(NEW)


def _warn(message: str) -> None:
    """Say it once a process."""
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, DlcWarning, stacklevel=2)


class ObjectCache:
    """A folder of objects. Whatever is wrong with it costs a compilation and a warning, never a wrong kernel."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        try:
            folder = cache_folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if reason := _untrusted(folder.stat(), folder=True):
                raise PermissionError(reason)
            self.folder = folder
        except (OSError, RuntimeError) as error:
            _warn(
                f"kernels are not cached, each process compiles its own: {error}; "
                "set DLC_CACHE_DIR to a folder that only you can write to"
            )

    def read(self, key: str) -> bytes | None:
        """The object stored under `key`, if there is one and it can be trusted."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}.o"
        try:
            with open(os.open(path, READ), "rb") as file:
                reason = _untrusted(os.fstat(file.fileno()))
                data = b"" if reason else file.read()
                used = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            _warn(f"the cached kernel {path} cannot be read ({error.strerror}) and is compiled again")
            return None
        image = data[len(MAGIC) + DIGEST :]
        if not reason and data != MAGIC + _seal(key, image) + image:
            reason = "it is damaged"
        if reason:
            self.refuse(key, reason)
            return None
        if abs(time.time() - used) > DAY:
            self._touch(path)
        return image

    def refuse(self, key: str, reason: str) -> None:
        """Say that the object stored under `key` is not used."""
        if self.folder is not None:
            _warn(f"the cached kernel {self.folder / key}.o is not used, since {reason}; it is compiled again")

    def write(self, key: str, image: bytes) -> None:
        """Publish an object under `key`, whole or not at all."""
        if self.folder is None:
            return
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=NEW, dir=self.folder)  # readable by its owner alone
            try:
                with open(descriptor, "wb") as file:
                    file.write(MAGIC + _seal(key, image) + image)
                os.replace(temporary, self.folder / f"{key}.o")
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            _warn(f"a compiled kernel could not be written to {self.folder} ({error.strerror})")
            return
        self._bound(len(MAGIC) + DIGEST + len(image))

    def entries(self) -> list[Entry]:
        """The cache's own files, the one used longest ago first; other files in the folder are left alone."""
        if self.folder is None:
            return []
        found = []
        with os.scandir(self.folder) as files:
            for file in files:
                if not (_ENTRY.fullmatch(file.name) or file.name.startswith(NEW)):
                    continue
                try:
                    status = file.stat(follow_symlinks=False)
                except FileNotFoundError:  # another process has removed or renamed it
                    continue
                if stat.S_ISREG(status.st_mode):
                    found.append(Entry(Path(file.path), status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: (entry.used, entry.path.name))

    def clear(self) -> list[Entry]:
        """Remove all entries, and return those that are gone. Raises `OSError` for one that cannot be removed."""
        removed = self.entries()
        for entry in removed:
            entry.path.unlink(missing_ok=True)
        return removed

    def _touch(self, path: Path) -> None:
        """Say that an entry is in use; at most once a day, since it is a write."""
        try:
            os.utime(path)
        except OSError:  # it is not ours to say, or gone: neither harms
            return

    def _bound(self, written: int) -> None:
        """Keep to the limit. The folder is looked at on a process's first write, and then each 64th of the limit."""
        assert self.folder is not None
        limit = cache_limit()
        first = self.folder not in _unseen
        _unseen[self.folder] = _unseen.get(self.folder, 0) + written
        if not first and _unseen[self.folder] <= limit // 64:
            return
        _unseen[self.folder] = 0
        try:
            entries = self.entries()
        except OSError as error:
            _warn(f"the size of the cache {self.folder} is unknown ({error.strerror}) and not limited")
            return
        _remove(_to_remove(entries, limit))


def _to_remove(entries: Iterable[Entry], limit: int) -> list[Entry]:
    """What has to go, of entries in the order of their use: what was left unfinished, and the oldest over the limit."""
    now = time.time()
    dropped = [e for e in entries if not e.is_object and now - e.used > HOUR]
    objects = [e for e in entries if e.is_object]
    size = sum(e.size for e in objects)
    room = size if size <= limit else int(limit * KEPT)
    for entry in objects:
        if size <= room:
            break
        size -= entry.size
        dropped.append(entry)
    return dropped


def _remove(entries: Iterable[Entry]) -> None:
    """Remove entries; other processes may be removing, or holding, the same ones."""
    for entry in entries:
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            _warn(f"the cached kernel {entry.path} could not be removed ({error.strerror})")


def _seal(key: str, image: bytes) -> bytes:
    """The digest that ties an object to its key."""
    return hashlib.sha256(key.encode() + image).digest()


def _untrusted(status: os.stat_result, folder: bool = False) -> str | None:
    """Why a file or folder could have been changed by others; None where it could not (Windows guards profiles)."""
    if sys.platform == "win32":
        return None
    what = "the cache folder" if folder else "it"
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        return f"{what} is not a {'folder' if folder else 'file'}"
    if status.st_uid != os.getuid():
        return f"{what} belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{what} can be written by others"
    return None
