"""Dimensions: integers, or integer polynomials over named symbols such as ``N*T`` or ``(H-5)//2+1``.

A dimension that turns out to be constant is a plain ``int``; everything else is a `Dim` in a normal form, so that
equal polynomials are equal objects to ``==`` and ``hash``. Symbols stand for integers >= 0 and are bound once, when a
program is called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import TypeAlias

from dlc.errors import DimError


@dataclass(frozen=True)
class Quotient:
    """The atom ``numerator // denominator`` (or ``%`` when `remainder`), for divisions that leave the polynomials."""

    numerator: DimLike
    denominator: DimLike
    remainder: bool = False

    def __str__(self) -> str:
        return f"{_grouped(self.numerator)}{'%' if self.remainder else '//'}{_grouped(self.denominator)}"


Atom: TypeAlias = "str | Quotient"
Monomial: TypeAlias = "tuple[Atom, ...]"  # sorted, with repetition: N*N is ("N", "N")


class Dim:
    """An integer polynomial that is not constant. Build one with `dim`, or by arithmetic on another.

    >>> n = dim("N")
    >>> (n + 1) * 2, n - n, (4 * n + 2) // 2
    (2*N+2, 0, 2*N+1)
    """

    __slots__ = ("_hash", "terms")
    terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)

    def __add__(self, other: DimLike) -> DimLike:
        return _from_terms([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return self * -1

    def __sub__(self, other: DimLike) -> DimLike:
        return self + (other * -1)

    def __rsub__(self, other: DimLike) -> DimLike:
        return (self * -1) + other

    def __mul__(self, other: DimLike) -> DimLike:
        return _from_terms(
            (tuple(sorted(a + b, key=str)), c * d) for a, c in self.terms for b, d in _terms(other)
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        return _divide(self, other, remainder=False)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        return _divide(other, self, remainder=False)

    def __mod__(self, other: DimLike) -> DimLike:
        return _divide(self, other, remainder=True)

    def __rmod__(self, other: DimLike) -> DimLike:
        return _divide(other, self, remainder=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        raise DimError(f"the dimension {self} has no value yet, so it is neither true nor false; compare it with ==")

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            alone = len(monomial) == 1 and coefficient == 1  # "-A//2" would read as (-A)//2
            factors = [str(a) if alone or isinstance(a, str) else f"({a})" for a in monomial]
            if not factors or abs(coefficient) != 1:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+" if text else ""
            text += sign + "*".join(factors)
        return text

    __repr__ = __str__

    @property
    def symbols(self) -> frozenset[str]:
        """The names that occur anywhere in the polynomial, inside quotients too."""
        return frozenset(s for monomial, _ in self.terms for atom in monomial for s in _atom_symbols(atom))


DimLike: TypeAlias = "int | Dim"
Shape: TypeAlias = "tuple[DimLike, ...]"

# Products of sums, powers and nested quotients grow fast, and a file may hold any text.
_MAX_TERMS = 512
_MAX_DEGREE = 64
_MAX_COEFFICIENT = 2**96
_MAX_QUOTIENT = 2000  # characters


def dim(value: int | str | Dim) -> DimLike:
    """Read a dimension: an int >= 0, a symbol or a polynomial written as text, or a `Dim`.

    Raises `DimError` on negative ints, on bools, and on text that is not an integer polynomial.

    >>> dim("N*T"), dim("(H-5)//2+1"), dim(3)
    (N*T, (H+1)//2-2, 3)
    """
    if isinstance(value, Dim):
        return value
    if isinstance(value, str):
        return _parse(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DimError(f"a dimension is an int or a name such as 'N', not {value!r}")
    value = value.__index__()
    if value < 0:
        raise DimError(f"a dimension cannot be negative, got {value}; name a dimension of any size, for example 'N'")
    return value


def shape_of(shape: Iterable[int | str | Dim] | int | str | Dim) -> Shape:
    """Read a shape: an iterable of what `dim` takes, or one of them alone.

    >>> shape_of(("N", 1, 28, 28)), shape_of("N")
    ((N, 1, 28, 28), (N,))
    """
    if isinstance(shape, (str, Dim)) or hasattr(shape, "__index__") or not isinstance(shape, Iterable):
        return (dim(shape),)  # type: ignore[arg-type]
    return tuple(dim(d) for d in shape)


def symbol(name: str) -> Dim:
    """The dimension that is just the symbol `name`."""
    return Dim((((name,), 1),))


def symbols(dims: Iterable[DimLike]) -> frozenset[str]:
    """All symbols in `dims`."""
    return frozenset(s for d in dims if isinstance(d, Dim) for s in d.symbols)


def product(dims: Iterable[DimLike]) -> DimLike:
    """The product of `dims`; 1 for none: the element count of a shape."""
    return reduce(mul, dims, 1)


def evaluate(d: DimLike, bindings: Mapping[str, int]) -> int:
    """The value of `d` under `bindings`. Raises `DimError` when a symbol is unbound or a divisor is zero.

    >>> evaluate(dim("(H-5)//2+1"), {"H": 28})
    12
    """
    if not isinstance(d, Dim):
        return d
    total = 0
    for monomial, coefficient in d.terms:
        for atom in monomial:
            coefficient *= _evaluate_atom(atom, bindings)
        total += coefficient
    return total


def substitute(d: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    """`d` with symbols replaced by other dimensions.

    >>> substitute(dim("N*T"), {"T": dim("2*M")})
    2*M*N
    """
    if not isinstance(d, Dim):
        return d
    total: DimLike = 0
    for monomial, coefficient in d.terms:
        term: DimLike = coefficient
        for atom in monomial:
            term = term * _substitute_atom(atom, values)
        total = total + term
    return total


def is_nonnegative(d: DimLike) -> bool:
    """Whether `d` >= 0 can be seen at once: no negative coefficient, symbols and quotients of such being >= 0."""
    if not isinstance(d, Dim):
        return d >= 0
    return all(c >= 0 and all(_atom_nonnegative(a) for a in m) for m, c in d.terms)


def _atom_nonnegative(atom: Atom) -> bool:
    return isinstance(atom, str) or atom.remainder or (
        is_nonnegative(atom.numerator) and is_nonnegative(atom.denominator)
    )


def _atom_symbols(atom: Atom) -> frozenset[str]:
    if isinstance(atom, str):
        return frozenset((atom,))
    return symbols((atom.numerator, atom.denominator))


def _evaluate_atom(atom: Atom, bindings: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        try:
            return bindings[atom]
        except KeyError:
            raise DimError(f"the dimension {atom!r} has no value; the inputs bind {sorted(bindings)}") from None
    numerator, denominator = evaluate(atom.numerator, bindings), evaluate(atom.denominator, bindings)
    if denominator == 0:
        raise DimError(f"the dimension {atom} divides by zero under {dict(bindings)}")
    return numerator % denominator if atom.remainder else numerator // denominator


def _substitute_atom(atom: Atom, values: Mapping[str, DimLike]) -> DimLike:
    if isinstance(atom, str):
        return values.get(atom, symbol(atom))
    numerator, denominator = substitute(atom.numerator, values), substitute(atom.denominator, values)
    return _divide(numerator, denominator, atom.remainder)


def _terms(value: DimLike) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(value, Dim):
        return value.terms
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DimError(f"arithmetic on dimensions takes ints and dimensions, not {value!r}")
    value = value.__index__()
    return (((), value),) if value else ()


def _from_terms(terms: Iterable[tuple[Monomial, int]]) -> DimLike:
    sums: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        sums[monomial] = sums.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in sums.items() if c]
    if len(kept) > _MAX_TERMS:
        raise DimError(f"a dimension of {len(kept)} terms is too large; the limit is {_MAX_TERMS}")
    if any([len(m) > _MAX_DEGREE or not -_MAX_COEFFICIENT < c < _MAX_COEFFICIENT for m, c in kept]):
        raise DimError(f"a dimension of a degree above {_MAX_DEGREE}, or of numbers above 2^96, is too large")
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return Dim(tuple(sorted(kept, key=lambda t: (-len(t[0]), tuple(map(str, t[0]))))))


def _divide(a: DimLike, b: DimLike, remainder: bool) -> DimLike:
    """Floor division (or modulo) in normal form: what the divisor divides leaves the quotient, (4N+5)//2 = 2N+2."""
    if isinstance(b, int):
        if b == 0:
            raise DimError(f"the dimension {a} is divided by zero")
        if isinstance(a, int):
            return a % b if remainder else a // b
        whole = [(m, c // b) for m, c in a.terms]  # (b*q + r) // b = q + r // b for every integer q
        rest = _from_terms((m, c % b) for m, c in a.terms)
        if isinstance(rest, int):
            return rest % b if remainder else _from_terms([*whole, ((), rest // b)])
        if remainder:
            return _from_terms([((Quotient(rest, b, True),), 1)])
        return _from_terms([*whole, ((Quotient(rest, b),), 1)])
    if len(str(a)) + len(str(b)) > _MAX_QUOTIENT:
        raise DimError(f"a quotient of dimensions written in more than {_MAX_QUOTIENT} characters is too large")
    if a == b:
        return 0 if remainder else 1
    if isinstance(a, int) and a == 0:
        return 0
    if isinstance(a, Dim) and len(b.terms) == 1 and b.terms[0][1] == 1 and all(_cancels(m, b) for m, _ in a.terms):
        if remainder:  # every term is a multiple of the monomial b
            return 0
        return _from_terms((_cancelled(m, b.terms[0][0]), c) for m, c in a.terms)
    return _from_terms([((Quotient(a, b, remainder),), 1)])


def _cancels(monomial: Monomial, b: Dim) -> bool:
    left = list(monomial)
    for atom in b.terms[0][0]:
        if atom not in left:
            return False
        left.remove(atom)
    return True


def _cancelled(monomial: Monomial, factor: Monomial) -> Monomial:
    left = list(monomial)
    for atom in factor:
        left.remove(atom)
    return tuple(left)


def _grouped(d: DimLike) -> str:
    text = str(d)
    return f"({text})" if any(c in text for c in "+-*/%") else text


_MAX_TEXT = 1000


def _parse(text: str) -> DimLike:
    if len(text) > _MAX_TEXT:
        raise DimError(f"a dimension written in {len(text)} characters is too long; the limit is {_MAX_TEXT}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        value = _from_syntax(tree)
    except DimError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise DimError(
            f"{text!r} is not a dimension; write a name or a polynomial such as 'N', 'N*T' or '(H-5)//2+1'"
        ) from None
    if isinstance(value, int) and value < 0:
        raise DimError(f"a dimension cannot be negative, got {text!r}")
    return value


def _from_syntax(tree: ast.expr) -> DimLike:
    match tree:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _from_syntax(operand) * -1
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _from_syntax(left), _from_syntax(right)
            match operator:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.FloorDiv():
                    return _divide(a, b, remainder=False)
                case ast.Mod():
                    return _divide(a, b, remainder=True)
    raise ValueError(ast.dump(tree))
