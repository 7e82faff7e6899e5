"""The table of operators in docs/onnx.md: `python tests/onnx_operators.py` writes it anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from onnx import defs

from dlc.frontend.onnx import importers

PAGE = Path(__file__).parent.parent / "docs" / "onnx.md"
BEGIN, END = "<!-- written by tests/onnx_operators.py -->\n", "<!-- to here -->\n"
GROUPS = {
    "element by element": importers.ELEMENTWISE,
    "shapes": importers.SHAPES,
    "arrangement": importers.ARRANGEMENTS,
    "reductions": importers.REDUCTIONS,
    "places": importers.PLACES,
    "layers": importers.LAYERS,
    "pooling and resizing": importers.POOLING,
    "places in images": importers.VISION,
    "signals": importers.SIGNALS,
    "recurrent layers": importers.RECURRENT,
    "quantised": importers.QUANTISED,
    "control": importers.CONTROL,
    "training": importers.OPTIMISERS,
    "draws": importers.DRAWS,
    "sequences": importers.SEQUENCES,
    "of ai.onnx.ml": importers.FEATURES,
    "counts": importers.GRAMS,
}
DOMAINS = ("", "ai.onnx", "ai.onnx.preview.training")  # whose operators are counted: of ai.onnx.ml but a few are read


def version() -> str:
    """The first line of what is written: it names the onnx that it was written with."""
    return f"With onnx {onnx.__version__}, whose newest opset is {defs.onnx_opset_version()}:\n"


def table() -> str:
    """What stands between the marks: operators that are read, by groups, and those that are not."""
    schemas = {s.name: s for s in defs.get_all_schemas() if s.domain in DOMAINS and not s.deprecated}
    functions = [n for n in schemas if n not in importers.IMPORTERS and _is_read(n, schemas)]
    unread = set(schemas) - set(functions) - set(importers.IMPORTERS)
    rows = [*GROUPS.items(), ("by the standard's functions", functions), ("**not read**", unread)]
    lines = [version(), "| group | operators |", "|---|---|", *(f"| {name} | {_listed(n)} |" for name, n in rows)]
    read = len(importers.IMPORTERS.keys() & schemas.keys()) + len(functions)
    lines += ["", f"That is {read} of the {len(schemas)} operators that are not deprecated."]
    return "\n".join(lines) + "\n"


def _is_read(name: str, schemas: dict[str, Any]) -> bool:
    """Whether an operator is in dlc's table, or is a function of such ones."""
    if name in importers.IMPORTERS:
        return True
    schema = schemas.get(name)
    if schema is None:
        return False
    if schema.has_function:
        return all(_is_read(node.op_type, schemas) for node in schema.function_body.node)
    return bool(schema.has_context_dependent_function)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in sorted(names))


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
