"""Memory planning: buffers that live together never share bytes, and little is wasted."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dlc.passes.memory import allocate
from dlc.state import ALIGNMENT

BUFFERS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 40), st.integers(0, 40)).map(
        lambda b: (b[0], min(b[1:]), max(b[1:]))
    ),
    max_size=60,
)


def most_bytes_alive(sizes, starts, ends):
    steps = range(max(ends, default=0) + 1)
    rounded = [(size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT for size in sizes]
    return max(sum(size for size, s, e in zip(rounded, starts, ends, strict=True) if s <= step <= e) for step in steps)


@given(BUFFERS)
def test_live_buffers_never_overlap_and_lie_within_the_arena(buffers):
    sizes, starts, ends = zip(*buffers, strict=True) if buffers else ((), (), ())
    arena = allocate(sizes, starts, ends)
    assert len(arena.offsets) == len(sizes)
    for i, (size, start, end) in enumerate(buffers):
        assert arena.offsets[i] % ALIGNMENT == 0
        assert arena.offsets[i] >= 0 and (size == 0 or arena.offsets[i] + size <= arena.peak)
        for j in range(i):
            if sizes[j] and size and starts[j] <= end and start <= ends[j]:
                apart = arena.offsets[i] + size <= arena.offsets[j] or arena.offsets[j] + sizes[j] <= arena.offsets[i]
                assert apart, (i, j, arena)
    assert arena.lower_bound == most_bytes_alive(sizes, starts, ends)
    assert arena.peak >= arena.lower_bound


def test_buffers_of_one_size_waste_nothing():
    starts = list(range(100))
    arena = allocate([640] * 100, starts, [s + 3 for s in starts])
    assert arena.peak == arena.lower_bound == 4 * 640


def test_freed_neighbours_join():
    arena = allocate([64, 64, 128], [0, 0, 1], [0, 0, 1])
    assert arena.peak == 128


def test_a_free_block_at_the_top_grows_instead_of_being_left_behind():
    arena = allocate([64, 64, 256], [0, 0, 2], [5, 1, 3])
    assert arena.peak == 64 + 256


def test_planning_takes_about_a_second_for_twenty_thousand_buffers():
    rng = np.random.default_rng(0)
    count = 20_000
    sizes = rng.integers(1, 1 << 20, count).tolist()
    starts = np.arange(count)
    ends = np.where(rng.random(count) < 0.5, starts + rng.integers(1, 10, count), 2 * count - starts)  # a backward pass
    began = time.perf_counter()
    arena = allocate(sizes, starts.tolist(), ends.tolist())
    assert time.perf_counter() - began < 3
    assert arena.peak < 1.1 * arena.lower_bound
