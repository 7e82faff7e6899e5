"""The form of an op: one definition, in one place. Kinds, not ops, are what backends have code for.

A definition is a decorated function. The function's signature and docstring are the public ones; the decorator gives
the rest: type rule, NumPy reference, VJP, cost, samples for the catalogue's tests, and what its kind needs. The body
turns the caller's arguments into operands and attributes and calls its own definition:

    @define(kind=Kind.VIEW, infer=..., reference=..., vjp=..., element=..., samples=...)
    def permute_dims(x, axes):
        '''Docstring with shapes, dtypes, errors and a runnable example.'''
        return permute_dims.op(wrap(x), axes=normalized(axes))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import numpy as np

from dlc.dims import DimLike, Shape
from dlc.dtypes import numpy_dtype
from dlc.errors import AttributeValueError, DlcError
from dlc.ir import Node, TensorType, TupleType, Type, Wildcard, make_node
from dlc.ops.half import computes, in_float32
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

P = ParamSpec("P")
R = TypeVar("R")
Array = np.ndarray[Any, Any]


class Kind(StrEnum):
    """How an op computes; a backend has code per kind."""

    LEAF = "leaf"  # no operands: inputs, states, constants
    ELEMENTWISE = "elementwise"  # a scalar expression of operands broadcast to one shape
    REDUCE = "reduce"  # init and combine over some axes
    VIEW = "view"  # an affine index map of one operand: strides and an offset, no code
    INDEX = "index"  # every element is an expression over operands read at computed places
    CONTRACT = "contract"  # sums of products: matmul and the passes of convolution
    LOOP = "loop"  # scan, cond, while_loop: body graphs that run many times, once or never
    ITEM = "item"  # projection of a tuple-typed node
    FUSED = "fused"  # a body graph that becomes one kernel; made by passes only
    OPAQUE = "opaque"  # the rest: a backend has code for the op by name


class Emitter(Protocol):
    """What an index map may ask of a backend that turns it into loop code. All values are expression texts."""

    @property
    def operands(self) -> int:
        """How many operands there are."""

    def shape(self, operand: int) -> Shape:
        """The shape of an operand."""

    def dtype(self, operand: int) -> str:
        """The dtype of an operand."""

    def load(self, operand: int, index: Sequence[str]) -> str:
        """The element of an operand at an index; loads only where the index is within bounds."""

    def dim(self, d: DimLike) -> str:
        """A run-time dimension, as an int64 expression."""

    def let(self, expression: str) -> str:
        """A name for the value of an expression, computed once."""

    def constant(self, value: float | int | bool, dtype: str) -> str:
        """A literal of a dtype."""

    def where(self, condition: str, then: Callable[[], str], otherwise: Callable[[], str], dtype: str) -> str:
        """A value by condition; only the side taken is evaluated, so it may guard a load."""

    def total(self, extents: Sequence[str], term: Callable[[Sequence[str]], str], dtype: str) -> str:
        """The sum over a small index space of ``term(index)``, in row-major order."""

    def check(self, condition: str, index: str, extent: str) -> None:
        """Report `index` as out of range for `extent` where `condition` is false; the run then fails as a whole."""


@dataclass(frozen=True)
class Sample:
    """One case for the catalogue's tests: concrete operands and the keyword arguments of the op's function.

    `gradient` False marks places where finite differences do not apply (ties, kinks, integers).
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    gradient: bool = True


def arrays(
    *shapes: tuple[int, ...], dtype: str = "float32", low: float = -2.0, high: float = 2.0, seed: int = 0
) -> tuple[Array, ...]:
    """Random arrays for samples: floats uniform in [low, high), integers likewise, bools fair."""
    rng = np.random.default_rng(seed)
    kind = numpy_dtype(dtype).kind
    if kind == "b":
        return tuple(rng.random(s) < 0.5 for s in shapes)
    if kind in "iu":
        return tuple(rng.integers(int(low), int(high), s).astype(dtype) for s in shapes)
    return tuple(rng.uniform(low, high, s).astype(numpy_dtype(dtype)) for s in shapes)


