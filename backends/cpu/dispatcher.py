"""The dispatcher: one kernel, the same for every program, that walks a plan's table; and the workers that help it.

Both are compiled and cached like any kernel. The dispatcher's arguments are the table's address, the number of rows,
the address of the argument blocks (`dlc.backends.table` says what they hold), and then, for the arrays of this
call: where an array object keeps the address of its data, where a tuple keeps its items, which base holds the address
of the tuple of inputs (the next one holds that of the outputs), the number of inputs, the first output's base and the
number of outputs. Python gives the addresses of two tuples at once; looking up the data of all arrays would take it
longer than small kernels run. Loops keep their state in bases, which belong to one call, so the table and the arguments
are shared by all threads. The last argument is the address of the pool (`dlc.backends.cpu.pool`).
"""

from __future__ import annotations

from functools import cache

from dlc.backends.cpu import pool as p
from dlc.backends.cpu.compile import compile_kernels
from dlc.backends.plan import FIRST
from dlc.backends.table import (
    AGAIN,
    BRANCH,
    CALL_FIELDS,
    CARRY_FIELDS,
    COMMIT,
    COPY,
    FINISH,
    GO,
    KERNEL_FIELDS,
    LOOP,
    LOOP_FIELDS,
    NEXT,
    SLICE_FIELDS,
    WHILE,
    WHILE_FIELDS,
)

# Runs tasks `at` to `stop` of the kernel `what`, which may be shared out over several calls.
TASKS = f'''
s = k + {KERNEL_FIELDS}
while at < stop:
    while a[s + {CALL_FIELDS}] <= at:
        s += {CALL_FIELDS}
    until = lesser(stop, a[s + {CALL_FIELDS}])
    call(what, bases, a, a[s + 1], at - a[s], until - a[s])
    at = until
'''

# What a carry's step wrote becomes its current value, and the other place is written next.
TURNED = f'''
result = bases[a[s + 4]] + a[s + 5]
spare = bases[a[s + 6]] + a[s + 7]
bases[a[s]] = bases[a[s + 1]]
bases[a[s + 1]] = spare if bases[a[s]] == result else result
s += {CARRY_FIELDS}
'''


def indented(text: str, depth: int) -> str:
    """Lines at a depth of nesting."""
    return text.strip().replace("\n", "\n" + "    " * depth)


