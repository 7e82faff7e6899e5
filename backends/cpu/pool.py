"""Where threads meet: the words of the block of memory that the dispatcher and the workers share.

A region is one kernel whose tasks are shared out in chunks. `WORD` says how far it is: its number, how many chunks it
has, and the next one to be claimed. Whoever advances it by compare-and-swap owns a chunk, and knows that the region is
still open, so that the words below it are that region's. The caller closes a region when `DONE` has counted all chunks,
whoever ran them; workers that sleep or come late are not waited for. One caller at a time has the pool (`BUSY`);
others, and those that find no workers, run their kernels alone. Results do not depend on who runs what.
"""

from __future__ import annotations

LINE = 8  # int64 words of a cache line; words that different threads write lie on different lines

WORD = 0 * LINE  # region << 32 | chunks << 16 | next chunk
DONE = 1 * LINE  # chunks of this region that are finished
BUSY = 2 * LINE  # whether a caller has the pool
SLEEPERS = 3 * LINE  # workers that wait on the condition
THREADS = 4 * LINE  # how many threads share the work, the caller included: 1 where there are no workers
STOP = 5 * LINE  # asks the workers to return
KERNEL, BASES, ARGS, FIRST, SIZE, TASKS = range(6 * LINE, 6 * LINE + 6)  # the open region
MUTEX, CONDITION = 8 * LINE, 16 * LINE  # a pthread_mutex_t and a pthread_cond_t
WORDS = 24 * LINE

MOST_CHUNKS = 0xFFFF
CHUNKS_A_THREAD = 4  # so that one that is held up does not hold up all
SPINS = 20_000  # looks at the word before a worker sleeps, about a millisecond
PATIENCE = 2_000  # looks at the count of chunks before the caller lets others have its core
