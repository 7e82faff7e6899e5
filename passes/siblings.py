"""Reductions that share another kernel's loops over the same rows: a norm's gradients of weight and bias beside that of
its operand. Each then reads its rows while they are in a cache. Reductions down the same columns share one sweep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.dims import Shape
from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.passes.groups import MAX_COPIES, MAX_MEMBERS, MAX_RESULTS, MAX_ROW_REDUCTIONS, Group

SEARCHES = ("argmax", "argmin")  # whose loops hold more than one number

if TYPE_CHECKING:
    from dlc.passes.fusion_groups import Grouping


def join_siblings(grouping: Grouping) -> None:
    """Let reductions that read what a group reads, along the rows that it walks, share its loops over rows."""
    readers: dict[Node, list[Group]] = {}
    for group in grouping.by_root.values():
        if group.by_rows:
            for x in group.operands(group.root.shape):
                readers.setdefault(x, []).append(group)
    columns: dict[object, list[Group]] = {}
    for other in list(grouping.by_root.values()):
        domain = _reduced_domain(other)
        if domain is None:
            continue
        if not other.by_rows:
            _join_columns(grouping, other, domain, columns)
            continue
        found = dict.fromkeys(g for x in other.operands(domain) for g in readers.get(x, ())[:MAX_COPIES])
        for group in found:
            if group.root in grouping.by_root and group.root.shape == domain and _may_join(grouping, group, other):
                _merge(grouping, group, other)
                break


def _join_columns(grouping: Grouping, other: Group, domain: Shape, columns: dict[object, list[Group]]) -> None:
    """Let a reduction down columns, or of everything, share the sweep of one that reads the same operand."""
    assert other.heavy is not None
    for x in other.operands(domain):
        for group in columns.get((x, other.heavy.attrs["axes"], other.root.shape), ())[:MAX_COPIES]:
            if not grouping.order.is_before(group.unit, other.unit) and _may_join(grouping, group, other):
                _merge(grouping, group, other)
                return
    for x in other.operands(domain):
        columns.setdefault((x, other.heavy.attrs["axes"], other.root.shape), []).append(other)


def _may_join(grouping: Grouping, group: Group, other: Group) -> bool:
    """Whether the reductions of `other` may become further results of `group`."""
    rows = frozenset(_kept_axes(other))
    if group is other:
        return False
    if other.by_rows and (frozenset(group.order[: len(rows)]) != rows or group.rows not in (None, rows)):
        return False
    reductions = len(group.places) + len(other.places)
    return (
        len(group.members) + len(other.members) <= MAX_MEMBERS
        and reductions <= MAX_ROW_REDUCTIONS
        and len(group.results) + len(other.results) <= MAX_RESULTS
        and not (group.fails and other.fails)
        and not grouping.order.is_before(other.unit, group.unit)
        and _reads_at_once(grouping, group, other)
    )


def _reads_at_once(grouping: Grouping, group: Group, other: Group) -> bool:
    """Whether `other` needs nothing of `group` but what its loops may compute again."""
    if not grouping.order.is_before(group.unit, other.unit):
        return True
    readers = [unit for result in group.results for unit in grouping.readers(result) if unit != other.unit]
    if any(grouping.order.is_before(unit, other.unit) for unit in readers):
        return False
    if any(grouping.reads_renamed(other, result) for result in group.results):
        return False
    shared = {x for n in other.members for x in n.inputs if x in group.members and x not in other.members}
    return all([grouping.may_be_computed_again(x, group) for x in shared])


def _merge(grouping: Grouping, group: Group, other: Group) -> None:
    for node, member in other.members.items():
        group.members.setdefault(node, member)
        grouping.homes[node] = list(dict.fromkeys(group if home is other else home for home in grouping.homes[node]))
    group.places.update(other.places)
    group.heavy = group.heavy or other.heavy
    group.fails = group.fails or other.fails
    group.rows = frozenset(_kept_axes(other)) if other.by_rows else None
    group.results += other.results
    for node in group.results[1:]:
        if node not in grouping.roots and all([grouping.homes.get(u) == [group] for u in grouping.users[node]]):
            group.results.remove(node)
    grouping.order.join(group.unit, other.unit)
    del grouping.by_root[other.root]


def _kept_axes(group: Group) -> list[int]:
    """The axes that the reductions of a group keep."""
    assert group.heavy is not None
    return [a for a in range(len(group.heavy.inputs[0].shape)) if a not in group.heavy.attrs["axes"]]


def _reduced_domain(group: Group) -> Shape | None:
    """The shape over which all loops of a group run that computes one element a row, if there is one."""
    if not group.places or any(n.op.kind is not Kind.REDUCE or n.op.name in SEARCHES for n in group.places):
        return None
    (shape, axes), *others = dict.fromkeys((n.inputs[0].shape, tuple(n.attrs["axes"])) for n in group.places)
    kept = tuple(d for a, d in enumerate(shape) if a not in axes)
    alike = not others and all([r.shape == kept for r in group.results])
    return shape if alike and (kept or not group.by_rows) else None
