"""Damage to files, by seed: to their bytes, to the fields of a protobuf message, and to JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

Rng = np.random.Generator

NASTY_TEXT = [
    *("", "..", "../../../../etc/passwd", "/etc/passwd", "C:\\windows", "a/../../b", ".", "x" * 100_000, "\x00"),
    "\x1b[2J",
    *("\n", "x\nimport os\nos._exit(7)\n", "__import__('os')._exit(7)", "<script>alert(1)</script>", "\u202e", "%s%n"),
    *("N", "self", "None", "lambda", "ai.onnx.ml", "Loop", "If", "Scan", "Constant", "Reshape", "\U0001f4a5", "-1"),
]
NASTY_INTS = [
    *(0, 1, -1, 2, 7, 63, 64, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
]
NASTY_FLOATS = [0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 1e-308]
HUGE_VARINTS = [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\x80" * 9 + b"\x01", b"\xff"]


def pick(rng: Rng, options: Any) -> Any:
    """One of the options."""
    return options[int(rng.integers(len(options)))]


# ---------------------------------------------------------------- bytes


def damaged(data: bytes, rng: Rng) -> bytes:
    """`data` cut, lengthened, or with some bytes changed, moved or repeated."""
    raw = bytearray(data)
    match int(rng.integers(7)):
        case 0:
            del raw[int(rng.integers(len(raw))) :]
        case 1:
            for _ in range(int(rng.integers(1, 9))):
                raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        case 2:
            at = int(rng.integers(len(raw)))
            raw[at : at + 8] = rng.bytes(8)
        case 3:
            first, second = sorted(int(v) for v in rng.integers(len(raw), size=2))
            raw = raw[:first] + raw[second:]
        case 4:
            first, second = sorted(int(v) for v in rng.integers(len(raw), size=2))
            raw = raw[:second] + raw[first:second] + raw[second:]
        case 5:  # a length of some field becomes huge
            at = int(rng.integers(len(raw)))
            raw[at : at + 1] = pick(rng, HUGE_VARINTS)
        case 6:
            raw += rng.bytes(int(rng.integers(1, 100)))
    return bytes(raw)


# ---------------------------------------------------------------- protobuf


def messages(message: Any, limit: int = 4000) -> list[Any]:
    """A message and those in it, at most `limit`."""
    found, at = [message], 0
    while at < len(found) and len(found) < limit:
        for field, value in found[at].ListFields():
            if field.type == field.TYPE_MESSAGE:
                found += list(value) if field.is_repeated else [value]
        at += 1
    return found


def mutate_message(message: Any, rng: Rng, times: int = 1) -> None:
    """Change `times` fields of the message, or of one in it, to something of the same wire type."""
    for _ in range(times):
        target = pick(rng, messages(message))
        fields = list(target.DESCRIPTOR.fields)
        present = [f for f, _ in target.ListFields()]
        field = pick(rng, present if present and rng.random() < 0.8 else fields)
        if field.is_repeated:
            _mutate_list(getattr(target, field.name), field, rng, message)
        elif field.type == field.TYPE_MESSAGE:
            _mutate_child(target, field, rng, message)
        else:
            setattr(target, field.name, _value(field, getattr(target, field.name), rng, message))


def _mutate_child(target: Any, field: Any, rng: Rng, root: Any) -> None:
    donors = [m for m in messages(root) if m.DESCRIPTOR is field.message_type]
    if rng.random() < 0.4 or not donors:
        target.ClearField(field.name)
    else:
        donor = type(pick(rng, donors))()
        donor.CopyFrom(pick(rng, donors))
        getattr(target, field.name).CopyFrom(donor)


def _mutate_list(values: Any, field: Any, rng: Rng, root: Any) -> None:
    action = int(rng.integers(5))
    if field.type == field.TYPE_MESSAGE:
        donors = [m for m in messages(root) if m.DESCRIPTOR is field.message_type]
        if action <= 1 and len(values):
            del values[int(rng.integers(len(values)))]
        elif action == 2 and len(values) > 1:  # another order: uses come before definitions
            first, second = (int(i) for i in rng.integers(len(values), size=2))
            keep = type(values[first])()
            keep.CopyFrom(values[first])
            values[first].CopyFrom(values[second])
            values[second].CopyFrom(keep)
        elif donors:
            copy = type(donors[0])()
            copy.CopyFrom(pick(rng, donors))
            values.append(copy)
    elif action == 0 and len(values):
        del values[int(rng.integers(len(values)))]
    elif action == 1:
        values.extend([_value(field, None, rng, root)] * int(pick(rng, [1, 2, 70, 3000])))
    elif len(values):
        values[int(rng.integers(len(values)))] = _value(field, None, rng, root)
    else:
        values.append(_value(field, None, rng, root))


def _value(field: Any, old: Any, rng: Rng, root: Any) -> Any:
    kind = field.type
    if kind in (field.TYPE_INT64, field.TYPE_UINT64, field.TYPE_INT32, field.TYPE_UINT32):
        low, high = {
            field.TYPE_INT64: (-(2**63), 2**63 - 1),
            field.TYPE_UINT64: (0, 2**64 - 1),
            field.TYPE_INT32: (-(2**31), 2**31 - 1),
            field.TYPE_UINT32: (0, 2**32 - 1),
        }[kind]
        return min(max(int(pick(rng, NASTY_INTS)), low), high)
    if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return pick(rng, NASTY_FLOATS)
    if kind == field.TYPE_ENUM:
        return pick(rng, [v.number for v in field.enum_type.values])
    if kind == field.TYPE_STRING:
        return pick(rng, [*NASTY_TEXT, *_names(root)])
    if kind == field.TYPE_BYTES:
        return damaged(old, rng) if old else rng.bytes(int(rng.integers(40)))
    raise AssertionError(f"a field of type {kind}")


def _names(root: Any) -> list[str]:
    """Names that occur in a model, so that a swap makes cycles and operands of other types."""
    found = [n for m in messages(root) if m.DESCRIPTOR.name == "NodeProto" for n in (*m.input, *m.output, m.op_type)]
    return found or [""]


# ---------------------------------------------------------------- safetensors


def safetensors_parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file and what follows it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def safetensors_file(header: Any, body: bytes, length: int | None = None) -> bytes:
    """A safetensors file of a header, given as what JSON can hold or as bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def mutate_json(value: Any, rng: Rng) -> Any:
    """A JSON value with one of its parts replaced, removed, repeated or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = pick(rng, list(value))
        match int(rng.integers(4)):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {(pick(rng, NASTY_TEXT) if k == key else k): v for k, v in value.items()}
        return {k: mutate_json(v, rng) if k == key else v for k, v in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = int(rng.integers(len(value)))
        if rng.random() < 0.3:
            return value[:at] + value[at + 1 :] if rng.random() < 0.5 else value[:at] + value[at:] * 2
        return [mutate_json(v, rng) if i == at else v for i, v in enumerate(value)]
    nested: Any = []
    for _ in range(int(pick(rng, [1, 90, 300]))):
        nested = [nested]
    others = [None, True, 1.5, 1e400, nested, {}, "F64", "BF16", "F8_E4M3", "bool"]
    return pick(rng, [*NASTY_INTS, *NASTY_TEXT[:12], *others])


def safetensors_mutants(data: bytes, rng: Rng, count: int) -> Iterator[bytes]:
    """`count` damaged forms of a safetensors file: of its bytes, its header and the length of that."""
    header, body = safetensors_parts(data)
    for _ in range(count):
        choice = rng.random()
        if choice < 0.3:
            yield damaged(data, rng)
        elif choice < 0.9:
            changed = header
            for _ in range(int(rng.integers(1, 4))):
                changed = mutate_json(changed, rng)
            yield safetensors_file(changed, body if rng.random() < 0.8 else body[: int(rng.integers(len(body)))])
        else:
            yield safetensors_file(header, body, length=int(pick(rng, [v for v in NASTY_INTS if v >= 0])))
