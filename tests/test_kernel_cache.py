"""The cache of object code: private, verified, shared between processes, and never in the way."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import dlc
from dlc.backends.cpu import cache as cache_module
from dlc.backends.cpu import compile as compile_module
from dlc.backends.cpu.cache import ObjectCache, cache_folder, cache_limit, source_key
from dlc.errors import DlcWarning
from tests.native import source_of

KEY = "a" * 64

PROGRAM = textwrap.dedent(
    """
    import sys
    import numpy as np
    import ctypes
    import dlc
    from dlc.backends.cpu import compile as c
    from dlc.backends.cpu.host import cpu_target
    from dlc.backends.loops import emit_kernel

    x = dlc.input("x", ("N",))
    (part,) = emit_kernel((x * x).node, cpu_target()).parts
    (address,) = c.compile_kernels([part.source])
    values, result = np.arange(5, dtype="float32"), np.zeros(5, "float32")
    status = np.zeros(8, np.int64)
    bases = np.array([status.ctypes.data, 0, values.ctypes.data, result.ctypes.data], np.int64)
    args = np.array([2, 0, 2, 0, 3, 0, 0], np.int64)
    native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    native(address)(bases.ctypes.data, args.ctypes.data, 0, 5)
    assert result.tolist() == [0, 1, 4, 9, 16], result
    print(c.compiled(), "numba" in sys.modules)
    """
)


def start(folder: Path | None, **more: str) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DLC_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= more
    if folder is not None:
        environment["DLC_CACHE_DIR"] = str(folder)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """What a process printed and warned; it must have succeeded."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split(), err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder for this process, which has said none of its warnings yet."""
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "_warned", set())
    monkeypatch.setattr(cache_module, "_unseen", {})
    yield tmp_path / "cache"


def test_two_processes_on_a_cold_cache_and_a_third_that_compiles_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    both = [start(folder), start(folder)]
    for process in both:
        (compiled, _), err = finish(process)
        assert compiled in ("0", "1") and not err
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (entry,) = folder.iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert finish(start(folder))[0] == ["0", "False"]

    entry.write_bytes(entry.read_bytes()[:-7])
    (compiled, _), err = finish(start(folder))
    assert compiled == "1" and "DlcWarning" in err and "damaged" in err
    assert finish(start(folder))[0] == ["0", "False"]


@pytest.mark.skipif(sys.platform == "win32", reason="home folders are found otherwise")
def test_without_a_place_to_write_kernels_still_compile(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file, in which no folder can be made")
    (compiled, _), err = finish(start(None, HOME=str(home)))
    assert compiled == "1" and err.count("DlcWarning") == 1 and "DLC_CACHE_DIR" in err


def test_what_is_written_is_read_back(folder: Path) -> None:
    assert ObjectCache().read(KEY) is None
    ObjectCache().write(KEY, b"object code")
    assert ObjectCache().read(KEY) == b"object code"
    assert [p.name for p in folder.iterdir()] == [f"{KEY}.o"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "another's", "foreign"])
def test_a_damaged_entry_is_not_used(folder: Path, damage: str) -> None:
    store = ObjectCache()
    store.write(KEY, b"object code")
    path = folder / f"{KEY}.o"
    whole = path.read_bytes()
    if damage == "another's":  # a valid entry under a wrong name
        store.write("b" * 64, b"other code")
        whole = (folder / f"{'b' * 64}.o").read_bytes()
    path.write_bytes(
        {"truncated": whole[:-1], "flipped": whole[:-1] + b"X", "empty": b"", "foreign": b"\x7fELF" + whole}.get(
            damage, whole
        )
    )
    with pytest.warns(DlcWarning, match="damaged"):
        assert ObjectCache().read(KEY) is None


@pytest.mark.skipif(sys.platform == "win32", reason="modes are not kept")
def test_an_entry_that_others_could_have_written_is_not_used(folder: Path) -> None:
    ObjectCache().write(KEY, b"object code")
    (folder / f"{KEY}.o").chmod(0o622)
    with pytest.warns(DlcWarning, match="written by others"):
        assert ObjectCache().read(KEY) is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    ObjectCache().write(KEY, b"object code")
    path = folder / f"{KEY}.o"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(DlcWarning, match="cannot be read"):
        assert ObjectCache().read(KEY) is None


