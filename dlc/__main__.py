"""The command line: ``python -m dlc demo``, ``doctor``, ``explain FILE`` and ``cache``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dlc
from dlc.errors import DlcError, FileFormatError, RenderError

PACKAGES = ("numpy", "numba", "llvmlite", "networkx", "pygraphviz", "safetensors", "tqdm")
FEATURES = ("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bf16", "amx-tile", "neon", "sve")
OK, BROKEN, INTERRUPTED = 0, 1, 130
FAILED = 2  # also what argparse exits with


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 where doctor finds something broken, 2 for an error."""
    options = _parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except DlcError as error:
        print(f"dlc: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"dlc: {place}{error.strerror or error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dlc", description="dlc, a deep-learning compiler in Python.")
    parser.add_argument("--version", action="version", version=f"dlc {dlc.__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    demo_ = commands.add_parser("demo", help="train LeNet-5 on handwritten digits; draw its graph and curves")
    demo_.add_argument("--epochs", type=_positive, default=20, metavar="N", help="epochs to train (default: 20)")
    demo_.add_argument(
        "--out", type=Path, default=Path("dlc-demo"), metavar="DIR", help="folder of the pictures (default: dlc-demo)"
    )
    demo_.set_defaults(run=demo)

    doctor_ = commands.add_parser("doctor", help="check this installation: versions, compiler, cache, drawing")
    doctor_.set_defaults(run=doctor)

    explain_ = commands.add_parser("explain", help="compile a graph saved as JSON and say how it went")
    explain_.add_argument("file", type=Path, metavar="FILE", help="a .json file, from dlc.graph_to_json(graph)")
    explain_.set_defaults(run=explain)

    cache_ = commands.add_parser("cache", help="list or clear the kernels that are kept on disk")
    cache_.add_argument(
        "action", nargs="?", choices=("list", "clear"), default="list", help="list (the default) or clear"
    )
    cache_.set_defaults(run=cache)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


# ---------------------------------------------------------------- demo


def demo(options: argparse.Namespace) -> int:
    """Train LeNet-5 on the digits that come with dlc; print a table and write three pictures."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    from dlc import data, nn, optim
    from dlc.render import render

    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(120), nn.ReLU(), nn.Linear(84), nn.ReLU(), nn.Linear(10),
    )  # fmt: skip
    graph = dlc.trace(model, dlc.input("image", ("N", 1, 28, 28)))
    print(dlc.summary(graph))
    (x, y), (xv, yv) = data.digits(size=28)
    print(f"\n{len(x)} handwritten digits to train on, {len(xv)} held out; batches of 64, Adam at 0.001")

    trainer = dlc.Trainer(model, loss="cross_entropy", optimizer=optim.Adam(1e-3), metrics=["accuracy"], seed=0)
    started = time.perf_counter()
    trainer.build(x, y)
    compiled = time.perf_counter() - started
    print(f"compiled forward, backward and update in {compiled:.2f} s\n")
    training = 0.0
    for _ in range(options.epochs):
        started = time.perf_counter()
        history = trainer.fit(x, y, epochs=1, batch_size=64, validation_data=(xv, yv), verbose=False)
        seconds = time.perf_counter() - started
        training += seconds
        if history.epochs == 1:
            print(_row(["epoch", *history, "seconds"]))
        newest = [f"{values[-1]:.4f}" for values in history.values()]
        print(_row([str(history.epochs), *newest, f"{seconds:.2f}"]), flush=True)
    result = trainer.evaluate(xv, yv)
    print(f"\ntest accuracy {result['accuracy']:.2%}, test loss {result['loss']:.4f}")
    print(f"compilation {compiled:.2f} s, training {training:.2f} s for {options.epochs} epochs")

    written = [
        render(graph, out / "lenet.png", title="LeNet-5"),
        render(trainer.program.graph, out / "lenet_joint.svg", view="joint", title="LeNet-5: one training step"),
        history.plot(out / "curves.png"),
    ]
    print("pictures:", *(f"  {path}" for path in written), sep="\n")
    return OK


def _row(cells: Iterable[str]) -> str:
    return "".join(f"{cell:>14}" if i else f"{cell:>5}" for i, cell in enumerate(cells))


# ---------------------------------------------------------------- explain


def explain(options: argparse.Namespace) -> int:
    """Compile a graph that was saved as JSON and print how it went. Nothing in the file is executed."""
    path: Path = options.file
    if path.suffix.lower() != ".json":
        raise FileFormatError(
            f"{str(path)!r} is not a .json file; save a graph with "
            "pathlib.Path('graph.json').write_text(dlc.graph_to_json(graph)) and explain that file"
        )
    graph = dlc.graph_from_json(path.read_bytes())
    print(dlc.compile(graph).explain())
    return OK


# ---------------------------------------------------------------- cache


def cache(options: argparse.Namespace) -> int:
    """List the kernels that are kept between processes, or remove them. Only files that dlc wrote are touched."""
    from dlc.backends.cpu.cache import ObjectCache, cache_limit

    store = ObjectCache()  # warns where the folder cannot be used
    if store.folder is None:
        return BROKEN
    print(f"{'folder':<10} {store.folder}")
    if options.action == "clear":
        removed = store.clear()
        size = _megabytes(sum(e.size for e in removed))
        print(f"{'removed':<10} {len(removed)} kernel{'s' * (len(removed) != 1)}, {size}")
        return OK
    entries = store.entries()
    print(f"{'kernels':<10} {len(entries)}")
    print(f"{'size':<10} {_megabytes(sum(e.size for e in entries))} of at most {_megabytes(cache_limit())}")
    if entries:
        print(f"{'last used':<10} {_day(entries[0].used)} to {_day(entries[-1].used)}")
    return OK


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment))


# ---------------------------------------------------------------- doctor


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix` says what to do where it is broken."""

    name: str
    text: str
    fix: str = ""
    is_needed: bool = True

    @property
    def is_broken(self) -> bool:
        """Whether dlc cannot do its work because of this."""
        return bool(self.fix) and self.is_needed

    def __str__(self) -> str:
        mark = "ok  " if not self.fix else "FAIL" if self.is_needed else "note"
        return f"{mark}  {self.name:<10} {self.text}" + (f"\n      {'':<10} fix: {self.fix}" if self.fix else "")


def doctor(options: argparse.Namespace) -> int:
    """Look at everything that dlc needs, and say how to repair what is broken."""
    broken = 0
    for name, check in CHECKS.items():
        for finding in _run_check(name, check):
            print(finding, flush=True)
            broken += finding.is_broken
    print("\nall is well" if not broken else f"\n{broken} of the above must be repaired")
    return BROKEN if broken else OK


def _run_check(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that fails in a way of its own is a finding too."""
    try:
        yield from check()
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        yield Finding(name, text, "reinstall dlc and its packages; if that does not help, report all these lines")


def check_versions() -> Iterator[Finding]:
    """Python, dlc and the packages that dlc needs."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Finding("dlc", f"{dlc.__version__} on Python {platform.python_version()}, {system}")
    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    fix = f"python -m pip install {' '.join(missing)}" if missing else ""
    yield Finding("packages", ", ".join(found) + (f"; missing: {', '.join(missing)}" if missing else ""), fix)


def check_processor() -> Iterator[Finding]:
    """The CPU's name, the features that kernels use, and the cores that this process may use."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    known = [name for name in FEATURES if features.get(name)]
    yield Finding("processor", f"{binding.get_host_cpu_name()}: {', '.join(known) or 'no known vector extensions'}")
    from dlc.backends.cpu.host import cpu_target
    from dlc.backends.cpu.threads import available_cores, fork_join_microseconds

    vectors = f"kernels for {8 * cpu_target().vector}-bit vectors"
    yield Finding("cores", f"{available_cores()} usable of {os.cpu_count()}; {vectors}")
    threads = f"{dlc.get_threads()} (DLC_THREADS or dlc.set_threads changes it)"
    yield Finding("threads", f"{threads}; sharing a kernel out takes {fork_join_microseconds():.2f} microseconds")


def check_cuda() -> Iterator[Finding]:
    """Whether the cuda backend runs here; dlc works without."""
    from dlc.backends.cuda.devices import describe

    yield Finding("cuda", describe())


def check_cache() -> Iterator[Finding]:
    """Whether compiled kernels can be kept between processes."""
    import warnings

    from dlc.backends.cpu.cache import ObjectCache, cache_folder

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folder = ObjectCache().folder
    if folder is None or not os.access(folder, os.W_OK | os.X_OK):
        reason = str(caught[0].message) if caught else "it cannot be written to"
        fix = "set DLC_CACHE_DIR to a folder that only you can write to"
        yield Finding("cache", f"{cache_folder()}: {reason}", fix, is_needed=False)
        return
    entries = ObjectCache().entries()
    yield Finding("cache", f"{folder}: {len(entries)} kernels, {sum(e.size for e in entries) / 1e6:.1f} MB")


def check_drawing() -> Iterator[Finding]:
    """Which Graphviz is found, and whether it draws."""
    from dlc.render import render
    from dlc.render.layout import renderers

    names = [r.name for r in renderers()]
    a, b = dlc.input("a"), dlc.input("b")
    graph = dlc.graph([a, b], [3 * a + b])
    try:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            sizes = [render(graph, Path(folder, f"test.{form}")).stat().st_size for form in ("svg", "png", "pdf")]
            seconds = time.perf_counter() - started
    except RenderError as error:
        yield Finding("drawing", error.message, "python -m pip install --force-reinstall 'pygraphviz>=2.0'")
        return
    yield Finding("drawing", f"{names[0]}: drew SVG, PNG and PDF ({sum(sizes)} bytes) in {seconds:.2f} s")


def check_compiler() -> Iterator[Finding]:
    """Whether a small program compiles and agrees with NumPy."""
    import numpy as np

    x = dlc.input("x", ("N", 16))
    graph = dlc.graph([x], [(dlc.exp(-x * x) + 0.5 * x).sum(axis=1)])
    data = np.random.default_rng(0).standard_normal((33, 16)).astype(np.float32)
    expected = (np.exp(-data.astype(np.float64) ** 2) + 0.5 * data).sum(axis=1)
    started = time.perf_counter()
    program = dlc.compile(graph)
    compiled = time.perf_counter() - started
    (result,) = program(data)
    error = float(np.abs(result - expected).max())
    text = f"compiled a test program in {compiled:.2f} s; largest difference to NumPy {error:.1e}"
    fix = "" if error < 1e-4 else "the results are wrong: remove the cache folder above and run doctor again"
    yield Finding("compiler", text, fix)


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "versions": check_versions,
    "processor": check_processor,
    "cache": check_cache,
    "drawing": check_drawing,
    "compiler": check_compiler,
    "cuda": check_cuda,
}


if __name__ == "__main__":
    raise SystemExit(main())
