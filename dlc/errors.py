"""Every error a user can meet. Each names the thing, the place in the user's code, and the fix.

All derive from `DlcError`; each also derives from the builtin that a caller would expect (`ValueError`, `TypeError`,
...), so ordinary ``except`` clauses work.
"""

from __future__ import annotations

from collections.abc import Sequence


def shown(text: str, limit: int = 200) -> str:
    """Text from a file as a message shows it: without what a terminal would act on, and not too long.

    >>> shown("conv.weight"), shown("a\\x1b[2J")
    ('conv.weight', "'a\\\\x1b[2J'")
    """
    cut = text if len(text) <= limit else text[:limit] + "..."
    return cut if cut.isprintable() and cut else ascii(cut)


def listed(problems: Sequence[str], limit: int = 20) -> str:
    """Problems as lines below a message, the first ones where there are many."""
    more = [f"... and {len(problems) - limit} more"] if len(problems) > limit else []
    return "".join(f"\n  {p}" for p in [*problems[:limit], *more])


class DlcError(Exception):
    """Base of all of dlc's errors. `where`, when known, is ``file:line`` in the user's code and ends the message."""

    def __init__(self, message: str, *, where: object = None) -> None:
        self.message = message
        self.where = None if where is None else str(where)
        super().__init__(message if where is None else f"{message}\n  at {where}")


class DimError(DlcError, ValueError):
    """A dimension that cannot be read, or has no value."""


class DTypeError(DlcError, TypeError):
    """Dtypes that do not fit an operation, or a cast that would lose values."""


class ShapeError(DlcError, ValueError):
    """Shapes that do not fit an operation; the message gives both, with their named dims."""


class AttributeValueError(DlcError, ValueError):
    """An attribute of an op (axis, stride, padding, ...) that is unknown or out of range."""


class GraphError(DlcError, ValueError):
    """A graph that is not well formed: missing or repeated inputs, unknown leaves, cycles of updates."""


class VerificationError(GraphError):
    """`verify` found a node whose type is not what its op says, or another broken invariant: a pass is at fault."""


class GradientError(DlcError, ValueError):
    """A gradient that is not defined: a non-scalar without cotangent, an op without VJP, an integer input."""


class CallError(DlcError, TypeError):
    """A program was called with missing, surplus or unknown arguments."""


class ArgumentError(DlcError, ValueError):
    """An argument of a program with the wrong shape or an inconsistent named dim."""


class IndexOutOfRangeError(DlcError, IndexError):
    """An index operand pointed outside its axis while a program ran; no state was changed."""


class NonFiniteError(DlcError, ArithmeticError):
    """The opt-in check found NaN or infinity; names the first node that made one."""


class UnsupportedError(DlcError, NotImplementedError):
    """A backend has no code for an op or dtype."""


class StaticOperandError(UnsupportedError):
    """An operand decides shapes, but is known only when a program runs. `inputs` names what it is computed from."""

    inputs: tuple[str, ...] = ()


class RuleError(DlcError, RuntimeError):
    """A rewrite rule broke its contract: its replacement has another type, or it never stops."""


class FileFormatError(DlcError, ValueError):
    """A file (checkpoint, graph, weights) is damaged, foreign or does not fit the model."""


class MissingFolderError(DlcError, FileNotFoundError):
    """A file is to be written into a folder that does not exist."""


class RenderError(DlcError, RuntimeError):
    """A picture could not be drawn; the message says what is missing and what was written instead."""


class DlcWarning(UserWarning):
    """Something that works, but not the way it was asked for."""
