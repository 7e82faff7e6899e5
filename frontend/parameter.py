"""Parameters and buffers: the named state of modules. A shape may stay open until the first trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import numpy as np

from dlc.dtypes import NUMERIC, dtype_name, numpy_dtype
from dlc.errors import ArgumentError, GraphError, ShapeError
from dlc.frontend.initialisers import Initialiser, words_for
from dlc.ir import TensorType
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here
from dlc.state import State

Array = np.ndarray[Any, Any]
OpenShape = tuple[int | None, ...]


def _delegated(method: str) -> Any:
    """The method of that name of the tensor that reads a parameter."""

    def operator(self: Parameter, *operands: Any) -> Any:
        return getattr(self.as_tensor(), method)(*operands)

    operator.__name__ = method
    return operator


class Parameter:
    """A learned array of a module, usable wherever a tensor is. Compared by identity.

    `shape` holds ints, and None for what the first trace will tell. The value comes into being when first needed, from
    (seed, name); a value that was set, loaded or trained stays whatever seed follows.

    >>> from dlc.frontend import initialisers
    >>> p = Parameter((2, 3), initialisers.he_uniform, name="weight")
    >>> p.shape, p.value.dtype.name
    ((2, 3), 'float32')
    """

    trainable = True

    def __init__(
        self, shape: Sequence[int | None], initialiser: Initialiser, dtype: Any = "float32", name: str = ""
    ) -> None:
        self._shape: OpenShape = tuple(_size(d) for d in shape)
        self.initialiser = initialiser
        self.dtype = dtype_name(dtype)
        self._name = name
        self._placed = False  # whether a module has said the name
        self._seed = 0
        self._state: State | None = None
        self._drawn: tuple[int, str] | None = None  # the (seed, name) that the value was drawn from

    def __repr__(self) -> str:
        shape = ",".join("?" if d is None else str(d) for d in self._shape)
        return f"<{type(self).__name__} {self._name!r} {self.dtype}[{shape}]>"

    # ---- name, shape and storage

    @property
    def name(self) -> str:
        """The path from the outermost module that was traced, such as "encoder.0.weight"; a label outside of any."""
        return self._name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape. Raises `GraphError` while part of it is open."""
        return self.state.type.shape  # type: ignore[return-value]

    @property
    def open_shape(self) -> OpenShape:
        """The shape, with None where the first trace will tell."""
        return self._shape

    @property
    def is_resolved(self) -> bool:
        """Whether the whole shape is known."""
        return None not in self._shape

    @property
    def state(self) -> State:
        """The state that owns the storage. Raises `GraphError` while part of the shape is open."""
        if self._state is None:
            if not self.is_resolved:
                raise GraphError(
                    f"the shape of the parameter {self._name or '(unnamed)'!r} is not known before its module has seen "
                    "an input; trace the model first: dlc.trace(model, dlc.input(...))",
                    where=here(),
                )
            shape: tuple[int, ...] = self._shape  # type: ignore[assignment]
            self._state = State(self._name, TensorType(self.dtype, shape), self._draw)
        return self._state

    @property
    def value(self) -> Array:
        """The storage itself, no copy: writing into it changes the parameter."""
        return self.state.value

    @value.setter
    def value(self, value: Any) -> None:
        self.assign(value)

    def assign(self, value: Any) -> None:
        """Copy `value` into the parameter; fills open dims. Raises `ArgumentError` where shape or dtype do not fit."""
        array = np.asarray(value)
        if not self.is_resolved:
            if not fits(self._shape, array.shape):
                raise ArgumentError(f"{self!r} cannot take a value of shape {array.shape}", where=here())
            self._shape = array.shape
        self.state.assign(array)
        self._drawn = None

    def resolve(self, shape: Sequence[int], what: str) -> Tensor:
        """The parameter as a tensor, once `shape` (as told by an input) fills what is open in its own.

        Raises `ShapeError` starting with `what` where it contradicts what is known.
        """
        wanted = tuple(shape)
        if not fits(self._shape, wanted):
            raise ShapeError(
                f"{what} needs the parameter {self._name or '(unnamed)'!r} of shape {shape_text(wanted)}, "
                f"but it has {shape_text(self._shape)}; give this layer inputs of the size that it was made "
                "or first traced for, or use another layer",
                where=here(),
            )
        self._shape = wanted
        return self.as_tensor()

    # ---- initial values

    def rename(self, path: str) -> None:
        """Take a module's name for this: the first one, or one seen from further out ("weight" may become "0.weight").

        The name that it was made with was a label until then.
        """
        if not self._placed or path.endswith("." + self._name):
            self._name, self._placed = path, True
            if self._state is not None:
                self._state.name = path

    def reseed(self, seed: int) -> None:
        """Draw the value from `seed`, if it has none yet or is still exactly what another seed gave."""
        before, self._seed = self._seed, seed
        if self._state is None or not self._state.is_materialised or before == seed:
            return
        if self._drawn is not None and np.array_equal(
            self._value_from(*self._drawn), self._state.value, equal_nan=True
        ):
            self._state.assign(self._draw())

    def _draw(self) -> Array:
        self._drawn = (self._seed, self._name)
        return self._value_from(*self._drawn)

    def _value_from(self, seed: int, name: str) -> Array:
        return np.asarray(self.initialiser(self.shape, words_for(seed, name))).astype(numpy_dtype(self.dtype))

    # ---- use as a tensor

    def as_tensor(self) -> Tensor:
        """The parameter, read; within `replaced`, what stands in its place."""
        found = _replacements.get().get(self)
        return wrap(self.state) if found is None else found

    def __getattr__(self, name: str) -> Any:
        if name in _TENSOR_NAMES:
            return getattr(self.as_tensor(), name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    __array_ufunc__ = None  # NumPy on the left hands its operators over
    __add__ = _delegated("__add__")
    __radd__ = _delegated("__radd__")
    __sub__ = _delegated("__sub__")
    __rsub__ = _delegated("__rsub__")
    __mul__ = _delegated("__mul__")
    __rmul__ = _delegated("__rmul__")
    __truediv__ = _delegated("__truediv__")
    __rtruediv__ = _delegated("__rtruediv__")
    __floordiv__ = _delegated("__floordiv__")
    __rfloordiv__ = _delegated("__rfloordiv__")
    __mod__ = _delegated("__mod__")
    __rmod__ = _delegated("__rmod__")
    __pow__ = _delegated("__pow__")
    __rpow__ = _delegated("__rpow__")
    __matmul__ = _delegated("__matmul__")
    __rmatmul__ = _delegated("__rmatmul__")
    __neg__ = _delegated("__neg__")
    __pos__ = _delegated("__pos__")
    __abs__ = _delegated("__abs__")
    __lt__ = _delegated("__lt__")
    __le__ = _delegated("__le__")
    __gt__ = _delegated("__gt__")
    __ge__ = _delegated("__ge__")
    __getitem__ = _delegated("__getitem__")


class Buffer(Parameter):
    """State of a module that is saved with it but not trained: running statistics."""

    trainable = False


_replacements: ContextVar[Mapping[Parameter, Tensor]] = ContextVar("dlc_replacements", default=MappingProxyType({}))


@contextmanager
def replaced(values: Mapping[Parameter, Tensor]) -> Iterator[None]:
    """Within this, reading one of these parameters gives the tensor in its place."""
    token = _replacements.set({**_replacements.get(), **values})
    try:
        yield
    finally:
        _replacements.reset(token)


_TENSOR_NAMES = frozenset({"T", "astype", "max", "mean", "min", "ndim", "node", "reshape", "sum", "type"})


def fits(known: OpenShape, shape: Sequence[int]) -> bool:
    """Whether `shape` agrees with what is known of a shape."""
    return len(known) == len(shape) and all(a is None or a == b for a, b in zip(known, shape, strict=True))


def shape_text(shape: OpenShape) -> str:
    """The shape as Python writes a tuple, with ? for what is open: (3,), (3, ?)."""
    return f"({', '.join('?' if d is None else str(d) for d in shape)}{',' * (len(shape) == 1)})"


def _size(d: Any) -> int | None:
    if d is None:
        return None
    if isinstance(d, bool) or not hasattr(d, "__index__") or d.__index__() < 0:
        raise ShapeError(
            f"a parameter's shape is made of ints >= 0 (or None: told by the first input), not {d!r}", where=here()
        )
    return int(d.__index__())


def parameter(
    value: Any, name: str = "parameter", *, initialiser: Initialiser | None = None, dtype: Any = "float32"
) -> Parameter:
    """A parameter of your own: from its first value (number, list, array), or from a shape (a tuple of ints).

    A shape is filled by `initialiser` (default Glorot uniform), keyed by `name`. As an attribute of a module it is one
    of its parameters, named by its path there. Raises `ShapeError` or `DTypeError`.

    >>> import dlc
    >>> dlc.parameter([1.0, 2.0], "w").value.tolist(), dlc.parameter((3, 4), "v").shape
    ([1.0, 2.0], (3, 4))
    """
    from dlc.frontend.initialisers import glorot_uniform

    if isinstance(value, tuple):
        return Parameter(value, initialiser or glorot_uniform, dtype, name)
    if initialiser is not None:
        raise ArgumentError("parameter: a value needs no initialiser; pass a shape (a tuple) to use one", where=here())
    array = np.asarray(value)
    if array.dtype.name not in NUMERIC:
        raise ArgumentError(f"parameter: {value!r:.80} is not a number or an array of numbers", where=here())
    made = Parameter(
        array.shape, glorot_uniform, array.dtype if isinstance(value, (np.ndarray, np.generic)) else dtype, name
    )
    made.assign(array)
    return made
