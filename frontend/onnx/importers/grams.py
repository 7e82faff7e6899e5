"""Counts of sequences of numbers within a longer one: TfIdfVectorizer."""

from __future__ import annotations

import numpy as np

from dlc import ops
from dlc.dims import Dim
from dlc.dtypes import INTEGER
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer
from dlc.ops.definition import Array
from dlc.ops.tensor import Tensor

MAX_COLUMNS = 2**24


def _pool(c: Call) -> dict[int, Array]:
    """The n-grams [G, n] that are counted, by n; those of each length lie together, from `ngram_counts` on."""
    if c.texts("pool_strings"):
        raise c.unsupported("n-grams of strings")
    pool, starts = np.array(c.ints("pool_int64s", []), np.int64), c.ints("ngram_counts", [])
    assert starts is not None
    ends = [*starts[1:], len(pool)]
    parts = list(enumerate(zip(starts, ends, strict=True), 1))
    if starts[:1] != [0] or any(not 0 <= a <= b <= len(pool) or (b - a) % n for n, (a, b) in parts):
        raise FileFormatError(f"{c.place}: ngram_counts {starts[:8]} does not fit a pool of {len(pool)} numbers")
    return {n: pool[a:b].reshape(-1, n) for n, (a, b) in parts}


def _occurrences(x: Tensor, grams: Array, skips: range) -> Tensor:
    """How often each n-gram [G, n] is in the rows of x [N, C], with the same number of elements left out between."""
    count, n = grams.shape
    found = ops.zeros((x.shape[0], count))
    for gap in skips if n > 1 else range(1):
        reach = (n - 1) * (gap + 1) + 1
        if x.shape[1] >= reach:
            windows = ops.windows(x, (1,), (n,), (1,), (gap + 1,))  # [N, places, n]
            same = ops.equal(ops.expand_dims(windows, 2), ops.constant(grams))
            found = found + ops.sum(ops.astype(ops.all(same, axis=3), "float32"), axis=1)
    return found


def _vectorised(c: Call) -> Tensor:
    x, pool, columns = c[0], _pool(c), c.ints("ngram_indexes", [])
    least, most, skip = (c.int(name, 0) for name in ("min_gram_length", "max_gram_length", "max_skip_count"))
    mode, weights = c.text("mode"), c.floats("weights")
    assert columns is not None
    total = sum(len(g) for g in pool.values())
    if x.ndim not in (1, 2) or x.dtype not in INTEGER or isinstance(x.shape[-1], Dim):
        raise c.unsupported(f"n-grams of {x.type}")
    if len(columns) != total or not columns or any(not 0 <= i < MAX_COLUMNS for i in columns):
        raise FileFormatError(f"{c.place}: {len(columns)} ngram_indexes for {total} n-grams")
    if mode not in ("TF", "IDF", "TFIDF") or not 1 <= least <= most <= len(pool) or skip < 0:
        raise FileFormatError(f"{c.place}: {mode!r:.40} of {least} to {most} elements, of which {skip} are left out")
    if weights is not None and len(weights) != total:
        raise FileFormatError(f"{c.place}: {len(weights)} weights for {total} n-grams")
    rows = ops.astype(ops.reshape(x, (-1, x.shape[-1])), "int64")
    skip = min(skip, x.shape[-1])
    c.counted(10 * skip * len(pool))
    parts = [
        _occurrences(rows, grams, range(skip + 1)) if least <= n <= most else ops.zeros((rows.shape[0], len(grams)))
        for n, grams in pool.items()
    ]
    counts = ops.concat(parts, axis=1)
    if mode == "IDF":
        counts = ops.astype(ops.greater(counts, 0.0), "float32")
    if mode != "TF" and weights is not None:
        counts = counts * ops.constant(np.array(weights, np.float32))
    found = ops.index_add(ops.zeros((rows.shape[0], max(columns) + 1)), columns, counts, axis=1)
    return found if x.ndim == 2 else found[0]


GRAMS: dict[str, Importer] = {"TfIdfVectorizer": _vectorised}
