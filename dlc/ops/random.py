"""Random numbers that are a pure function of (seed, step, site, element): the same on every backend, whatever is fused.

The generator is Philox4x32-10 (dlc/ops/philox.py). A *site* tells one draw of a program from another: it is a hash of
the module path and of the draw's ordinal among those of that path. Ordinals are counted per `counted_draws` scope. The
outermost call of a module opens one that the module itself remembers, so that a second call of the same module draws
anew, while another instance of the model, in this process or another, draws what the first one drew. `dlc.trace` opens
a fresh one, so that tracing twice gives the same graph. Draws outside of any scope are counted per process.

A draw inside the body of a scan does not depend on the loop's values, so it is made once, before the loop.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import finalize

import numpy as np

from dlc.dims import Dim, DimLike, Shape, dim, shape_of
from dlc.dtypes import FLOATING, HALF, INTEGER, dtype_name
from dlc.errors import AttributeValueError, DTypeError
from dlc.ir import TensorType
from dlc.ops.arithmetic import floor_divide
from dlc.ops.definition import Array, Emitter, Kind, Sample, define, located, nbytes
from dlc.ops.elementwise import convert
from dlc.ops.functions import cos, log, sqrt
from dlc.ops.gather import take
from dlc.ops.leaves import SEED, STEP, scalar
from dlc.ops.logic import bitwise_right_shift
from dlc.ops.philox import random_word
from dlc.ops.reduce import one_axis
from dlc.ops.sorting import argsort
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import current_path

Counts = dict[str, int]

_outside: Counts = {}
_counts: ContextVar[Counts | None] = ContextVar("dlc_draws", default=None)
_owned: dict[int, Counts] = {}  # by id of a living owner
_observed: ContextVar[set[int] | None] = ContextVar("dlc_sites", default=None)


# ---------------------------------------------------------------- sites


@contextmanager
def counted_draws(owner: Any = None) -> Iterator[None]:
    """Count the draws made inside from the start, or where `owner` left off; a scope that is open already stays."""
    if owner is not None and _counts.get() is not None:
        yield
        return
    token = _counts.set({} if owner is None else _counts_of(owner))
    try:
        yield
    finally:
        _counts.reset(token)


def _counts_of(owner: Any) -> Counts:
    if id(owner) not in _owned:
        _owned[id(owner)] = {}
        finalize(owner, _owned.pop, id(owner))
    return _owned[id(owner)]


def next_site() -> int:
    """The site of a draw made now: 32 bits that are equal in every process."""
    counts = _counts.get()
    counts = _outside if counts is None else counts
    path = current_path()
    ordinal = counts[path] = counts.get(path, -1) + 1
    return site_named(f"{path}#{ordinal}")


@contextmanager
def observed_sites() -> Iterator[set[int]]:
    """A set that gathers the sites of all draws made inside."""
    outer = _observed.get()
    found: set[int] = set()
    token = _observed.set(found)
    try:
        yield found
    finally:
        _observed.reset(token)
        if outer is not None:
            outer |= found


def site_named(name: str) -> int:
    """The site of a draw that has a name of its own.

    >>> site_named("encoder.0.dropout#0")
    36781756
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


# ---------------------------------------------------------------- bits


def _random_bits_type(seed: TensorType, step: TensorType, *, site: int, shape: Shape, word: int) -> TensorType:
    if seed != TensorType("uint64") or step != TensorType("int64"):
        raise DTypeError(f"random_bits takes a seed u64[] and a step i64[], not {seed} and {step}")
    if not 0 <= site < 2**32 or not 0 <= word < 4:
        raise AttributeValueError(f"random_bits: the site {site} must have 32 bits and the word {word} be 0 to 3")
    return TensorType("uint32", shape)


def _random_bits_reference(seed: Array, step: Array, *, site: int, shape: tuple[int, ...], word: int) -> Array:
    index = np.arange(math.prod(shape), dtype=np.uint64)
    step_bits = np.broadcast_to(step.astype(np.int64).view(np.uint64), index.shape)
    words = random_word(
        np.broadcast_to(seed, index.shape), step_bits, np.full(index.shape, site, np.uint64), index, word
    )
    return words.astype(np.uint32).reshape(shape)


