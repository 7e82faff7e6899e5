"""Kernels by structure: equal layers are emitted once, however often a graph repeats them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dlc.backends.loops import KernelCode, emit_kernel
from dlc.backends.target import Target
from dlc.errors import UnsupportedError
from dlc.ir import Node, attribute_key

MAX_CODES = 4096
_codes: OrderedDict[Any, KernelCode | str] = OrderedDict()


def structure_key(node: Node) -> Any:
    """What decides a node's kernel: op, attributes, operand types, and which operands are the same."""
    first: dict[Node, int] = {}
    same = tuple([first.setdefault(x, i) for i, x in enumerate(node.inputs)])
    attrs = tuple([(k, attribute_key(v)) for k, v in sorted(node.attrs.items())])
    return (node.op.name, attrs, tuple([x.type for x in node.inputs]), same)


def kernel_of(node: Node, target: Target) -> KernelCode:
    """The kernel of `node`. Raises `UnsupportedError` where there is none."""
    code = _emitted(node, target)
    if isinstance(code, str):
        raise UnsupportedError(code)
    return code


def reason_against(node: Node, target: Target) -> str | None:
    """Why there is no kernel for `node`; None where there is one."""
    code = _emitted(node, target)
    return code if isinstance(code, str) else None


def _emitted(node: Node, target: Target) -> KernelCode | str:
    key = (structure_key(node), target)
    code = _codes.get(key)
    if code is None:
        try:
            code = emit_kernel(node, target)
        except UnsupportedError as error:
            code = error.message
        _codes[key] = code
        if len(_codes) > MAX_CODES:
            _codes.popitem(last=False)
    return code
