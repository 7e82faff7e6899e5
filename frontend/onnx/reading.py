"""From a file to a ModelProto, and what must hold of it before anything is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dlc.errors import FileFormatError, UnsupportedError, shown
from dlc.frontend.checkpoint import PathLike, read_file
from dlc.provenance import here

OLDEST_OPSET = 1
MAX_BYTES = 2**31  # what protobuf itself can hold


def parsed(source: PathLike | bytes | Any) -> tuple[Any, Any, int]:
    """The ModelProto, the path it lies at (None in memory) and the newest opset that the installed onnx knows."""
    try:
        import onnx
        import onnx.defs
    except ImportError:
        raise UnsupportedError(
            "reading ONNX needs the package onnx; install it with: pip install 'dlc[onnx]'", where=here()
        ) from None
    in_memory = isinstance(source, (bytes, bytearray, onnx.ModelProto))
    if isinstance(source, onnx.ModelProto):
        source = source.SerializeToString()
    data = bytes(source) if isinstance(source, (bytes, bytearray)) else read_file(source, MAX_BYTES)
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf has a class of its own for this, which depends on its version
        raise FileFormatError(f"not an ONNX model: {shown(str(error))}", where=here()) from None
    if not model.HasField("graph"):
        raise FileFormatError("not an ONNX model: it holds no graph", where=here())
    return model, None if in_memory else source, onnx.defs.onnx_opset_version()


def inputs_of(model: Any) -> list[str]:
    """The names of the inputs that have no value in the file."""
    known = {t.name for t in model.graph.initializer}
    return [v.name for v in model.graph.input if v.name not in known]


def opset_of(records: Iterable[Any], newest: int) -> int:
    versions = [o.version for o in records if o.domain in ("", "ai.onnx")]
    if not versions:  # of other domains only
        return newest
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise UnsupportedError(f"a model of the opsets {versions[:4]}; dlc reads one from {OLDEST_OPSET} to {newest}")
    return versions[0]


def updates_of(model: Any) -> dict[str, str]:
    """Which output holds the new value of a state: what `save` writes into the metadata."""
    texts = [p.value for p in model.metadata_props if p.key == "dlc.updates"]
    try:
        pairs = json.loads(texts[0]) if texts else {}
    except (ValueError, RecursionError):
        raise FileFormatError("the metadata dlc.updates is not JSON") from None
    if not isinstance(pairs, dict) or not all(isinstance(v, str) for v in pairs.values()):
        raise FileFormatError("the metadata dlc.updates is not an object of names")
    return pairs


def texts_of(found: Iterable[bytes], place: str) -> list[str]:
    try:
        return [t.decode() for t in found]
    except UnicodeDecodeError:
        raise FileFormatError(f"{place}: text that is not UTF-8") from None


def check_text(place: str, *texts: object) -> None:
    """Protobuf gives bytes where a text is not UTF-8."""
    for text in texts:
        if type(text) is not str:
            raise FileFormatError(f"{place}: a name that is not UTF-8")