def _random_bits_element(k: Emitter, index: Sequence[str], *, site: int, shape: Shape, word: int) -> str:
    flat = "0"
    for i, d in zip(index, shape, strict=True):
        flat = i if flat == "0" else k.let(f"{flat} * {k.dim(d)} + {i}")
    seed, step = k.load(0, []), k.load(1, [])
    return k.let(f"uint32(random_word({seed}, {step}, {k.dim(site)}, {flat}, {word}))")


def _random_bits_cost(y: TensorType, *_: TensorType, **__: Any) -> tuple[DimLike, DimLike]:
    return 40 * y.size, nbytes(y)  # ten rounds of two products and two combinations


def _random_bits_samples() -> Iterable[Sample]:
    for seed, step, site, shape, word in [(0, 0, 0, (3, 5), 0), (2**64 - 1, 7, 2**32 - 1, (17,), 1), (5, 1, 9, (), 3)]:
        yield Sample((np.uint64(seed), np.int64(step)), {"site": site, "shape": shape, "word": word}, gradient=False)


@define(
    kind=Kind.INDEX,
    infer=_random_bits_type,
    reference=_random_bits_reference,
    vjp=lambda g, y, seed, step, **_: (None, None),
    element=_random_bits_element,
    cost=_random_bits_cost,
    samples=_random_bits_samples,
)
def random_bits(seed: Any, step: Any, site: int, shape: Any, word: int = 0) -> Tensor:
    """32 random bits an element, as uint32: Philox4x32-10 under the key `seed`, a 0-d uint64.

    The counter is the element's row-major index (two words), the low halves of `step` (a 0-d int64) and of `site`; so
    the bits repeat after 2^32 steps. A draw has four words; `word` says which.

    >>> import dlc, numpy as np
    >>> [hex(v) for v in dlc.evaluate(dlc.ops.random_bits(np.uint64(0), np.int64(0), site=0, shape=(2,)))]
    ['0x6627e8d5', '0xf8e4cca4']
    """
    observed = _observed.get()
    if observed is not None:
        observed.add(site)
    return random_bits.op(wrap(seed), wrap(step), site=site, shape=shape_of(shape), word=word)


# ---------------------------------------------------------------- distributions


def _draw(shape: Shape, site: int | str | None, seed: Any, step: Any) -> tuple[Tensor, Tensor]:
    """Two words of one draw, for the ambient seed, step and site where none are given."""
    at = next_site() if site is None else site_named(site) if isinstance(site, str) else site
    key = (SEED if seed is None else wrap(seed), STEP if step is None else wrap(step))
    return random_bits(*key, at, shape), random_bits(*key, at, shape, word=1)


def _unit(words: tuple[Tensor, Tensor], dtype: str) -> Tensor:
    """Words as numbers in [0, 1), equally spaced by 2^-24 in float32 and by 2^-53 in float64."""
    if dtype == "float32":
        return convert(floor_divide(words[0], 2**8), dtype) * 2.0**-24
    return convert(words[0], dtype) * 2.0**-32 + convert(floor_divide(words[1], 2**11), dtype) * 2.0**-53


def _floating(dtype: Any, what: str) -> str:
    name = dtype_name(dtype)
    if name not in FLOATING:
        raise DTypeError(f"{what} draws floating-point numbers, not {name}")
    return name


@located
def uniform(
    shape: Any = (),
    low: Any = 0.0,
    high: Any = 1.0,
    dtype: Any = "float32",
    *,
    site: int | str | None = None,
    seed: Any = None,
    step: Any = None,
) -> Tensor:
    """Random numbers uniform in [low, high), which rounding may reach; low and high are numbers or tensors.

    The numbers depend on the program's seed and step, and on the site of the call (see this module's text), which may
    be given as a number or a name.

    >>> import dlc
    >>> [f"{v:.4f}" for v in dlc.evaluate(dlc.uniform((2,), site=0))]
    ['0.3990', '0.9722']
    """
    name = _floating(dtype, "uniform")
    if name in HALF:  # drawn with all bits, and rounded
        return convert(uniform(shape, low, high, "float32", site=site, seed=seed, step=step), name)
    unit = _unit(_draw(shape_of(shape), site, seed, step), name)
    plain = isinstance(low, (int, float)) and isinstance(high, (int, float))
    if plain and low == 0 and high == 1:
        return unit
    span = high - low if plain else wrap(high) - low
    return unit * span + low


