"""What operands have in common: shapes that broadcast, and the dtype that they promote to."""

from __future__ import annotations

from typing import Any

from dlc import dtypes
from dlc.dims import Shape, shape_of
from dlc.errors import AttributeValueError
from dlc.ops import elementwise
from dlc.ops.definition import located
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to


@located
def broadcast_arrays(*tensors: Any) -> tuple[Tensor, ...]:
    """Tensors, each of its dtype, broadcast to their common shape. Raises `ShapeError` where there is none.

    >>> import dlc
    >>> [t.shape for t in dlc.broadcast_arrays(dlc.zeros((2, 1)), dlc.zeros(3))]
    [(2, 3), (2, 3)]
    """
    ts = [wrap(t) for t in tensors]
    shape = elementwise.broadcast_shapes(*(t.shape for t in ts), op="broadcast_arrays")
    return tuple(broadcast_to(t, shape) for t in ts)


@located
def broadcast_shapes(*shapes: Any) -> Shape:
    """The common shape of shapes of ints and dims. Raises `ShapeError` where there is none.

    >>> import dlc
    >>> dlc.broadcast_shapes((2, 1), ("N", 1, 3))
    (N, 2, 3)
    """
    return elementwise.broadcast_shapes(*map(shape_of, shapes), op="broadcast_shapes")


@located
def result_type(*operands: Any) -> str:
    """The name of the dtype that operands promote to: tensors, arrays and dtypes; Python numbers take what others have.

    Raises `DTypeError` where they do not promote, as integers and floats do not, `AttributeValueError` without any but
    Python numbers.

    >>> import dlc
    >>> dlc.result_type(dlc.zeros(2, "int8"), "int32", 3)
    'int32'
    """
    weak = [x for x in operands if type(x) in (bool, int, float)]
    strong = [_dtype_of(x) for x in operands if type(x) not in (bool, int, float)]
    if not strong:
        raise AttributeValueError("result_type takes at least one tensor, array or dtype")
    found = dtypes.promote(*strong)
    for value in weak:
        found = dtypes.weak_dtype(value, found)
    return found


def _dtype_of(value: Any) -> str:
    return dtypes.dtype_name(value) if isinstance(value, (str, type)) else wrap(value).dtype
