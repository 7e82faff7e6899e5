"""Random compositions of what transforms functions: one language, spoken by dlc and by PyTorch.

A term is a function of a vector of 3 to such a vector: a few basic ones, and every transformation (grad, vjp, jvp, hvp,
jacobian, hessian, vmap, scan, cond, while_loop, checkpoint, custom_vjp, stop_gradient) of terms. `Dlc` and `Torch` are
two readings of it; `python -m tests.compositions` compares them, or with ``--write`` writes fixtures/compositions.json,
which `test_compositions.py` holds dlc to.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dlc

FIXTURE = Path(__file__).parent / "fixtures" / "compositions.json"
N = 3
_RNG = np.random.default_rng(0)
MATRICES = _RNG.standard_normal((4, N, N)) * 0.5
SEQUENCES = _RNG.standard_normal((4, 4, N)) * 0.5
VECTORS = _RNG.standard_normal((4, N))

Term = tuple[Any, ...]
ONE = ("vmap", "vmap columns", "vmap both", "grad", "jvp", "vjp", "hvp", "jacobian", "hessian", "checkpoint", "stop")
OUTER = ("scan", "scan back", "scan twice", "vmap outer", "grad outer", "while", "while outer")  # f reads a tensor more
TWO = ("of", "plus", "times", "cond", "cond outer", "scan two", "custom")
BASIC = ("linear", "sine", "square", "flip", "cumulate", "same", "constant", "where", "take", "sort", "outer", "outer")


def term(rng: random.Random, depth: int, outer: int = 0) -> Term:
    """A random term. `outer` is how many tensors from outside it may read."""
    if depth == 0:
        name = rng.choice(BASIC)
        return ("linear" if name == "outer" and not outer else name, rng.randrange(4), rng.randrange(max(outer, 1)))
    name, k = rng.choice(ONE + OUTER + TWO), rng.randrange(4)
    if name == "custom":  # its functions read nothing from outside
        return name, k, term(rng, depth - 1), term(rng, 0)
    first = term(rng, depth - 1, outer + (name in OUTER or name == "cond outer"))
    return (name, k, first, term(rng, rng.randrange(depth), outer)) if name in TWO else (name, k, first)


def run(lib: Any, t: Term, x: Any, outer: Sequence[Any] = ()) -> Any:
    """The term at x, in a library's words."""
    name, k = t[:2]
    w, m, s = (lib.constant(a[k]) for a in (VECTORS, MATRICES, SEQUENCES))
    limit = float(VECTORS[k, 0])

    def f(z: Any, *more: Any) -> Any:
        return run(lib, t[2], z, (*outer, *more))

    def g(z: Any) -> Any:
        return run(lib, t[3], z, outer)

    basic: dict[str, Callable[[], Any]] = {
        "linear": lambda: lib.tanh(lib.matmul(m, x)),
        "sine": lambda: lib.sin(x) * w,
        "square": lambda: x * x * 0.5 + w,
        "flip": lambda: lib.flip(x),
        "cumulate": lambda: lib.cumulate(x * 0.5),
        "same": lambda: x,
        "constant": lambda: w,
        "where": lambda: lib.where(x > w, x * 2.0, lib.sin(x)),
        "take": lambda: lib.take(x, [2, 0, 2]),
        "sort": lambda: lib.sort(x),
        "outer": lambda: lib.tanh(x * outer[t[2]] + w),
        "of": lambda: f(g(x)),
        "plus": lambda: f(x) + g(x),
        "times": lambda: lib.tanh(f(x)) * lib.sin(g(x)),
        "cond": lambda: lib.cond(lib.sum(x) > limit, f, g, x),
        "checkpoint": lambda: lib.checkpoint(f, x),
        "stop": lambda: lib.stop(f(x)) + x * 0.5,
        "custom": lambda: lib.custom(f, lambda c, y, z: c * (run(lib, t[3], z) + y), x),
        "grad": lambda: lib.grad(lambda z: lib.sum(f(z) * w), x),
        "jvp": lambda: lib.jvp(f, x, w * x),
        "vjp": lambda: lib.vjp(f, x, w + x),
        "hvp": lambda: lib.hvp(lambda z: lib.sum(f(z) * f(z)), x, w),
        "jacobian": lambda: lib.matmul(lib.jacobian(f, x), w),
        "hessian": lambda: lib.matmul(lib.hessian(lambda z: lib.sum(f(z) * w), x), x),
    }
    if name in basic:
        return basic[name]()
    match name:
        case "grad outer":
            o = lib.sin(x)
            return lib.grad(lambda z: lib.sum(f(z, o) * w), x)
        case "cond outer":
            o = x * 2.0
            return lib.cond(x[0] > limit, lambda z: f(z, o), lambda z: g(z) * o, x)
        case "scan":
            return lib.scan(lambda c, e: (lib.tanh(f(c + e, e)), c), x, s)[0]
        case "scan back":
            c, ys = lib.scan(lambda c, e: (lib.tanh(f(c, e * x) + e), c * e), x, s, reverse=True)
            return c + ys[0] - ys[2]
        case "scan twice":

            def inner(c: Any, e: Any) -> Any:
                return lib.scan(lambda d, z: (lib.tanh(f(d, e)) + z, d), c, s[:2])[0], e

            return lib.scan(inner, x, s[:3])[0]
        case "scan two":
            both, ys = lib.scan(lambda c, e: ((lib.tanh(f(c[1])), lib.sin(g(c[0]) + e)), c[0] * e), (x, w), s)
            return both[0] + both[1] * ys[2]
        case "while":
            return lib.repeat(lambda z: lib.sum(z * z) < 6.0, lambda z: 1.5 * z + lib.tanh(f(z, x)), x, 5)
        case "while outer":
            o = lib.sin(x)
            return lib.repeat(lambda z: lib.sum(z * o) < 2.0, lambda z: z * 1.25 + o * f(lib.tanh(z), o), x, 4)
        case "vmap":
            y = lib.vmap(f, 0, 0)(s * x)
            return y[1] + y[2]
        case "vmap columns":
            y = lib.vmap(f, 1, 1)(m + x)
            return y[0] * y[2] + y[:, 1]
        case "vmap both":
            y = lib.vmap(lambda p, q: f(p * q), (0, None), 1)(s, x)
            return y[:, 0] + y[:, 3]
        case "vmap outer":
            y = lib.vmap(lambda p: f(lib.tanh(p), x), 0, 0)(s)
            return y[0] + y[2] * 0.5
    raise AssertionError(name)