@located
def normal(
    shape: Any = (),
    mean: Any = 0.0,
    std: Any = 1.0,
    dtype: Any = "float32",
    *,
    site: int | str | None = None,
    seed: Any = None,
    step: Any = None,
) -> Tensor:
    """Random numbers of the normal distribution, by Box and Muller's method from two 32-bit words: within 6.8 `std`.

    Keyed as in `uniform`.

    >>> import dlc
    >>> dlc.normal(("N", 3))
    <Tensor multiply f32[N,3]>
    """
    name = _floating(dtype, "normal")
    if name in HALF:
        return convert(normal(shape, mean, std, "float32", site=site, seed=seed, step=step), name)
    first, second = _draw(shape_of(shape), site, seed, step)
    radius = sqrt(log((convert(first, name) + 0.5) * 2.0**-32) * -2.0)
    drawn = radius * cos(convert(second, name) * (math.pi * 2.0**-31))
    scaled = drawn if isinstance(std, (int, float)) and std == 1 else drawn * std
    return scaled if isinstance(mean, (int, float)) and mean == 0 else scaled + mean


@located
def bernoulli(
    p: Any, shape: Any = None, *, site: int | str | None = None, seed: Any = None, step: Any = None
) -> Tensor:
    """Random bools, each true with probability `p`, a number or a tensor; the shape is that of `p` unless given.

    Keyed as in `uniform`.

    >>> import dlc
    >>> dlc.evaluate(dlc.bernoulli(0.5, (4,), site=0)).tolist()
    [True, False, True, False]
    """
    probability = wrap(p)
    probability = convert(probability, "float32") if probability.dtype in HALF else probability
    name = _floating(probability.dtype, "bernoulli")
    if isinstance(p, (int, float)) and not 0 <= p <= 1:
        raise AttributeValueError(f"bernoulli: the probability {p} is not between 0 and 1")
    dims = probability.shape if shape is None else shape_of(shape)
    return _unit(_draw(dims, site, seed, step), name) < probability


@located
def randint(
    shape: Any, low: int, high: int, dtype: Any = "int64", *, site: int | str | None = None, seed: Any = None,
    step: Any = None,
) -> Tensor:  # fmt: skip
    """Random integers from `low` to `high` - 1, of an integer dtype that holds them; at most 2^32 different ones.

    Each is as likely as any other to within one part in 2^32 / (high - low). Keyed as in `uniform`.

    >>> import dlc
    >>> dlc.evaluate(dlc.randint((4,), 0, 10, site=0)).tolist()
    [3, 9, 0, 7]
    """
    name = dtype_name(dtype)
    if name not in INTEGER:
        raise DTypeError(f"randint draws integers, not {name}; use uniform")
    limits = np.iinfo(name)
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in (low, high))
    if not whole or not limits.min <= low < high <= int(limits.max) + 1 or high - low > 2**32:
        raise AttributeValueError(
            f"randint: from {low!r} to below {high!r} is no range of 1 to 2^32 integers of dtype {name}"
        )
    word, _ = _draw(shape_of(shape), site, seed, step)
    share = convert(word, "uint64") * scalar(high - low, "uint64")  # in units of 2^-32
    return convert(bitwise_right_shift(share, scalar(32, "uint64")), name) + scalar(low, name)


@located
def permutation(
    x: Any, axis: int = 0, *, site: int | str | None = None, seed: Any = None, step: Any = None
) -> Tensor:
    """The integers from 0 to x - 1 in random order, as int64; or the slices of a tensor along `axis` in random order.

    `x` is an int, the name of a dim, or a tensor. All orders are equally likely: it sorts 64 random bits for each.
    Keyed as in `uniform`.

    >>> import dlc
    >>> sorted(dlc.evaluate(dlc.permutation(5)).tolist())
    [0, 1, 2, 3, 4]
    """
    if isinstance(x, (int, str, Dim)) and not isinstance(x, bool):
        return _order(dim(x), site, seed, step)
    t = wrap(x)
    at = one_axis(axis, t.ndim, "permutation")
    return take(t, _order(t.shape[at], site, seed, step), axis=at)


def _order(size: DimLike, site: int | str | None, seed: Any, step: Any) -> Tensor:
    first, second = _draw((size,), site, seed, step)
    keys = convert(first, "uint64") * scalar(2**32, "uint64") + convert(second, "uint64")
    return argsort(keys)
