"""The dispatcher: one kernel, the same for every program, that walks a plan's table.

It is compiled and cached like any kernel. Its arguments are the table's address, the number of rows, the address of
the argument blocks (`dlc.backends.cpu.table` says what they hold), and then, for the arrays of this call: where an
array object keeps the address of its data, where a tuple keeps its items, which base holds the address of the tuple of
inputs (the next one holds that of the outputs), the number of inputs, the first output's base and the number of
outputs. Python gives the addresses of two tuples at once; looking up the data of all arrays would take it longer than
small kernels run. Loops keep their state in bases, which belong to one call, so the table and the arguments are shared
by all threads.
"""

from __future__ import annotations

from functools import cache

from dlc.backends.cpu.compile import compile_kernels
from dlc.backends.cpu.table import CARRY_FIELDS, COMMIT, COPY, LOOP, LOOP_FIELDS, NEXT, SLICE_FIELDS
from dlc.backends.plan import FIRST

SOURCE = f'''def kernel(bases, args):
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
    row = int64(0)
    while row < rows:
        what = table[2 * row]
        k = table[2 * row + 1]
        row += 1
        if what > {NEXT}:
            call(what, bases, a, k)
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
        elif bases[a[k]] + 1 < a[k + 1] and status[0] == 0:
            bases[a[k]] = bases[a[k]] + 1
            row = a[k + 2] + 1
            s = k + {LOOP_FIELDS}
            for i in range(a[k + 4]):
                bases[a[s]] = bases[a[s]] + a[s + 3]
                s += {SLICE_FIELDS}
            for i in range(a[k + 5]):
                result = bases[a[s + 4]] + a[s + 5]
                spare = bases[a[s + 6]] + a[s + 7]
                bases[a[s]] = bases[a[s + 1]]
                bases[a[s + 1]] = spare if bases[a[s]] == result else result
                s += {CARRY_FIELDS}
'''


@cache
def dispatcher() -> int:
    """The dispatcher's native address: ``void(int64 *bases, int64 *args)``."""
    (address,) = compile_kernels([SOURCE])
    return address