SOURCE = f'''def kernel(bases, args, begin, end):
    table = pointer_at(args[0])
    rows = args[1]
    a = pointer_at(args[2])
    status = pointer_status(bases)
    inputs = pointer_at(bases[args[5]] + args[4])
    for i in range(args[6]):
        bases[{FIRST} + i] = pointer_at(inputs[i] + args[3])[0]
    outputs = pointer_at(bases[args[5] + 1] + args[4])
    for i in range(args[8]):
        bases[args[7] + i] = pointer_at(outputs[i] + args[3])[0]
    pool = pointer_at(args[9])
    threads = int64(0)
    row = int64(0)
    while row < rows:
        what = table[2 * row]
        k = table[2 * row + 1]
        row += 1
        if what > {FINISH}:
            tasks = a[k]
            size = a[k + 1]
            if size < tasks and threads == 0:
                threads = int64(1)
                if pool[{p.THREADS}] > 1:
                    if swap(pool, {p.BUSY}, 0, 1):
                        threads = pool[{p.THREADS}]
            if size < tasks and threads > 1:
                even = (tasks - 1) // (threads * {p.CHUNKS_A_THREAD}) + 1
                size = greater((even - 1) // size + 1, (tasks - 1) // {p.MOST_CHUNKS} // size + 1) * size
            if size >= tasks or threads <= 1:
                at = int64(0)
                stop = tasks
                {indented(TASKS, 4)}
            else:
                chunks = (tasks - 1) // size + 1
                pool[{p.KERNEL}] = what
                pool[{p.BASES}] = address_of(bases)
                pool[{p.ARGS}] = args[2]
                pool[{p.FIRST}] = k
                pool[{p.SIZE}] = size
                pool[{p.TASKS}] = tasks
                put(pool, {p.DONE}, 0)
                put(pool, {p.WORD}, ((look(pool, {p.WORD}) >> 32) + 1) << 32 | chunks << 16)
                if look(pool, {p.SLEEPERS}) > 0:
                    lock(pool, {p.MUTEX})
                    wake(pool, {p.CONDITION})
                    unlock(pool, {p.MUTEX})
                done = int64(0)
                word = look(pool, {p.WORD})
                while word & 0xFFFF < chunks:
                    if swap(pool, {p.WORD}, word, word + 1):
                        at = (word & 0xFFFF) * size
                        stop = lesser(tasks, at + size)
                        {indented(TASKS, 6)}
                        done += 1
                    word = look(pool, {p.WORD})
                increase(pool, {p.DONE}, done)
                waited = int64(0)
                while look(pool, {p.DONE}) < chunks:
                    waited += 1
                    if waited < {p.PATIENCE}:
                        pause()
                    else:
                        give_way()
        elif what == {COMMIT}:
            if status[0] != 0:
                row = rows
        elif what == {COPY}:
            move(bases[a[k + 2]] + a[k + 3], bases[a[k]] + a[k + 1], a[k + 4])
        elif what == {LOOP}:
            length = a[k + 1]
            if length <= 0:
                row = a[k + 3] + 1
            bases[a[k]] = 0
            s = k + {LOOP_FIELDS}
            for i in range(a[k + 4]):
                bases[a[s]] = bases[a[s + 1]] + a[s + 2]
                s += {SLICE_FIELDS}
            for i in range(a[k + 5]):
                initial = bases[a[s + 2]] + a[s + 3]
                result = bases[a[s + 4]] + a[s + 5]
                spare = bases[a[s + 6]] + a[s + 7]
                bases[a[s]] = initial
                bases[a[s + 1]] = result if length % 2 == 1 else spare
                if length <= 0:
                    move(result, initial, a[s + 8])
                s += {CARRY_FIELDS}
        elif what == {NEXT}:
            if bases[a[k]] + 1 < a[k + 1] and status[0] == 0:
                bases[a[k]] = bases[a[k]] + 1
                row = a[k + 2] + 1
                s = k + {LOOP_FIELDS}
                for i in range(a[k + 4]):
                    bases[a[s]] = bases[a[s]] + a[s + 3]
                    s += {SLICE_FIELDS}
                for i in range(a[k + 5]):
                    {indented(TURNED, 5)}
        elif what == {GO}:
            row = a[k]
        elif what == {BRANCH}:
            if byte_at(bases[a[k + 1]] + a[k + 2]) == 0:
                row = a[k]
        elif what == {WHILE}:
            bases[a[k]] = 0
            s = k + {WHILE_FIELDS}
            for i in range(a[k + 4]):
                bases[a[s]] = bases[a[s + 2]] + a[s + 3]
                bases[a[s + 1]] = bases[a[s + 4]] + a[s + 5]
                s += {CARRY_FIELDS}
            if a[k + 1] <= 0:
                row = a[k + 3]
        elif what == {AGAIN}:
            bases[a[k]] = bases[a[k]] + 1
            s = k + {WHILE_FIELDS}
            for i in range(a[k + 4]):
                {indented(TURNED, 4)}
            if bases[a[k]] < a[k + 1] and status[0] == 0:
                row = a[k + 2]
        else:
            s = k + {WHILE_FIELDS}
            for i in range(a[k + 4]):
                result = bases[a[s + 4]] + a[s + 5]
                if bases[a[s]] != result:
                    move(result, bases[a[s]], a[s + 8])
                s += {CARRY_FIELDS}
    if threads > 1:
        put(pool, {p.BUSY}, 0)
'''

WORKER = f'''def kernel(bases, args, begin, end):
    pool = bases
    idle = int64(0)
    while look(pool, {p.STOP}) == 0:
        word = look(pool, {p.WORD})
        if word & 0xFFFF < (word >> 16) & 0xFFFF:
            idle = int64(0)
            what = pool[{p.KERNEL}]
            bases = pointer_at(pool[{p.BASES}])
            a = pointer_at(pool[{p.ARGS}])
            k = pool[{p.FIRST}]
            at = (word & 0xFFFF) * pool[{p.SIZE}]
            stop = lesser(pool[{p.TASKS}], at + pool[{p.SIZE}])
            if swap(pool, {p.WORD}, word, word + 1):
                {indented(TASKS, 4)}
                increase(pool, {p.DONE}, 1)
        else:
            idle += 1
            pause()
            if idle > {p.SPINS}:
                idle = int64(0)
                lock(pool, {p.MUTEX})
                increase(pool, {p.SLEEPERS}, 1)
                word = look(pool, {p.WORD})
                while look(pool, {p.STOP}) == 0 and word & 0xFFFF >= (word >> 16) & 0xFFFF:
                    sleep(pool, {p.CONDITION}, {p.MUTEX})
                    word = look(pool, {p.WORD})
                increase(pool, {p.SLEEPERS}, -1)
                unlock(pool, {p.MUTEX})
'''


@cache
def dispatcher() -> int:
    """The dispatcher's native address, that of a kernel."""
    (address,) = compile_kernels([SOURCE])
    return address


@cache
def worker() -> int:
    """The native address of what workers run, a kernel whose bases are the pool; it returns when asked to stop."""
    (address,) = compile_kernels([WORKER])
    return address
