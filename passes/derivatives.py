"""Derivatives beside the gradient: products with Jacobians from either side, whole Jacobians, and Hessians.

All are built from the one reverse sweep of `autodiff`, so what it can differentiate, these can, any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc.dims import product
from dlc.errors import GradientError, ShapeError
from dlc.ir import Node, TensorType
from dlc.ops import equal, iota, reshape, zeros
from dlc.ops.elementwise import astype
from dlc.ops.leaves import placeholder
from dlc.ops.scan import replaced
from dlc.ops.tensor import Tensor, wrap
from dlc.passes.autodiff import as_beside, gradients
from dlc.passes.vmap import vmap
from dlc.provenance import here


def vjp(y: Any, xs: Any, cotangents: Any) -> Any:
    """Cotangents times the Jacobian of `y` by `xs`: a gradient per x, of its type (reverse mode).

    `y` is a tensor or a list of them, `cotangents` of the same form and types; `xs` is a tensor, which gives one
    gradient, or a list, which gives a list. Raises `GradientError` and `ShapeError` as `dlc.grad` does.

    >>> import dlc
    >>> x = dlc.constant([1.0, 2.0])
    >>> dlc.evaluate(vjp(x * x, x, dlc.constant([1.0, 10.0]))).tolist()
    [2.0, 40.0]
    """
    found = gradients(_listed(y), _listed(xs), _matched(cotangents, y, "cotangents"))
    return _formed(found, xs)


def jvp(y: Any, xs: Any, tangents: Any) -> Any:
    """The Jacobian of `y` by `xs` times tangents: the derivative of y along them, of the type of y (forward mode).

    `xs` is a tensor or a list of them, `tangents` of the same form and types. A VJP is linear in its cotangent u; the
    VJP of that map, taken at the tangents, is this product, in which u itself no longer occurs. Raises `GradientError`
    where an op has no VJP, `ShapeError` for a tangent of another type than its x.

    >>> import dlc
    >>> x = dlc.constant([1.0, 2.0])
    >>> dlc.evaluate(jvp(x * x, x, dlc.constant([1.0, 10.0]))).tolist()
    [2.0, 40.0]
    """
    outputs, inputs = _listed(y), _listed(xs)
    given = _tangents(inputs, _matched(tangents, xs, "tangents"))
    seeds = [_placeholder(f"cotangent{i}", t.node.type) for i, t in enumerate(outputs)]
    pulled = gradients(outputs, inputs, seeds)
    pushed = gradients(pulled, seeds, given)
    # What remains of the seeds is never read for a value; zeros stand for them.
    values: dict[Node, Node] = {s.node: zeros(s.shape, s.dtype).node for s in seeds}
    new = replaced([t.node for t in pushed], values)
    return _formed([Tensor(new[t.node], t.origin, (*outputs, *inputs, *given)) for t in pushed], y)


def hvp(y: Any, xs: Any, vectors: Any) -> Any:
    """The Hessian of the 0-d `y` by `xs` times `vectors`, without the Hessian: the gradient of <gradient, vectors>.

    `xs` is a tensor or a list of them, `vectors` of the same form and types; so is the result. Raises `GradientError`
    for a y that is not 0-d. Pearlmutter (1994), Neural Computation 6(1).

    >>> import dlc
    >>> x = dlc.constant([1.0, 2.0])
    >>> dlc.evaluate(hvp((x * x * x).sum(), x, dlc.constant([1.0, 10.0]))).tolist()
    [6.0, 120.0]
    """
    inputs = _listed(xs)
    given = _tangents(inputs, _matched(vectors, xs, "vectors"))
    return _formed(gradients(gradients([wrap(y)], inputs), inputs, given), xs)


def jacobian(y: Any, xs: Any) -> Any:
    """All partial derivatives of `y` by `xs`: per x, of shape (*y.shape, *x.shape).

    `xs` is a tensor, which gives one Jacobian, or a list, which gives a list; so is `y`, outside of that: for lists
    of both, ``jacobian(ys, xs)[i][j]`` is that of ys[i] by xs[j]. Rows are VJPs, all at once by `dlc.vmap`: what the
    forward pass computes is computed once, the number of kernels does not depend on the size of y, and the backward
    pass takes as many times its memory as y has elements. Raises `GradientError` as `dlc.grad` does.

    >>> import dlc
    >>> x = dlc.constant([1.0, 2.0])
    >>> dlc.evaluate(jacobian(x * x, x)).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    inputs = _listed(xs)
    return _formed([_formed(_rows(output, inputs), xs) for output in _listed(y)], y)


def _rows(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The Jacobians of one tensor: a VJP of each of its elements."""
    size = product(output.shape)
    places = iota((size,))
    units = astype(equal(reshape(places, (size, 1)), places), output.dtype)
    rows = vmap(lambda unit: gradients([output], inputs, [unit]))(reshape(units, (size, *output.shape)))
    return [reshape(r, (*output.shape, *x.shape)) for r, x in zip(rows, inputs, strict=True)]


def hessian(y: Any, xs: Any) -> Any:
    """All second partial derivatives of the 0-d `y` by `xs`, of shape (*x.shape, *x.shape).

    For a list, ``hessian(y, xs)[i][j]`` is the derivative by xs[i] and xs[j], of shape (*xs[i].shape, *xs[j].shape).
    Raises `GradientError` for a y that is not 0-d.

    >>> import dlc
    >>> x = dlc.constant([1.0, 2.0])
    >>> dlc.evaluate(hessian((x * x * x).sum(), x)).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacobian(_formed(gradients([wrap(y)], _listed(xs)), xs), xs)


def _listed(value: Any) -> list[Tensor]:
    return [wrap(v) for v in value] if isinstance(value, (list, tuple)) else [wrap(value)]


def _formed(found: Sequence[Tensor], like: Any) -> Any:
    return list(found) if isinstance(like, (list, tuple)) else found[0]


def _matched(values: Any, like: Any, what: str) -> list[Any]:
    """`values` as a list in step with `like`."""
    several = isinstance(like, (list, tuple))
    found = list(values) if several and isinstance(values, (list, tuple)) else [values]
    if several and len(found) != len(like):
        raise GradientError(f"{len(found)} {what} were given for {len(like)} tensors; give one each", where=here())
    return found


def _tangents(inputs: Sequence[Tensor], given: Sequence[Any]) -> list[Tensor]:
    found = [as_beside(v, x) for v, x in zip(given, inputs, strict=True)]
    for x, t in zip(inputs, found, strict=True):
        if t.node.type != x.node.type:
            raise ShapeError(f"{x.node!r} needs a tangent of its type, got {t.node.type}", where=here())
    return found


def _placeholder(name: str, t: Any) -> Tensor:
    if not isinstance(t, TensorType):
        raise GradientError(f"a derivative is of tensors, not of {t}", where=here())
    return placeholder(name, t)
