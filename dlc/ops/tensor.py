"""The user's handle on a value: a node, where it was written, and the state updates that come with it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.dims import Dim, Shape
from dlc.display import Pictured
from dlc.dtypes import ALL, dtype_name, name_of
from dlc.errors import DTypeError, GraphError
from dlc.ir import Literal, Node, TensorType, make_node
from dlc.other_names import FUNCTIONS, instead
from dlc.provenance import Origin, here

if TYPE_CHECKING:
    from types import EllipsisType

    from dlc.state import State

    Scalar = bool | int | float
    TensorLike = "Tensor | Node | State | np.ndarray[Any, Any] | Scalar"
    Index = int | slice | EllipsisType | None


class Tensor(Pictured):
    """A value in a graph under construction. Operators and methods build further nodes; nothing is computed.

    `node` is the value; `origin` the line that made it; `parents` the handles it was made from, so that a graph can
    keep every place a shared node was written at; `updates` the state assignments that ride on this handle.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> x * 2 + 1
    <Tensor add f32[N,3]>
    """

    __slots__ = ("node", "origin", "parents", "updates")
    __array_ufunc__ = None  # NumPy on the left hands its operators over to ours

    def __init__(
        self,
        node: Node,
        origin: Origin | None = None,
        parents: tuple[Tensor, ...] = (),
        updates: tuple[tuple[Node, Tensor], ...] = (),
    ) -> None:
        self.node = node
        self.origin = origin
        self.parents = parents
        self.updates = updates

    def __repr__(self) -> str:
        return f"<Tensor {self.node.op.name} {self.node.type}>"

    @property
    def type(self) -> TensorType:
        """dtype and shape."""
        return self.node.type

    @property
    def shape(self) -> Shape:
        """The shape: ints and named dims."""
        return self.type.shape

    @property
    def dtype(self) -> str:
        """The dtype's name."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise GraphError(f".T needs a matrix, this tensor is {self.type}; use permute_dims", where=here())
        return _ops().permute_dims(self, (1, 0))

    def with_updates(self, *updates: tuple[State, Tensor]) -> Tensor:
        """The same value carrying assignments ``state := tensor``, gathered by `dlc.train_step` along the data flow."""
        return Tensor(self.node, self.origin, (self,), tuple((state_node(s), v) for s, v in updates))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """For what there is not: an error that says how it is written here."""
            fix = instead(name, FUNCTIONS)
            if not fix and not name.startswith("_") and callable(getattr(_ops(), name, None)):
                fix = f"; here: dlc.{name}"
            raise AttributeError(f"'Tensor' object has no attribute {name!r}{fix}")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise GraphError(
            "a tensor does not change; make another: dlc.index_update(x, index, values), or dlc.where(mask, values, x)",
            where=here(),
        )

    # ---- conversions that would need a value

    def __bool__(self) -> bool:
        raise GraphError(
            f"{self.node.op.name} {self.node.type} has no truth value while the graph is being built; "
            "choose between values with dlc.where(condition, a, b)",
            where=here(),
        )

    def _no_value(self, *_: Any) -> Any:
        raise GraphError(
            f"{self.node.op.name} {self.node.type} is symbolic and has no value yet; compile a graph and call it, or, "
            "where it depends on no input, use dlc.evaluate",
            where=here(),
        )

    __float__ = __int__ = __index__ = __array__ = _no_value

    def __len__(self) -> int:
        if not isinstance(self.type, TensorType) or not self.shape:
            raise GraphError(f"{self.node.op.name} {self.type} has no axis to count or go over", where=here())
        if not isinstance(self.shape[0], int):
            raise GraphError(
                f"{self.node.op.name} {self.type} has {self.shape[0]} rows, a number that is known only when a program "
                "is called; go over them with dlc.scan",
                where=here(),
            )
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # ---- operators

    def __add__(self, other: Any) -> Tensor:
        return _ops().add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _ops().add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _ops().subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _ops().subtract(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _ops().multiply(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _ops().multiply(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return _ops().divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _ops().divide(other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return _ops().floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return _ops().floor_divide(other, self)

    def __mod__(self, other: Any) -> Tensor:
        return _ops().remainder(self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return _ops().remainder(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return _ops().pow(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _ops().pow(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return _ops().matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _ops().matmul(other, self)

    def __neg__(self) -> Tensor:
        return _ops().negative(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return _ops().abs(self)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return _ops().equal(self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return _ops().not_equal(self, other)

    def __lt__(self, other: Any) -> Tensor:
        return _ops().less(self, other)

    def __le__(self, other: Any) -> Tensor:
        return _ops().less_equal(self, other)

    def __gt__(self, other: Any) -> Tensor:
        return _ops().greater(self, other)

    def __ge__(self, other: Any) -> Tensor:
        return _ops().greater_equal(self, other)

    def __and__(self, other: Any) -> Tensor:
        return _ops().bitwise_and(self, other)

    def __or__(self, other: Any) -> Tensor:
        return _ops().bitwise_or(self, other)

    def __xor__(self, other: Any) -> Tensor:
        return _ops().bitwise_xor(self, other)

    def __invert__(self) -> Tensor:
        return _ops().bitwise_invert(self)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__
    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Tensor:
        return _ops().getitem(self, index)

    # ---- methods that read better than functions

    def astype(self, dtype: Any) -> Tensor:
        """The values converted to another dtype."""
        return _ops().astype(self, dtype)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; one dim may be -1."""
        return _ops().reshape(self, shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The sum over axes."""
        return _ops().sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The mean over axes."""
        return _ops().mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The maximum over axes."""
        return _ops().max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The minimum over axes."""
        return _ops().min(self, axis=axis, keepdims=keepdims)


@cache
def _ops() -> Any:
    """The functions behind the operators, which are defined on top of this class."""
    from dlc import ops

    return ops


def state_node(state: State) -> Node:
    """The leaf node of a state."""
    from dlc.ops.leaves import STATE

    return make_node(STATE, (), {"leaf": state})


def wrap(value: Any) -> Tensor:
    """A tensor of anything that means one: a tensor, node, state, NumPy array or scalar (which is not weak here).

    Python floats, alone or in lists, are float32; arrays and scalars of NumPy keep their dtype, float64 too.

    Raises `DTypeError` for what does not.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Node):
        return Tensor(value, None)
    from dlc.ops.leaves import CONSTANT
    from dlc.state import State

    if isinstance(value, State):
        return Tensor(state_node(value), here())
    if hasattr(value, "as_tensor"):  # a module's parameter
        return value.as_tensor()
    if isinstance(value, (bool, int, float, np.ndarray, np.generic, list, tuple)):
        if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
            message = f"several tensors stand for one: {value!r:.80}; join them with dlc.stack or dlc.concat"
            raise DTypeError(message, where=here())
        try:
            array = np.asarray(value)
        except ValueError:
            raise DTypeError(f"rows of unequal lengths are not an array: {value!r:.80}", where=here()) from None
        python = isinstance(value, (float, list, tuple)) and not isinstance(value, np.generic)
        if python and array.dtype == np.float64:
            array = array.astype(np.float32)
        if name_of(array.dtype) in ALL:
            return Tensor(make_node(CONSTANT, (), {"value": Literal(array)}), here())
        if isinstance(value, (np.ndarray, np.generic)):
            dtype_name(array.dtype)  # says what there is instead
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if hasattr(value, "__dlpack__"):
        raise DTypeError(
            f"{kind} holds data of another library; build the graph on dlc.input(name, shape) and pass the data when "
            "calling the program, or make it a NumPy array to have it as a constant",
            where=here(),
        )
    if isinstance(value, Dim):
        raise DTypeError(f"the dim {value} has no value yet; dlc.size_of makes a tensor of it", where=here())
    raise DTypeError(f"{kind} is not a tensor, array or number: {value!r:.80}", where=here())


def handles_below(tensors: Iterable[Tensor]) -> list[Tensor]:
    """All handles that `tensors` were made from, themselves included, each once; parents before children."""
    order: list[Tensor] = []
    seen: set[int] = set()
    stack: list[Tensor | None] = [*reversed(list(tensors))]
    while stack:
        t = stack.pop()
        if t is None:  # below this mark lies a handle whose parents are all in `order`
            order.append(stack.pop())  # type: ignore[arg-type]
        elif id(t) not in seen:
            seen.add(id(t))
            if not t.parents:
                order.append(t)
                continue
            stack.append(t)
            stack.append(None)
            for p in reversed(t.parents):
                if id(p) not in seen:
                    stack.append(p)
    return order


def collect_origins(tensors: Iterable[Tensor]) -> dict[Node, tuple[Origin, ...]]:
    """Every place that the nodes of `tensors`, and of all they were made from, were written at."""
    found: dict[Node, dict[Origin, None]] = {}
    for t in handles_below(tensors):
        if t.origin is not None:
            found.setdefault(t.node, {})[t.origin] = None
    return {node: tuple(places) for node, places in found.items()}
