"""What the CUDA compiler makes of whole training steps, without a GPU: the table of docs/cuda.md.

    python -m pip install "dlc[cuda]"
    python -m benchmarks.cuda_cubins [--write]

A row is one kernel: how often a step launches it, the size of its PTX and of its sm_90 cubin, and what a thread needs.
`--write` puts the tables into docs/cuda.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import dlc
from dlc import nn, optim
from dlc.backends.cuda.compile import CAPABILITY, compile_entry
from dlc.backends.cuda.entry import COPY_ENTRY, TARGET, entry_source
from dlc.backends.emission import kernel_of
from dlc.backends.plan import KernelStep, make_plan
from dlc.ops.definition import Kind
from dlc.passes.schedule import is_kernel

DOCUMENT = Path(__file__).parent.parent / "docs" / "cuda.md"
BEGIN, END = "<!-- begin: python -m benchmarks.cuda_cubins --write -->", "<!-- end -->"
NETWORKS = {"softmax regression 784-10": (784, 10), "MLP 784-512-512-10": (784, 512, 512, 10)}
OPTIMISERS: dict[str, Callable[[], optim.Optimizer]] = {"SGD": lambda: optim.SGD(0.1), "Adam": lambda: optim.Adam(1e-3)}
PACKAGES = ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink")


def kernels(widths: tuple[int, ...], optimizer: optim.Optimizer) -> Iterator[tuple[str, str, int]]:
    """(what it computes, source, launches) of each kernel of a whole training step under cross-entropy."""
    model = nn.Sequential(*[m for i, o in pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())][:-1])
    x, y = dlc.input("x", ("B", widths[0])), dlc.input("y", ("B",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    step = dlc.train_step(model, [x, y], loss, optimizer, backend="reference")
    plan = make_plan(step.program.final, lambda node: kernel_of(node, TARGET))
    found: dict[str, list[str]] = {}
    for launch in plan.steps:
        if isinstance(launch, KernelStep):
            node = launch.calls[0].node
            inner = node.attrs["body"].nodes if node.op.kind is Kind.FUSED else (node,)
            text = " + ".join(n.op.name for n in inner if is_kernel(n))
            found.setdefault(launch.calls[0].code.source, []).append(text)
    for source, texts in found.items():
        yield texts[0], entry_source(source), len(texts)


def tables() -> Iterator[str]:
    """The Markdown, line by line."""
    made = {}
    for network, widths in NETWORKS.items():
        for name, optimizer in OPTIMISERS.items():
            yield f"**{network}, {name}**"
            yield ""
            yield "| kernel | launches | PTX bytes | cubin bytes | registers | stack | spills |"
            yield "|---|---|---|---|---|---|---|"
            for text, source, launches in [*kernels(widths, optimizer()), ("copy of bytes", COPY_ENTRY, 0)]:
                if source not in made:
                    began = time.perf_counter()
                    made[source] = compile_entry(source), time.perf_counter() - began
                c, _ = made[source]
                text = text if len(text) <= 72 else f"{text[:69]}..."
                yield (
                    f"| {text} | {launches or ''} | {len(c.ptx)} | {len(c.cubin)} | {c.registers} | {c.stack} |"
                    f" {c.spilled} |"
                )
            yield ""
    most = max(c.registers for c, _ in made.values())
    spilled = sum(c.spilled > 0 or c.stack > 0 for c, _ in made.values())
    yield (
        f"{len(made)} different kernels for sm_{CAPABILITY[0]}{CAPABILITY[1]}: at most {most} registers a thread,"
        f" {spilled} with a stack or spills, compiled in {sum(s for _, s in made.values()):.0f} seconds by"
        f" {', '.join(f'{p} {version(p)}' for p in PACKAGES)}."
    )


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    text = "\n".join(tables())
    if not options.write:
        print(text)
        return
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
