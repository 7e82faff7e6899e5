"""Reductions that share another kernel's loops over the same rows: a norm's gradients of weight and bias beside that of
its operand, the mean and the variance of one tensor. Each then reads its rows while they are in a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.dims import Shape
from dlc.ir import Node
from dlc.passes.groups import MAX_COPIES, MAX_MEMBERS, MAX_RESULTS, MAX_ROW_REDUCTIONS, Group

if TYPE_CHECKING:
    from dlc.passes.fusion_groups import Grouping


def join_siblings(grouping: Grouping) -> None:
    """Let reductions that read what a group reads, along the rows that it walks, share its loops over rows."""
    readers: dict[Node, list[Group]] = {}
    for group in grouping.by_root.values():
        if group.by_rows:
            for x in group.operands(group.root.shape):
                readers.setdefault(x, []).append(group)
    for other in list(grouping.by_root.values()):
        domain = _reduced_domain(other)
        if domain is None:
            continue
        found = dict.fromkeys(g for x in other.operands(domain) for g in readers.get(x, ())[:MAX_COPIES])
        for group in found:
            if group.root in grouping.by_root and group.root.shape == domain and _may_join(grouping, group, other):
                _merge(grouping, group, other)
                break


def _may_join(grouping: Grouping, group: Group, other: Group) -> bool:
    """Whether the reductions of `other` may become further results of `group`."""
    rows = frozenset(_kept_axes(other))
    if group is other or frozenset(group.order[: len(rows)]) != rows or group.rows not in (None, rows):
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
    shared = {x for n in other.members for x in n.inputs if x in group.members and x not in other.members}
    return all([grouping.may_be_computed_again(x, group) for x in shared])


def _merge(grouping: Grouping, group: Group, other: Group) -> None:
    rows = sorted(_kept_axes(other))
    for node, member in other.members.items():
        group.members.setdefault(node, member)
        grouping.homes[node] = list(dict.fromkeys(group if home is other else home for home in grouping.homes[node]))
    group.places.update(other.places)
    group.heavy = group.heavy or other.heavy
    group.fails = group.fails or other.fails
    group.rows = frozenset(rows)
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
    if not group.places or not group.by_rows:
        return None
    (shape, axes), *others = dict.fromkeys((n.inputs[0].shape, tuple(n.attrs["axes"])) for n in group.places)
    kept = tuple(d for a, d in enumerate(shape) if a not in axes)
    return shape if not others and kept and all([r.shape == kept for r in group.results]) else None