@dataclass(frozen=True, eq=False, repr=False)
class Op:
    """A definition. Callables take operands by position and attributes by keyword.

    - infer(*types, **attrs) -> type; raises `ShapeError` or `DTypeError`
    - reference(*arrays, **attrs) -> array (a tuple for tuple types); attributes have plain ints for dims; it never sees
      float16 or bfloat16 unless the op only moves elements (see dlc/ops/half.py)
    - vjp(g, y, *operands, **attrs) -> one cotangent (or None) per operand, written with ops on tensors
    - cost(type, *types, **attrs) -> (floating-point operations, bytes moved)
    - expression: ELEMENTWISE, text with {0} {1} for operands and {T} for the result's type constructor
    - init, combine: REDUCE
    - element(emitter, index, **attrs) -> text: VIEW and INDEX, the element of the result at an index
    - can_fail: an index operand may be out of range at run time
    - commutative: of two operands, which may be exchanged
    """

    name: str
    kind: Kind
    infer: Callable[..., Type]
    reference: Callable[..., Any] | None = None
    vjp: Callable[..., Sequence[Tensor | None]] | None = None
    cost: Callable[..., tuple[DimLike, DimLike]] | None = None
    expression: str = ""
    init: str = ""
    combine: str = ""
    element: Callable[..., str] | None = None
    samples: Callable[[], Iterable[Sample]] = tuple
    can_fail: bool = False
    commutative: bool = False
    doc: str = ""
    function: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<Op {self.name}>"

    def infer_type(self, inputs: Sequence[Node], attrs: Mapping[str, Any]) -> Type:
        """The type of a node of this op. Under a wildcard (in a pattern) it is a stand-in, the first operand's."""
        if attrs and any([isinstance(v, Wildcard) for v in attrs.values()]):
            return inputs[0].type
        try:
            return self.infer(*[x.type for x in inputs], **attrs)
        except TypeError as error:
            if isinstance(error, DlcError):
                raise
            raise AttributeValueError(
                f"{self.name} takes {self.signature}, not {len(inputs)} operands with attributes {sorted(attrs)}"
            ) from error

    def __call__(self, *operands: Tensor | Node, **attrs: Any) -> Tensor:
        """Build a node of this op from operands and attributes as they are stored; the public function does more."""
        return build(self, [wrap(x) for x in operands], attrs)

    @property
    def signature(self) -> str:
        """The type rule's parameters, for messages."""
        return str(inspect.signature(self.infer)).partition(" ->")[0]

    def flops_and_bytes(self, node: Node) -> tuple[DimLike, DimLike]:
        """Floating-point operations and bytes moved by `node`; by default one operation an element."""
        types = [x.type for x in node.inputs]
        if self.cost is not None:
            return self.cost(node.type, *types, **node.attrs)
        moved = sum((nbytes(t) for t in (*types, node.type)), start=0)
        match self.kind:
            case Kind.VIEW | Kind.ITEM | Kind.LEAF:
                return 0, 0
            case Kind.REDUCE:
                return types[0].size, moved
        return node.type.size if isinstance(node.type, TensorType) else 0, moved


def nbytes(t: Type) -> DimLike:
    """Bytes of a value of type `t`."""
    return sum((i.nbytes for i in t.items), start=0) if isinstance(t, TupleType) else t.nbytes


CATALOGUE: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Enter an op into the catalogue; its name must be new."""
    if op.name in CATALOGUE:
        raise ValueError(f"an op named {op.name!r} is already defined")
    if op.reference is not None and computes(op.kind, op.name):
        op = replace(op, reference=in_float32(op.reference, op.infer))
    CATALOGUE[op.name] = op
    return op


def build(op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any] | None = None) -> Tensor:
    """A tensor of a new (or the same, interned) node; errors gain the user's line."""
    try:
        node = make_node(op, tuple([t.node for t in operands]), attrs)
    except DlcError as error:
        if error.where is not None:
            raise
        raise type(error)(error.message, where=here()) from error
    return Tensor(node, here(), tuple(operands))


def located(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose errors gain the user's line where they have none."""

    @wraps(function)
    def public(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except DlcError as error:
            if error.where is not None:
                raise
            raise type(error)(error.message, where=here()) from error

    return public


def plain_number(value: Any, name: str, what: str) -> float:
    """An int or float of Python; raises `AttributeValueError` for anything else, a tensor too."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AttributeValueError(f"{name}: {what} is a plain number, not {value!r}")
    return float(value)


def check_function(value: Any, what: str) -> None:
    """Raise `AttributeValueError` unless `value` can be called."""
    if not callable(value):
        raise AttributeValueError(
            f"{what} takes a function, not {value!r:.60}; a tensor is what ``lambda *_: tensor`` returns", where=here()
        )


class Defined(Protocol[P]):
    """A public function of the catalogue: callable, with its op's definition on it."""

    op: Op

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...


def define(*, kind: Kind, name: str | None = None, **parts: Any) -> Callable[[Callable[P, Tensor]], Defined[P]]:
    """Define an op around its public function, which builds the node by calling its own ``.op``.

    Errors that the function raises gain the user's line.
    """

    def decorate(function: Callable[P, Tensor]) -> Defined[P]:
        public = located(function)
        op_name = name or function.__name__.rstrip("_")
        op = Op(name=op_name, kind=kind, doc=inspect.getdoc(function) or "", function=public, **parts)
        public.op = register(op)  # type: ignore[attr-defined]
        return cast("Defined[P]", public)

    return decorate
