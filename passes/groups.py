"""Groups of nodes that become kernels, and how large they may grow."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.dims import Shape
from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.ops.fused import HEAVY
from dlc.passes.index_places import Place

MAX_MEMBERS = 64  # nodes in one kernel: beyond it code grows and nothing is gained
MAX_ROW_REDUCTIONS = 6  # a norm's gradients; more would join layers, which are better compiled once each
MAX_RESULTS = 8
MAX_AGAIN, MAX_EXPENSIVE = 12, 1  # ops that loops along a row may compute again, and how many that are not cheap
MAX_PLACES = 4  # indices that are told apart
MAX_COPIES = 4  # copied ops in a row, so that copying stays linear in the size of the graph

ALIASES = frozenset(("reshape", "stop_gradient"))  # other names for the bytes of their operand
COMPUTED = (Kind.ELEMENTWISE, Kind.VIEW, Kind.INDEX, *HEAVY)


@dataclass
class Member:
    """How a group evaluates one of its nodes."""

    places: tuple[Place, ...]  # the indices at which it is evaluated
    repeated: bool = False  # more than once for each element
    copies: int = 0  # copied ops in a row up to here


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel. `results` starts with the root, whose shape is the domain of a map."""

    root: Node
    whole: tuple[Place, ...]  # where the root is evaluated: at every index of the domain
    results: list[Node] = field(default_factory=list)
    members: dict[Node, Member] = field(default_factory=dict)
    places: dict[Node, Place] = field(default_factory=dict)  # of reductions, for the loops inside them
    heavy: Node | None = None
    by_rows: bool = True  # every reduction so far runs along rows of the domain
    order: tuple[int, ...] = ()  # the axes of the domain in the order of the loops, those of a row last
    rows: frozenset[int] | None = None  # the axes of results that are one element a row
    unit: int = -1  # its number in the order of kernels
    regular: bool = True  # every member so far is elementwise, at an index that the loops name
    fails: bool = False


    def operands(self, shape: Shape) -> list[Node]:
        """What the group reads, or others may read of it, of this shape."""
        found = dict.fromkeys(x for n in self.members for x in n.inputs if x.shape == shape)
        return [x for x in found if x not in self.members or x in self.results]
