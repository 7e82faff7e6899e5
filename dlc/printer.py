"""Graphs as text: one line a node, with its name, type, op and operands."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from dlc.ir import Graph, Leaf, Literal, Node


def graph_text(graph: Graph, *, indent: str = "") -> str:
    """The graph as text, the same for equal structures; body graphs are printed indented below their node.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> print(dlc.graph([x], [dlc.exp(x) * 2]))
    graph (x: f32[N,3]) {
      %0: f32[N,3] = exp(x)
      %1: f32[] = constant 2.0
      %2: f32[N,3] = multiply(%0, %1)
      return %2
    }
    """
    names = node_names(graph)
    arguments = ", ".join(f"{names[n]}: {n.type}" for n in graph.inputs)
    lines = [f"{indent}graph ({arguments}) {{"]
    inputs = set(graph.inputs)
    for node in graph.nodes:
        if node not in inputs:
            lines.extend(_node_lines(node, names, indent + "  "))
    for state, value in graph.updates:
        lines.append(f"{indent}  {names[state]} := {names[value]}")
    lines.append(f"{indent}  return {', '.join(names[n] for n in graph.outputs)}")
    lines.append(indent + "}")
    return "\n".join(lines)


def node_names(graph: Graph) -> dict[Node, str]:
    """Short names for the nodes of one graph: leaves by their label, made unique; the rest numbered."""
    names: dict[Node, str] = {}
    taken: set[str] = set()
    number = 0
    for node in graph.nodes:
        leaf = node.leaf
        if leaf is None:
            names[node] = f"%{number}"
            number += 1
            continue
        label = base = "".join(c if c.isprintable() and c not in "%{}()" else "_" for c in leaf.name)[:80]
        repeat = 1
        while label in taken:
            repeat += 1
            label = f"{base}~{repeat}"
        taken.add(label)
        names[node] = label
    return names


def _node_lines(node: Node, names: Mapping[Node, str], indent: str) -> list[str]:
    bodies = {k: v for k, v in node.attrs.items() if isinstance(v, Graph)}
    attrs = [f"{k}={attribute_text(v)}" for k, v in node.attrs.items() if not isinstance(v, (Graph, Leaf))]
    if node.leaf is not None:
        return [f"{indent}{names[node]}: {node.type} = {node.op.name}"]
    if node.op.name == "constant":
        return [f"{indent}{names[node]}: {node.type} = constant {attribute_text(node.attrs['value'])}"]
    operands = [names[x] for x in node.inputs]
    lines = [f"{indent}{names[node]}: {node.type} = {node.op.name}({', '.join(operands + attrs)})"]
    for name, body in bodies.items():
        lines.append(f"{indent}  {name}:")
        lines.append(graph_text(body, indent=indent + "    "))
    return lines


def attribute_text(value: Any) -> str:
    """An attribute's value as short text."""
    if isinstance(value, tuple):
        return f"({', '.join(map(attribute_text, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, str):
        return value
    if isinstance(value, Literal) and value.array.ndim:
        flat = value.array.ravel()
        return f"[{', '.join(map(str, flat.tolist()))}]" if flat.size <= 8 else f"[{flat[0]}, ... {flat.size} elements]"
    return str(value)




def graph_diff(a: Graph, b: Graph, names: tuple[str, str] = ("before", "after")) -> str:
    """A unified diff of two graphs' texts; empty when they are the same structure and labels."""
    lines = difflib.unified_diff(str(a).splitlines(), str(b).splitlines(), *names, lineterm="", n=2)
    return "\n".join(lines)
