"""Fusion: chains of elementwise, view and index ops become one kernel, together with the reduction or contraction
that they feed or follow. `dlc.passes.fusion_groups` decides what shares a kernel; here the graph is rebuilt.
"""

from __future__ import annotations

from dlc.ir import Graph, Node, inherit_origins, make_node, same_op
from dlc.ops.definition import Kind
from dlc.ops.fused import FUSED
from dlc.ops.leaves import ITEM
from dlc.passes.fused_bodies import build_body
from dlc.passes.fusion_groups import FusionNote, Group, Grouping
from dlc.provenance import Origin


def fuse(graph: Graph) -> Graph:
    """The graph with groups of nodes replaced by `fused` nodes; bodies of scans are fused in the same way.

    >>> import dlc
    >>> x = dlc.input("x", ("N",))
    >>> print(fuse(dlc.graph([x], [dlc.exp(x) + 1])))
    graph (x: f32[N]) {
      %0: f32[N] = fused(x)
        body:
          graph (operand0: f32[N]) {
            %0: f32[N] = exp(operand0)
            %1: f32[] = constant 1.0
            %2: f32[N] = add(%0, %1)
            return %2
          }
      return %0
    }
    """
    done: dict[Graph, Graph] = {}
    return _fuse(graph, done)


def fusion_notes(graph: Graph) -> tuple[FusionNote, ...]:
    """For a graph before fusion: every edge between two computed nodes that fusion leaves, with the reason."""
    return tuple(Grouping(graph).notes())


def _fuse(graph: Graph, done: dict[Graph, Graph]) -> Graph:
    if graph in done:
        return done[graph]
    groups = {group.root: group for group in Grouping(graph).groups()}
    extra = {result for group in groups.values() for result in group.results[1:]}
    new: dict[Node, Node] = {}
    origins: dict[Node, tuple[Origin, ...]] = {}
    for node in _operands_first(graph, groups):
        if node in extra:
            continue
        group = groups.get(node)
        operands, body = build_body(group.results, group.members) if group is not None else ((), None)
        if body is None:
            replacement = _with_fused_bodies(same_op(node, tuple([new[x] for x in node.inputs])), done)
            inherit_origins(origins, replacement, graph.origins.get(node, ()), known=replacement.inputs)
            new[node] = replacement
            continue
        assert group is not None
        fused = make_node(FUSED, tuple([new[x] for x in operands]), {"body": body})
        members = sorted(group.members, key=lambda n: (not n.op.can_fail, n is not node))
        origins[fused] = tuple(dict.fromkeys(o for n in members for o in graph.origins.get(n, ())))
        for index, result in enumerate(group.results):
            new[result] = fused if len(group.results) == 1 else make_node(ITEM, (fused,), {"index": index})
            if places := graph.origins.get(result):
                origins.setdefault(new[result], places)
    updates = tuple((state, new[value]) for state, value in graph.updates)
    done[graph] = Graph(graph.inputs, tuple(new[n] for n in graph.outputs), updates, origins)
    return done[graph]


def _operands_first(graph: Graph, groups: dict[Node, Group]) -> list[Node]:
    """The nodes that still exist beside the groups' members, what they need first."""
    owners = {result: group for group in groups.values() for result in group.results}
    order: dict[Node, None] = dict.fromkeys([*graph.inputs, *(state for state, _ in graph.updates)])
    stack: list[Node | None] = [*reversed(graph.roots)]
    while stack:
        node = stack.pop()
        if node is None:  # below this mark lies a node whose operands are all in `order`
            order[stack.pop()] = None  # type: ignore[index]
            continue
        group = owners.get(node)
        node = group.root if group is not None else node
        if node in order:
            continue
        needs = node.inputs if group is None else [x for n in group.members for x in n.inputs if x not in group.members]
        stack += (node, None, *[x for x in reversed(needs) if x not in order])
    return list(order)


def _with_fused_bodies(node: Node, done: dict[Graph, Graph]) -> Node:
    bodies = {k: v for k, v in node.attrs.items() if isinstance(v, Graph)}
    if not bodies or node.op.kind is Kind.FUSED:
        return node
    return make_node(node.op, node.inputs, {**node.attrs, **{k: _fuse(v, done) for k, v in bodies.items()}})