class Dlc:
    """The words of dlc."""

    tanh, sin, matmul, where, sort = dlc.tanh, dlc.sin, dlc.matmul, dlc.where, dlc.sort
    sum, scan, cond, checkpoint, stop = dlc.sum, dlc.scan, dlc.cond, dlc.checkpoint, dlc.stop_gradient

    @staticmethod
    def constant(a: Any) -> Any:
        return dlc.constant(a, "float64")

    @staticmethod
    def flip(x: Any) -> Any:
        return x[::-1]

    @staticmethod
    def cumulate(x: Any) -> Any:
        return dlc.cumulative_sum(x, axis=0)

    @staticmethod
    def take(x: Any, places: Any) -> Any:
        return x[np.array(places)]

    @staticmethod
    def repeat(condition: Any, body: Any, x: Any, most: int) -> Any:
        return dlc.while_loop(condition, body, x, max_steps=most)

    @staticmethod
    def vmap(f: Any, in_axes: Any, out_axes: Any) -> Any:
        return dlc.vmap(f, in_axes, out_axes)

    @staticmethod
    def custom(f: Any, rule: Any, x: Any) -> Any:
        function = dlc.custom_vjp(f)
        function.backward(rule)
        return function(x)

    @staticmethod
    def _at(f: Any, x: Any) -> tuple[Any, Any]:
        """f's value at a node of its own, so that what f reads from outside is not differentiated."""
        own = x + 0.0
        return f(own), own

    grad = classmethod(lambda cls, f, x: dlc.grad(*cls._at(f, x)))
    vjp = classmethod(lambda cls, f, x, u: dlc.vjp(*cls._at(f, x), u))
    jvp = classmethod(lambda cls, f, x, t: dlc.jvp(*cls._at(f, x), t))
    hvp = classmethod(lambda cls, f, x, v: dlc.hvp(*cls._at(f, x), v))
    jacobian = classmethod(lambda cls, f, x: dlc.jacobian(*cls._at(f, x)))
    hessian = classmethod(lambda cls, f, x: dlc.hessian(*cls._at(f, x)))


def outputs(t: Term, x: Any) -> list[Any]:
    """A term at x and the gradient of a function of it, in dlc."""
    y = run(Dlc, t, x)
    return [y, dlc.grad(dlc.sum(dlc.tanh(y)), x)]


