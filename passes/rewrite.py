"""Rewrite rules written in the DSL, and the engine that sweeps them over a graph, bottom-up, to a fixpoint."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlc.dtypes import is_floating
from dlc.errors import DlcError, RuleError
from dlc.ir import Graph, Node, TensorType, Wildcard, attribute_key, inherit_origins, make_node
from dlc.ops.definition import Op
from dlc.ops.leaves import CONSTANT, INPUT, InputLeaf
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import Origin, written_at

anything = Wildcard()
"""Any value of an attribute in a pattern; ``anything("name")`` where its own name would not tell two apart."""

Binding = dict[str, Any]  # wildcards' names to nodes, wild attributes' names to values
Replacement = Callable[..., Any]
Types = Mapping[str, str | Sequence[str] | TensorType]

_hits: ContextVar[Counter[str] | None] = ContextVar("dlc_rule_hits", default=None)


@dataclass(frozen=True, eq=False)
class Rule:
    """One rewrite: where `pattern` matches, `replacement` is built. Made by `rule`."""

    name: str
    pattern: Node
    operands: tuple[Node, ...]  # the pattern's wildcards
    replacement: Replacement
    where: Callable[..., Any] | None
    types: Types
    place: str
    _takes: dict[Any, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return f"<rule {self.name} at {self.place}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The replacement itself, for use in other rules and in tests."""
        return self.replacement(*args, **kwargs)

    def matches(self, node: Node) -> Iterator[Binding]:
        """The ways that the pattern fits `node`: for each the nodes and attribute values by name."""
        return _match(self, self.pattern, node, {})

    def may_match(self, sorts: Sequence[Any], same: bool) -> bool:
        """Whether a node of the pattern's op could match, by the sorts of its operands (see `Rewriter.candidates`) and
        whether it has two, the same: a cheap test before the real one."""
        wanted = self.pattern.inputs
        if len(wanted) == 2 and wanted[0] is wanted[1] and wanted[0].op is INPUT and not same:
            return False
        orders = (sorts, sorts[::-1]) if self.pattern.op.commutative else (sorts,)
        return any(len(wanted) == len(found) and all(map(_sort_fits, wanted, found)) for found in orders)

    def apply(self, node: Node, origin: Origin | None = None) -> Node | None:
        """What `node` becomes, or None where the rule does not apply. Raises `RuleError` if the types differ.

        New nodes are written at `origin`, that of the node which they stand for.
        """
        for binding in self.matches(node):
            values = {k: Tensor(v, origin) if isinstance(v, Node) else v for k, v in binding.items()}
            values["result"] = Tensor(node, origin)
            with written_at(origin):
                if self.where is not None and not self._call(self.where, values):
                    continue
                made = self._call(self.replacement, values)
                new = node if made is None else wrap(made).node
            if new is node:
                continue
            if new.type != node.type:
                raise RuleError(
                    f"the rule {self.name} ({self.place}) replaces {node!r} by {new!r}: the types differ. "
                    "Guard it with where=, or make the replacement of the same type",
                    where=origin,
                )
            return new
        return None

    def _call(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        return function(**{name: values[name] for name in self._parameters(function)})

    def _parameters(self, function: Callable[..., Any]) -> tuple[str, ...]:
        if function not in self._takes:
            self._takes[function] = tuple(inspect.signature(function).parameters)
        return self._takes[function]


def rule(
    pattern: Callable[..., Any],
    *,
    where: Callable[..., Any] | None = None,
    types: Types | None = None,
    traced_as: Mapping[str, TensorType] | None = None,
    name: str | None = None,
) -> Callable[[Replacement], Rule]:
    """Make a rewrite rule of a replacement function; both it and the pattern are plain expressions of the DSL.

    The pattern is traced once; its parameters are wildcards that match any tensor, the same one wherever a parameter
    is repeated. The operands of commutative ops match in either order. A 0-d constant of the pattern matches any
    constant whose elements all have its value, whatever the dtype; 0.0 is not -0.0. An attribute written as
    `passes.anything` matches any value (write such an op with its ``.op``: ``dlc.sum.op(x, axes=passes.anything)``).

    `types` restricts wildcards: a dtype, several, or a whole `TensorType`; it also gives the type that the pattern is
    traced with, otherwise a 0-d float32. `traced_as` gives types for tracing alone, where an op wants axes. `where`
    decides. It and the replacement get, by parameter name, any of the wildcards, the wild attributes, and ``result``,
    the tensor that is replaced; a replacement that returns None declines. Raises `RuleError` if the pattern is not an
    expression of its parameters.

    >>> import dlc
    >>> from dlc import passes
    >>> @passes.rule(lambda x: dlc.log(dlc.exp(x)))
    ... def log_of_exp(x):
    ...     return x
    >>> x = dlc.input("x")
    >>> print(passes.rewriter("logs", [log_of_exp])(dlc.graph([x], [dlc.log(dlc.exp(x)) * 2])))
    graph (x: f32[]) {
      %0: f32[] = constant 2.0
      %1: f32[] = multiply(x, %0)
      return %1
    }
    """
    wanted = dict(types or {})

    def decorate(replacement: Replacement) -> Rule:
        label = name or replacement.__name__
        code = getattr(replacement, "__code__", None)
        place = f"{code.co_filename}:{code.co_firstlineno}" if code else repr(replacement)
        parameters = list(inspect.signature(pattern).parameters)
        stand_ins = {**wanted, **(traced_as or {})}
        if unknown := sorted(set(stand_ins) - set(parameters)):
            raise RuleError(f"the rule {label} ({place}): types= names {unknown}, but the pattern takes {parameters}")
        leaves = tuple(make_node(INPUT, (), {"leaf": InputLeaf(p, _stand_in(stand_ins.get(p)))}) for p in parameters)
        try:
            root = wrap(pattern(*map(Tensor, leaves))).node
        except DlcError as error:
            raise RuleError(
                f"the rule {label} ({place}): its pattern cannot be traced: {error.message}. "
                "Give the wildcards other types with types= or traced_as="
            ) from error
        found = _pattern_names(root)
        if root in leaves or not set(leaves) <= set(found.operands):
            raise RuleError(
                f"the rule {label} ({place}): its pattern must be an expression that uses each of {parameters}"
            )
        made = Rule(label, root, leaves, replacement, where, wanted, place)
        known = {*parameters, *found.attributes, "result"}
        for function in (replacement, where):
            if function is not None and (unknown := sorted(set(made._parameters(function)) - known)):
                raise RuleError(f"the rule {label} ({place}) asks for {unknown}; the pattern gives {sorted(known)}")
        return made

    return decorate


def _stand_in(wanted: str | Sequence[str] | TensorType | None) -> TensorType:
    if isinstance(wanted, TensorType):
        return wanted
    return TensorType("float32" if wanted is None else wanted if isinstance(wanted, str) else wanted[0])


@dataclass
class _Names:
    operands: list[Node] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)


