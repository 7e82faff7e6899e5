"""What a GPU runs: the source of a kernel inside an entry that hands each thread its tasks, and the shape of a launch.

An entry takes the address of the bases, the address of the table's arguments (`dlc.backends.table` says what they
hold) and where its row begins in them. It finds its task's argument block on the device, so a launch depends on the
host for its size alone. Once an index was out of range nothing runs any more: no host needs to look before the commit.
"""

from __future__ import annotations

from dlc.backends.table import CALL_FIELDS, KERNEL_FIELDS
from dlc.backends.target import Target

TARGET = Target("cuda", vector=0, registers=255)
THREADS = 128  # of a block, at most
WARP = 32
MOST_BLOCKS = 65535  # beyond them, threads take several tasks
ARGUMENTS = ("bases_address", "table_address", "row")

HEAD = """def entry(bases_address, table_address, row):
    bases = pointer_at(bases_address)
    table = pointer_at(table_address)
    if pointer_status(bases)[0] == 0:
        task = cuda.grid(1)
"""

TASKS = f"""        while task < table[row]:
            call = row + {KERNEL_FIELDS}
            while table[call + {CALL_FIELDS}] <= task:
                call += {CALL_FIELDS}
            args = pointer_at(table_address + 8 * table[call + 1])
            begin = task - table[call]
            end = begin + 1
"""

STRIDE = """            task += cuda.gridsize(1)
"""

COPY_ENTRY = (
    HEAD
    + """        args = pointer_at(table_address + 8 * row)
        source = pointer_uint8(bases, args, 0)
        target = pointer_uint8(bases, args, 1)
        while task < args[4]:
            target[task] = source[task]
"""
    + STRIDE
)


def entry_source(kernel: str) -> str:
    """The source of an entry around the source of a kernel, ``def kernel(bases, args, begin, end)``.

    >>> print(entry_source("def kernel(bases, args, begin, end):\\n    p0 = pointer_float32(bases, args, 0)\\n"))
    def entry(bases_address, table_address, row):
        bases = pointer_at(bases_address)
        table = pointer_at(table_address)
        if pointer_status(bases)[0] == 0:
            task = cuda.grid(1)
            while task < table[row]:
                call = row + 3
                while table[call + 2] <= task:
                    call += 2
                args = pointer_at(table_address + 8 * table[call + 1])
                begin = task - table[call]
                end = begin + 1
                p0 = pointer_float32(bases, args, 0)
                task += cuda.gridsize(1)
    <BLANKLINE>
    """
    body = kernel.splitlines()[1:]
    return HEAD + TASKS + "".join(f"        {line}\n" for line in body) + STRIDE


def launch_shape(tasks: int) -> tuple[int, int]:
    """(blocks, threads of a block) for a number of tasks, one thread each as long as there are blocks.

    >>> launch_shape(1), launch_shape(1000), launch_shape(10**9)
    ((1, 32), (8, 128), (65535, 128))
    """
    threads = min(THREADS, -(-tasks // WARP) * WARP)
    return min(-(-tasks // threads), MOST_BLOCKS), threads