@pytest.mark.skipif(sys.platform == "win32", reason="modes are not kept")
def test_a_folder_that_others_can_write_to_is_not_used(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.warns(DlcWarning, match="written by others"):
        store = ObjectCache()
    store.write(KEY, b"object code")
    assert store.read(KEY) is None and not list(folder.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ObjectCache()  # said once


def test_the_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("DLC_CACHE_DIR")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "dlc" / "kernels"


def test_keys_tell_sources_and_machines_apart() -> None:
    host = ("cpu", "+a,-b")
    keys = {
        source_key("one", host),
        source_key("two", host),
        source_key("one", ("cpu", "+a,+b")),
        source_key("one", ("other", "+a,-b")),
    }
    assert len(keys) == 4


def test_equal_sources_are_compiled_once(folder: Path) -> None:
    source = source_of(dlc.ceil(dlc.input("x", ("N",))).node) + "# a source of this test alone\n"
    before = compile_module.compiled()
    first, second = compile_module.compile_kernels([source, source])
    assert first == second and compile_module.compiled() == before + 1
    assert compile_module.compile_kernels([source]) == [first] and compile_module.compiled() == before + 1


# ---------------------------------------------------------------- keys


def imports_of(path: Path) -> set[str]:
    """The modules of dlc that a file names in its imports, wherever they stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dlc"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_keys_hold_all_that_shapes_object_code() -> None:
    """From the lowering on: each file that is imported is digested, or it only says what went wrong."""
    root = Path(dlc.__file__).parent
    digested = {*(root / name for name in cache_module.OUTSIDE), *cache_module.PACKAGE.rglob("*.py")}
    seen: set[Path] = set()
    open_ = [cache_module.PACKAGE / "lower.py"]
    while open_:
        path = open_.pop()
        if path in seen:
            continue
        seen.add(path)
        assert path in digested, f"{path.name} shapes object code and is not in the key: enter it into OUTSIDE"
        for module in imports_of(path):
            below = cache_module.PACKAGE.parent.parent if module.startswith("dlc.backends") else root
            parts = module.split(".")[1:]
            file = below.joinpath(*parts).with_suffix(".py")
            if file.name != "errors.py" and file.is_file():
                open_.append(file)
    assert {"tiles.py", "prelude.py", "philox.py", "dtypes.py"} <= {path.name for path in seen}


# ---------------------------------------------------------------- size


def key_of(number: int) -> str:
    return f"{number:064x}"


def aged(store: ObjectCache, number: int, days: float, size: int = 1000) -> Path:
    """An entry that was last used some days ago."""
    assert store.folder is not None
    store.write(key_of(number), b"x" * size)
    path = store.folder / f"{key_of(number)}.o"
    os.utime(path, (time.time() - 86400 * days,) * 2)
    return path


@pytest.mark.parametrize(
    ("text", "size"), [("", 1 << 30), ("123", 123), ("500K", 512_000), ("2 GiB", 2 << 30), ("1.5mb", 3 << 19), ("0", 0)]
)
def test_the_limit_can_be_chosen(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("DLC_CACHE_SIZE", text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "1 XB", "nan"])
def test_what_is_no_limit_is_said_and_not_heeded(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DLC_CACHE_SIZE", text)
    with pytest.warns(DlcWarning, match="500M or 2G"):
        assert cache_limit() == 1 << 30


def test_the_entries_used_longest_ago_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectCache()
    for number in range(8):
        aged(store, number, days=10 - number)
    assert store.read(key_of(1)) is not None  # a use keeps it
    (folder / "notes.txt").write_text("not ours")
    monkeypatch.setenv("DLC_CACHE_SIZE", "5000")
    store.write(key_of(8), b"x" * 1000)
    assert sum(e.size for e in store.entries()) <= 0.9 * 5000
    assert {e.path.stem for e in store.entries()} == {key_of(number) for number in (1, 6, 7, 8)}
    assert (folder / "notes.txt").exists()


def test_using_an_entry_writes_at_most_once_a_day(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectCache()
    recent, old = aged(store, 0, days=0.5), aged(store, 1, days=2)
    before = recent.stat().st_mtime
    assert store.read(key_of(0)) and store.read(key_of(1))
    assert recent.stat().st_mtime == before
    assert abs(old.stat().st_mtime - time.time()) < 60


def test_what_stopped_processes_left_goes_but_not_what_is_being_written(folder: Path) -> None:
    store = ObjectCache()
    store.write(key_of(0), b"x")
    stale, fresh = folder / ".new-stale", folder / ".new-fresh"
    for path in (stale, fresh):
        path.write_bytes(b"half")
    os.utime(stale, (time.time() - 7200,) * 2)
    cache_module._unseen.clear()
    store.write(key_of(1), b"x")
    assert (stale.exists(), fresh.exists()) == (False, True)


def test_entries_that_others_remove_meanwhile_are_no_trouble(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectCache()
    for number in range(4):
        aged(store, number, days=4 - number)
    entries = store.entries()
    entries[0].path.unlink()
    monkeypatch.setattr(ObjectCache, "entries", lambda self: entries)
    monkeypatch.setenv("DLC_CACHE_SIZE", "2000")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.write(key_of(9), b"x")
    assert not any(entry.path.exists() for entry in entries[:3])


def test_a_cache_of_no_size_still_gives_kernels(tmp_path: Path) -> None:
    (compiled, _), err = finish(start(tmp_path / "cache", DLC_CACHE_SIZE="0"))
    assert compiled == "1" and not err
    assert not list((tmp_path / "cache").iterdir())


def test_clearing_takes_only_files_of_the_cache(folder: Path, tmp_path: Path) -> None:
    store = ObjectCache()
    store.write(KEY, b"object code")
    (folder / "notes.o").write_text("not ours")
    (folder / f"{'c' * 64}.o").mkdir()
    assert [e.path.name for e in store.clear()] == [f"{KEY}.o"]
    assert {p.name for p in folder.iterdir()} == {"notes.o", f"{'c' * 64}.o"}
    assert store.clear() == []


@pytest.mark.skipif(sys.platform == "win32", reason="owners are not kept")
def test_an_entry_of_another_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectCache()
    store.write(KEY, b"object code")
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    with pytest.warns(DlcWarning, match="belongs to another user; it is compiled again"):
        assert store.read(KEY) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_in_the_place_of_an_entry_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "kernels"))
    store = ObjectCache()
    assert store.folder is not None
    os.mkfifo(store.folder / f"{KEY}.o", 0o600)
    with pytest.warns(DlcWarning, match="is not used"):
        assert store.read(KEY) is None


@pytest.mark.parametrize("size", ["9" * 400, "many", "-1", "1e5"])
def test_a_size_that_makes_no_sense_is_not_heeded(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlc.backends.cpu.cache import LIMIT, cache_limit

    monkeypatch.setenv("DLC_CACHE_SIZE", size)
    with pytest.warns(DlcWarning, match="not heeded"):
        assert cache_limit() == LIMIT
