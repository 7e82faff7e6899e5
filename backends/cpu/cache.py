"""The cache of object code on disk: private, content-addressed, verified before use, written by atomic rename."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import sys
import tempfile
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path

from dlc.errors import DlcWarning

MAGIC = b"dlc-object-1\n"
CODE = ("prelude", "arithmetic", "vector_math", "philox", "control", "lower", "compile")  # what shapes object code
DIGEST = hashlib.sha256().digest_size
_warned: set[str] = set()


def source_key(source: str, host: tuple[str, str]) -> str:
    """The digest of everything that object code depends on: source, what it is written in, versions, and CPU."""
    digest = hashlib.sha256()
    for part in (*_toolchain(), *host, source):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.encode())
    return digest.hexdigest()


@cache
def _toolchain() -> tuple[str, ...]:
    here = Path(__file__).parent
    own = tuple((here / f"{name}.py").read_text() for name in CODE)
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
            with open(
                os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb"
            ) as file:
                reason = _untrusted(os.fstat(file.fileno()))
                data = b"" if reason else file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            _warn(f"the cached kernel {path} cannot be read ({error.strerror}) and is compiled again")
            return None
        image = data[len(MAGIC) + DIGEST :]
        if not reason and data != MAGIC + _seal(key, image) + image:
            reason = "it is damaged"
        if reason:
            _warn(f"the cached kernel {path} is not used, since {reason}; it is compiled again")
            return None
        return image

    def write(self, key: str, image: bytes) -> None:
        """Publish an object under `key`, whole or not at all."""
        if self.folder is None:
            return
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=self.folder)  # readable by its owner alone
            try:
                with open(descriptor, "wb") as file:
                    file.write(MAGIC + _seal(key, image) + image)
                os.replace(temporary, self.folder / f"{key}.o")
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            _warn(f"a compiled kernel could not be written to {self.folder} ({error.strerror})")


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
