"""The names of a file: what each stands for where a node reads it, as a label, and as a dim."""

from __future__ import annotations

import re
from collections import ChainMap
from contextlib import contextmanager
from typing import Any

from dlc.dims import DimLike, dim, symbol
from dlc.errors import DimError, FileFormatError, UnsupportedError, shown
from dlc.frontend.onnx.arrays import MAX_AXES, dtype_of
from dlc.frontend.onnx.call import Value
from dlc.frontend.onnx.reading import check_text

MAX_DEPTH = 16  # of bodies within bodies, and functions within functions
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./: -]{0,127}")
_DIM = re.compile(r"[A-Za-z0-9_+*/%() -]{1,200}")
MAX_TERMS = 1000  # of a dim that is a product of sums


class Names:
    """The values that are defined at a point of the file. No name of the file becomes one of ours as it is."""

    def __init__(self) -> None:
        self.values: ChainMap[str, Value | None] = ChainMap()  # None for what a caller of a function left out
        self.depth = 0
        self.labels: set[str] = set()

    def define(self, name: str, value: Value, place: str) -> None:
        check_text(place, name)
        if not name or name in self.values:
            raise FileFormatError(f"{place}: the name {shown(name)} is empty or defined twice")
        self.values[name] = value

    def find(self, name: str, place: str) -> Value:
        found = self.found(name, place)
        if found is None or not found.given:
            raise FileFormatError(f"{place}: {shown(name)} was left out")
        return found

    def found(self, name: str, place: str) -> Value | None:
        """The value of a name; None for one that a caller of a function left out."""
        found = self.values.get(name)
        if found is None and name not in self.values:
            check_text(place, name)
            raise FileFormatError(f"{place}: {shown(name)} is not defined before it is used")
        return found

    def label(self, name: str, kind: str) -> str:
        """The name as a label, if it is a plain one and new; else a counted one."""
        check_text(kind, name)
        label = name if _NAME.fullmatch(name) and name not in self.labels else f"{kind}_{len(self.labels)}"
        while label in self.labels:
            label += "_"
        self.labels.add(label)
        return label

    @contextmanager
    def scope(self, values: ChainMap[str, Value | None], place: str) -> Any:
        """Names defined inside are forgotten at the end; those of `values` are seen."""
        if self.depth >= MAX_DEPTH:
            raise FileFormatError(f"{place}: bodies or functions are nested more than {MAX_DEPTH} deep")
        around, self.values, self.depth = self.values, values, self.depth + 1
        try:
            yield
        finally:
            self.values, self.depth = around, self.depth - 1


class Dims:
    """The dims that the file names, and those without a name."""

    def __init__(self) -> None:
        self.known: dict[str, DimLike] = {}

    def type_of(self, value: Any, place: str) -> tuple[tuple[DimLike, ...], str]:
        """The shape and dtype that an input is declared with."""
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise UnsupportedError(f"{place}: dlc reads inputs that are tensors with a known number of axes")
        record = value.type.tensor_type
        if len(record.shape.dim) > MAX_AXES:
            raise FileFormatError(f"{place}: {len(record.shape.dim)} axes; the limit is {MAX_AXES}")
        return tuple(self._dim(d, place) for d in record.shape.dim), dtype_of(record.elem_type, place)

    def _dim(self, record: Any, place: str) -> DimLike:
        """A dim without a name differs from all others; one with a strange name is the same wherever it occurs."""
        if record.HasField("dim_value"):
            if record.dim_value < 0:
                raise FileFormatError(f"{place}: the dim {record.dim_value} is negative")
            return record.dim_value
        name = record.dim_param or f"\n{len(self.known)}"
        check_text(place, name)
        if name not in self.known:
            try:
                self.known[name] = dim(name) if _is_short(name) else self._new_dim()
            except DimError:
                self.known[name] = self._new_dim()
        return self.known[name]

    def _new_dim(self) -> DimLike:
        number = len(self.known)
        while (name := f"dim_{number}") in self.known:
            number += 1
        self.known.setdefault(name, symbol(name))
        return symbol(name)


def _is_short(text: str) -> bool:
    """Whether a dim's text is an expression of few terms. A product of n sums has most if they are alike."""
    signs, sums = text.count("+") + text.count("-"), text.count("(")
    terms = (signs / sums + 1) ** min(sums, 100) if sums else 1
    return _DIM.fullmatch(text) is not None and "**" not in text and terms <= MAX_TERMS
