"""The memory of training steps: the arena's size against the most bytes that are alive at one step of the plan.

python -m benchmarks.memory
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.networks import NETWORKS, Network, training_step


def row(network: Network) -> str:
    """A network's arena as a row of the table."""
    step, _ = training_step(network)
    plan = step.program.plan
    arena = plan.arena({"N": network.batch})
    ratio = arena.peak / max(arena.lower_bound, 1)
    return f"| {network.name} | {arena.peak} | {arena.lower_bound} | {ratio:.3f} | {len(plan.buffers)} |"


def table() -> Iterator[str]:
    """The lines of the table, one after the other as they are known."""
    yield "| step | arena, bytes | alive at once, bytes | ratio | buffers |\n|---|---|---|---|---|"
    yield from map(row, NETWORKS)


def main() -> None:
    """Print the table."""
    for line in table():
        print(line, flush=True)


if __name__ == "__main__":
    main()
