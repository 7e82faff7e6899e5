"""DOT text -> picture: with the system's Graphviz where there is one, else with the one inside pygraphviz."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import escape

from dlc.errors import RenderError

FORMATS = ("svg", "png", "pdf")
TIMEOUT = 60.0  # seconds
FONT_FILE = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
_SYSTEM_FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "/System/Library/Fonts")
_BEYOND_OUR_FONT = "\u2e80"  # East Asian scripts and symbols begin here
DOTS_PER_INCH = 120
DOTS_PER_INCH_OF_LARGE = 96  # the time that a PNG takes goes with its area; the smallest text is 12 dots high
_LARGE = 50_000  # characters of DOT text, about 200 boxes
_PROGRAM = {"dot": ["dot"], "nop2": ["neato", "-n2"]}  # nop2: positions are given, nothing is laid out


@dataclass(frozen=True)
class Renderer:
    """One way to draw: its name for messages, and the command without format and engine."""

    name: str
    is_system: bool

    def command(self, form: str, engine: str, dots: int = DOTS_PER_INCH) -> list[str]:
        """What to run: DOT comes on standard input, the picture on standard output."""
        settings = [f"dpi={dots}"] if form == "png" else []
        if self.is_system:
            program, *options = _PROGRAM[engine]
            return [shutil.which(program) or program, *options, f"-T{form}", *(f"-G{s}" for s in settings)]
        return [sys.executable, "-P", str(Path(__file__).with_name("draw_process.py")), form, engine, *settings]


def renderers() -> list[Renderer]:
    """The ways to draw on this machine, best first; empty when there is none."""
    found = []
    if shutil.which("dot") and shutil.which("neato"):
        found.append(Renderer("the system's Graphviz", True))
    if sys.executable and find_spec("pygraphviz") is not None:
        found.append(Renderer("pygraphviz", False))
    return found


def draw(dot: str, form: str, *, timeout: float = TIMEOUT, engine: str = "dot") -> bytes:
    """The picture of DOT text in one of `FORMATS`. Raises `RenderError` when nothing can draw or time runs out."""
    tried: list[str] = []
    for renderer in renderers():
        with _environment(dot) as env:
            try:
                done = subprocess.run(
                    renderer.command(form, engine, DOTS_PER_INCH if len(dot) < _LARGE else DOTS_PER_INCH_OF_LARGE),
                    input=dot.encode("utf-8"),
                    capture_output=True,
                    timeout=timeout,
                    env=env,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise RenderError(
                    f"laying out the picture took longer than {timeout:g} s and was stopped; draw less of it "
                    '(depth=1 draws each module as one box; view="forward"), or give it longer with timeout='
                ) from error
            except OSError as error:
                tried.append(f"{renderer.name}: {error}")
                continue
        if done.returncode == 0 and done.stdout.startswith(_MAGIC[form]):
            return done.stdout
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        tried.append(f"{renderer.name}: {last[0]}")
    if tried:
        raise RenderError(f"Graphviz could not draw the picture as {form} ({'; '.join(tried)})")
    raise RenderError(
        "drawing needs Graphviz, and neither a `dot` program nor the pygraphviz package was found; "
        "install one: python -m pip install 'pygraphviz>=2.0'"
    )


_MAGIC = {"svg": b"<?xml", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}


@contextmanager
def _environment(dot: str) -> Iterator[dict[str, str]]:
    """The environment of the drawing process: this process's packages, and fontconfig pointed at the font we bring.

    A machine without fonts would draw empty boxes, and one with other fonts another picture. The machine's own fonts
    serve only where the text needs characters that ours lacks. All is done in a folder of its own, because fontconfig
    writes into the folders that it reads.
    """
    with tempfile.TemporaryDirectory(prefix="dlc-render-") as folder:
        shutil.copy(FONT_FILE, folder)
        dirs = [folder, *(_SYSTEM_FONTS if max(dot) >= _BEYOND_OUR_FONT else ())]
        conf = Path(folder, "fonts.conf")
        conf.write_text(
            '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
            f"{''.join(f'<dir>{escape(d)}</dir>' for d in dirs)}<cachedir>{escape(folder)}</cachedir></fontconfig>",
            encoding="utf-8",
        )
        path = os.pathsep.join(p for p in sys.path if p)
        yield {**os.environ, "FONTCONFIG_FILE": str(conf), "PYTHONPATH": path, "PYTHONUTF8": "1"}


# ---------------------------------------------------------------- files


def checked_path(path: str | os.PathLike[str], suffixes: Sequence[str]) -> Path:
    """The path, once its suffix is one that we write and its folder exists. Raises `RenderError`."""
    target = Path(path)
    if target.suffix.lower().lstrip(".") not in suffixes:
        listed = ", ".join(f".{s}" for s in suffixes)
        what = f"the suffix {target.suffix!r}" if target.suffix else "no suffix"
        raise RenderError(f"{str(target)!r} has {what}, and the suffix says the format: use one of {listed}")
    if not target.parent.is_dir():
        raise RenderError(f"the folder {str(target.parent)!r} for the picture does not exist; create it first")
    if target.is_dir():
        raise RenderError(f"{str(target)!r} is a folder, not a file to draw into")
    return target


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or what was there before."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.chmod(temporary, 0o666 & ~_umask())  # temporary files are private; pictures are ordinary files
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise RenderError(f"cannot write {str(path)!r}: {reason}; choose a folder you may write to") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