def torch_words() -> Any:
    """The words of PyTorch: loops are Python's, and a choice computes both sides."""
    import torch
    from torch.func import grad, jacrev, vjp, vmap

    class Torch:
        tanh, sin, matmul, where, sum = torch.tanh, torch.sin, torch.matmul, torch.where, torch.sum

        def constant(self, a: Any) -> Any:
            return torch.as_tensor(a)

        def flip(self, x: Any) -> Any:
            return torch.flip(x, (0,))

        def cumulate(self, x: Any) -> Any:
            return torch.cumsum(x, 0)

        def sort(self, x: Any) -> Any:
            return torch.sort(x)[0]

        def take(self, x: Any, places: Any) -> Any:
            return x[torch.tensor(places)]

        def stop(self, x: Any) -> Any:
            return x.detach()

        def scan(self, body: Any, carry: Any, xs: Any, reverse: bool = False) -> Any:
            ys: list[Any] = [None] * len(xs)
            for i in reversed(range(len(xs))) if reverse else range(len(xs)):
                carry, ys[i] = body(carry, xs[i])
            return carry, torch.stack(ys)

        def cond(self, p: Any, f: Any, g: Any, x: Any) -> Any:
            return torch.where(p, f(x), g(x))

        def repeat(self, condition: Any, body: Any, x: Any, most: int) -> Any:
            for _ in range(most):
                x = torch.where(condition(x), body(x), x)
            return x

        def vmap(self, f: Any, in_axes: Any, out_axes: int) -> Any:
            # out_dims is passed over for results that are the same for all
            return lambda *args: torch.movedim(vmap(f, in_dims=in_axes)(*args), 0, out_axes)

        def checkpoint(self, f: Any, x: Any) -> Any:
            return f(x)

        def custom(self, f: Any, rule: Any, x: Any) -> Any:
            class Function(torch.autograd.Function):
                generate_vmap_rule = True

                @staticmethod
                def forward(x: Any) -> Any:
                    return f(x) * 1.0

                @staticmethod
                def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
                    ctx.save_for_backward(inputs[0], output)

                @staticmethod
                def backward(ctx: Any, g: Any) -> Any:
                    x, y = ctx.saved_tensors
                    return rule(g, y, x)

            return Function.apply(x)

        def grad(self, f: Any, x: Any) -> Any:
            return grad(f)(x)

        def vjp(self, f: Any, x: Any, u: Any) -> Any:
            return vjp(f, x)[1](u)[0]

        def jvp(self, f: Any, x: Any, t: Any) -> Any:  # custom functions have no forward mode there
            return vjp(lambda u: self.vjp(f, x, u), torch.zeros_like(f(x)))[1](t)[0]

        def hvp(self, f: Any, x: Any, v: Any) -> Any:
            return grad(lambda z: torch.sum(grad(f)(z) * v))(x)

        def jacobian(self, f: Any, x: Any) -> Any:
            return jacrev(f)(x)

        def hessian(self, f: Any, x: Any) -> Any:
            return jacrev(grad(f))(x)

    return Torch()


def by_torch(t: Term, at: Sequence[float]) -> list[list[float]]:
    """The same two by PyTorch, in float64."""
    import torch

    words, x = torch_words(), torch.tensor(at, dtype=torch.float64)
    y = run(words, t, x)
    slope = torch.func.grad(lambda z: torch.sum(torch.tanh(run(words, t, z))))(x)
    return [y.tolist(), slope.tolist()]


def case(seed: int) -> tuple[Term, list[float]]:
    """A term and where to evaluate it."""
    rng = random.Random(seed)
    return term(rng, 2 + seed % 2), [round(rng.gauss(0.0, 1.0), 3) for _ in range(N)]


def main(args: Sequence[str]) -> int:
    """Compare the seeds ``from to``, or write a fixture of them. Returns how many differ."""
    first, last = int(args[0]), int(args[1])
    wanted, different = {}, 0
    for seed in range(first, last):
        t, at = case(seed)
        wanted[str(seed)] = want = by_torch(t, at)
        if "--write" in args:
            continue
        x = dlc.input("x", (N,), "float64")
        found = dlc.compile(dlc.graph([x], outputs(t, x)), "reference")(np.array(at))
        if not np.allclose(found, want, rtol=1e-9, atol=1e-9):
            different += 1
            print(seed, t, at, found, want)
    if "--write" in args:
        FIXTURE.write_text(json.dumps(wanted, indent=0) + "\n", encoding="utf-8")
    print(f"{last - first} seeds, {different} differ")
    return different


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