def _pattern_names(root: Node) -> _Names:
    names = _Names()
    stack = [root]
    while stack:
        node = stack.pop()
        if node.op is INPUT:
            names.operands.append(node)
        names.attributes += [v.name or k for k, v in node.attrs.items() if isinstance(v, Wildcard)]
        stack.extend(node.inputs)
    return names


# ---------------------------------------------------------------- matching


def _match(rule: Rule, pattern: Node, node: Node, binding: Binding) -> Iterator[Binding]:
    if pattern.op is INPUT:
        name = pattern.attrs["leaf"].name
        if name in binding:
            if binding[name] is node:
                yield binding
        elif _fits(rule.types.get(name), node):
            yield {**binding, name: node}
        return
    if pattern.op.name == "constant":
        if node.op.name == "constant" and _same_value(pattern.attrs["value"].array, node.attrs["value"].array):
            yield binding
        return
    if pattern.op is not node.op or len(pattern.inputs) != len(node.inputs):
        return
    extended = _match_attributes(pattern, node, binding)
    if extended is None:
        return
    yield from _match_operands(rule, pattern.inputs, node.inputs, extended)
    if node.op.commutative and node.inputs[0] is not node.inputs[1]:
        yield from _match_operands(rule, pattern.inputs, node.inputs[::-1], extended)


def _match_operands(
    rule: Rule, patterns: tuple[Node, ...], nodes: tuple[Node, ...], binding: Binding
) -> Iterator[Binding]:
    if not patterns:
        yield binding
        return
    for extended in _match(rule, patterns[0], nodes[0], binding):
        yield from _match_operands(rule, patterns[1:], nodes[1:], extended)


