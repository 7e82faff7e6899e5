"""Nodes without operands: inputs, states, ambient values and constants."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from dlc.dims import Dim, shape_of
from dlc.dtypes import INTEGER, dtype_name
from dlc.errors import AttributeValueError, DTypeError
from dlc.ir import Leaf, Literal, TensorType, TupleType, make_node
from dlc.ops.definition import Kind, Op, build, located, register
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here
from dlc.state import State


class InputLeaf(Leaf):
    """The identity and type of one input of graphs."""

    __slots__ = ("type",)

    def __init__(self, name: str, type: TensorType) -> None:
        super().__init__(name)
        self.type = type


class AmbientLeaf(InputLeaf):
    """A value that the compiler binds for the whole program: training, seed or step."""

    __slots__ = ()


def _leaf_type(*, leaf: InputLeaf | State) -> TensorType:
    return leaf.type


def _constant_type(*, value: Literal) -> TensorType:
    dtype_name(value.array.dtype)
    return value.type


def _item_type(source: TupleType, *, index: int) -> TensorType:
    if not isinstance(source, TupleType):
        raise AttributeValueError(f"item takes one of several results, and {source} is one alone")
    if not 0 <= index < len(source.items):
        raise AttributeValueError(f"item {index} of {source} does not exist")
    return source.items[index]


INPUT = register(Op("input", Kind.LEAF, _leaf_type, doc="An argument of a program."))
STATE = register(Op("state", Kind.LEAF, _leaf_type, doc="A parameter or other state, read."))
AMBIENT = register(Op("ambient", Kind.LEAF, _leaf_type, doc="A value bound by the compiler: training, seed, step."))
CONSTANT = register(Op("constant", Kind.LEAF, _constant_type, reference=lambda *, value: value.array, doc="An array."))
ITEM = register(
    Op("item", Kind.ITEM, _item_type, reference=lambda source, *, index: source[index], doc="One of several results.")
)


@located
def input(name: str, shape: Any = (), dtype: Any = "float32") -> Tensor:
    """An input of a graph: an identity of its own, labelled `name`.

    `shape` holds ints and names ("N") or polynomials of names ("N*T"); a name is bound when a program is called.

    >>> import dlc
    >>> dlc.input("image", ("N", 1, 28, 28))
    <Tensor input f32[N,1,28,28]>
    """
    if not isinstance(name, str) or not name:
        raise DTypeError(f"an input's name is a non-empty string, not {name!r}", where=here())
    return build(INPUT, (), {"leaf": InputLeaf(name, TensorType(dtype_name(dtype), shape_of(shape)))})


def placeholder(name: str, t: TensorType) -> Tensor:
    """An input that stands for a value which a body is given, until the value takes its place."""
    return Tensor(make_node(INPUT, (), {"leaf": InputLeaf(name, t)}))


@located
def constant(value: Any, dtype: Any = None) -> Tensor:
    """A constant tensor; lists and Python floats become float32 unless `dtype` says otherwise; NumPy's keep theirs.

    Raises `DTypeError` where an integer `dtype` cannot hold the values exactly.

    >>> import dlc
    >>> dlc.constant([[1.0, 2.0]])
    <Tensor constant f32[1,2]>
    """
    if dtype is None:
        return wrap(value)
    name = dtype_name(dtype)
    given = np.asarray(value)
    with np.errstate(all="ignore"):
        literal = Literal(given, name)
    if name in INTEGER and not np.array_equal(literal.array, given):
        raise DTypeError(f"{value!r:.60} does not fit the dtype {name}; round it, or take another dtype")
    return build(CONSTANT, (), {"value": literal})


def scalar(value: bool | int | float, dtype: str) -> Tensor:
    """A 0-d constant of a dtype."""
    python = type(value) in (bool, int, float)
    literal = _scalar_literal(repr(value), dtype) if python else Literal(np.asarray(value), dtype)
    return build(CONSTANT, (), {"value": literal})


@lru_cache(maxsize=1024)
def _scalar_literal(text: str, dtype: str) -> Literal:
    """A Python scalar by its text, which, unlike its value, tells 0.0 from -0.0 and 1 from True."""
    value = text == "True" if text in ("True", "False") else float(text) if set(text) & set(".enf") else int(text)
    return Literal(np.asarray(value), dtype)


def item(source: Tensor, index: int) -> Tensor:
    """The result number `index` of an op with several."""
    return build(ITEM, (source,), {"index": index})


def _ambient(name: str, dtype: str) -> Tensor:
    return build(AMBIENT, (), {"leaf": AmbientLeaf(name, TensorType(dtype))})


TRAINING = _ambient("training", "bool")
SEED = _ambient("seed", "uint64")
STEP = _ambient("step", "int64")


def is_concrete(t: TensorType) -> bool:
    """Whether all dims are plain ints."""
    return not any(isinstance(d, Dim) for d in t.shape)