def _match_attributes(pattern: Node, node: Node, binding: Binding) -> Binding | None:
    if not pattern.attrs:
        return None if node.attrs else binding
    if pattern.attrs.keys() != node.attrs.keys():
        return None
    result = dict(binding)
    for attribute, wanted in pattern.attrs.items():
        value = node.attrs[attribute]
        if not isinstance(wanted, Wildcard):
            if attribute_key(wanted) != attribute_key(value):
                return None
            continue
        name = wanted.name or attribute
        if name in result and attribute_key(result[name]) != attribute_key(value):
            return None
        result[name] = value
    return result


def _fits(wanted: str | Sequence[str] | TensorType | None, node: Node) -> bool:
    if not isinstance(node.type, TensorType):
        return False
    if wanted is None:
        return True
    if isinstance(wanted, TensorType):
        return bool(node.type == wanted)
    return node.dtype == wanted if isinstance(wanted, str) else node.dtype in wanted


def _same_value(wanted: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> bool:
    """Whether all elements of `value` are the 0-d `wanted`, or the two arrays are equal.

    By value and sign of zero, whatever the dtype; but a bool is not a number.
    """
    if wanted.ndim == 0:
        return _uniform_value(wanted) == _uniform_value(value)
    same = wanted.shape == value.shape and _kind(wanted) == _kind(value)
    pairs = zip(wanted.ravel().tolist(), value.ravel().tolist(), strict=False)
    return same and all(_scalar_key(a) == _scalar_key(b) for a, b in pairs)


def _kind(array: np.ndarray[Any, Any]) -> str:
    return "f" if is_floating(array.dtype) else array.dtype.kind


def _uniform_value(array: np.ndarray[Any, Any]) -> Any:
    """What tells the value of all elements, which are the same; None where they are not."""
    if array.size == 0:
        return None
    first = array.flat[0]
    if array.size > 1:
        if first != array.flat[-1] or not (array == first).all():  # the former is cheap for large arrays
            return None
        if first == 0 and is_floating(array.dtype) and np.signbit(array).any() != np.signbit(array).all():
            return None
    return _scalar_key(first.item())


def _sort_fits(pattern: Node, sort: Any) -> bool:
    """Whether an operand of this sort may fit `pattern`."""
    if pattern.op is not CONSTANT:
        return pattern.op is INPUT or pattern.op is sort
    if pattern.shape:
        return sort is CONSTANT or not isinstance(sort, Op)
    return bool(sort == _uniform_value(pattern.attrs["value"].array))


def _scalar_key(value: bool | int | float) -> Any:
    if value == 0 and not isinstance(value, bool):
        return str(math.copysign(1.0, value))
    return "nan" if value != value else (isinstance(value, bool), value)


# ---------------------------------------------------------------- the engine


class Rewriter:
    """A pass that applies rules until none matches. Made by `rewriter`."""

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.__name__ = name
        self.rules = tuple(rules)
        self._candidates: dict[tuple[Any, ...], tuple[Rule, ...]] = {}
        for r in self.rules:
            if not isinstance(r, Rule):
                raise RuleError(f"{name}: {r!r} is not a rule; make it with @passes.rule(pattern)")
        asked = (x for r in self.rules for x in r.pattern.inputs if x.op is CONSTANT and not x.shape)
        self._values = {_uniform_value(x.attrs["value"].array) for x in asked}

    def __repr__(self) -> str:
        return f"<pass {self.__name__}: {', '.join(r.name for r in self.rules)}>"

    def __call__(self, graph: Graph) -> Graph:
        return self._run(graph, {})

    def candidates(self, node: Node) -> Sequence[Rule]:
        """The rules that may fit `node` by its op and the sorts of its operands, all that is looked at for most.

        The sort of an operand is its op, or the value of a constant that patterns ask for.
        """
        inputs = node.inputs
        sorts = [x.op if x.op is not CONSTANT else self._sort_of_constant(x) for x in inputs]
        same = len(inputs) == 2 and inputs[0] is inputs[1]
        key = (node.op, same, *sorts)
        found = self._candidates.get(key)
        if found is None:
            rules = [r for r in self.rules if r.pattern.op is node.op]
            found = self._candidates[key] = tuple(r for r in rules if r.may_match(sorts, same))
        return found

    def _sort_of_constant(self, node: Node) -> Any:
        """The value of all elements, if some pattern asks for it; otherwise constants are of one sort."""
        value = _uniform_value(node.attrs["value"].array)
        return value if value in self._values else CONSTANT

    def _run(self, graph: Graph, done: dict[int, Graph]) -> Graph:
        if id(graph) not in done:
            sweep = _Sweep(self, graph, lambda body: self._run(body, done))
            done[id(graph)] = sweep.run()
        return done[id(graph)]


def rewriter(name: str, rules: Sequence[Rule]) -> Rewriter:
    """A pass called `name` that applies `rules`, bottom-up and in their order, until none matches; in bodies too.

    Raises `RuleError`, when it runs, for a rule that changes a type or that never stops.
    """
    return Rewriter(name, rules)


class _Sweep:
    """Brings every node of one graph to its normal form: operands first, then the rules, until none applies."""

    def __init__(self, rewriter: Rewriter, graph: Graph, on_body: Callable[[Graph], Graph]) -> None:
        self.rewriter = rewriter
        self.graph = graph
        self.on_body = on_body
        self.normal: dict[Node, Node] = {}
        self.replaced: dict[Node, tuple[Node, Rule | None]] = {}
        self.origin: Origin | None = None
        self.hits: Counter[str] = Counter()
        self.budget = 100 + 10 * len(graph.nodes)

    def run(self) -> Graph:
        graph = self.graph
        for node in graph.nodes:
            self.origin = graph.where(node)
            self._normalise(node)
        counter = _hits.get()
        if counter is not None:
            counter.update(self.hits)
        new = self.normal
        if all([new[n] is n for n in graph.nodes]):
            return graph
        origins: dict[Node, tuple[Origin, ...]] = {}
        for node in graph.nodes:
            inherit_origins(origins, new[node], graph.origins.get(node, ()), known=[new[x] for x in node.inputs])
        updates = tuple((state, new[value]) for state, value in graph.updates)
        return Graph(graph.inputs, tuple(new[n] for n in graph.outputs), updates, origins)

    def _normalise(self, root: Node) -> None:
        normal, replaced = self.normal, self.replaced
        stack = [root]
        while stack:
            node = stack[-1]
            if node in normal:
                stack.pop()
                continue
            if node in replaced:  # and what it became is in normal form by now
                normal[node] = normal[replaced[node][0]]
                stack.pop()
                continue
            missing = [x for x in node.inputs if x not in normal]
            if missing:
                self._check_no_loop(missing)
                stack.extend(reversed(missing))
                continue
            target, by = self._step(node)
            if target is node:
                normal[node] = node
                stack.pop()
            else:
                replaced[node] = (target, by)
                if target not in normal:
                    self._check_no_loop([target])
                    stack.append(target)

    def _step(self, node: Node) -> tuple[Node, Rule | None]:
        """`node` on normal operands, or what the first rule that applies makes of it."""
        normal = self.normal
        operands = tuple([normal[x] for x in node.inputs])
        if operands != node.inputs:
            return make_node(node.op, operands, node.attrs), None
        if node.attrs and any([isinstance(v, Graph) for v in node.attrs.values()]):
            attrs = {k: self.on_body(v) if isinstance(v, Graph) else v for k, v in node.attrs.items()}
            if any(attrs[k] is not v for k, v in node.attrs.items()):
                return make_node(node.op, node.inputs, attrs), None
        for r in self.rewriter.candidates(node):
            new = r.apply(node, self.origin)
            if new is not None:
                self.hits[r.name] += 1
                if self.hits.total() > self.budget:
                    worst, count = self.hits.most_common(1)[0]
                    self._fail(
                        worst, f"it still applies after {count} times in a graph of {len(self.graph.nodes)} nodes"
                    )
                return new, r
        return node, None

    def _check_no_loop(self, needed: Sequence[Node]) -> None:
        """A node that needs itself to become normal would go round for ever."""
        for node in needed:
            if node in self.replaced and node not in self.normal:
                by = self.replaced[node][1]
                names = [r.name for _, r in self.replaced.values() if r is not None]
                self._fail(by.name if by else names[-1], f"its replacement of {node!r} leads back to it")

    def _fail(self, name: str, reason: str) -> None:
        culprit = next(r for r in self.rewriter.rules if r.name == name)
        raise RuleError(f"the rule {culprit.name} ({culprit.place}) never stops: {reason}", where=self.origin)


@contextmanager
def counting_hits() -> Iterator[Counter[str]]:
    """Counts how often each rule hits inside."""
    counter: Counter[str] = Counter()
    token = _hits.set(counter)
    try:
        yield counter
    finally:
        _hits.reset(token)
