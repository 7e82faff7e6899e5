"""More than a thousand damaged and hostile files: each gives a graph or one of dlc's errors, in time and memory.

They are loaded in processes of their own, which are killed after 5 s and may not have 2 GB.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_budgets import greedy_models
from hostile_models import external_model, external_models, hand_made_models, sound_models
from mutations import (
    damaged,
    mutate_json,
    mutate_message,
    pick,
    safetensors_file,
    safetensors_mutants,
    safetensors_parts,
)

import dlc
from dlc import nn, optim
from dlc.frontend.checkpoint import read_checkpoint, write_checkpoint

ROOT = Path(__file__).parent.parent
SECONDS = 5.0
BYTES = 2 << 30


class Loader:
    """A process that loads files, started anew when one has ended it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def load(self, kind: str, path: Path) -> str:
        """What came of a file: "accepted", the name of an error, or what went wrong."""
        if self.process is None:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "hostile_worker.py"), str(BYTES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                cwd=path.parent,
            )
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{kind} {path}\n")
        process.stdin.flush()
        began = time.monotonic()
        ready, _, _ = select.select([process.stdout], [], [], SECONDS + (0 if self.warm else 30))
        self.warm = True
        line = process.stdout.readline().strip() if ready else ""
        if line:
            return line
        self.close()
        return f"escaped: hung for {time.monotonic() - began:.1f} s" if not ready else "escaped: the process died"

    warm = False

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process, self.warm = None, False


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    loader = Loader()
    yield loader
    loader.close()


def check(loader: Loader, kind: str, files: Iterable[tuple[str, bytes]], folder: Path) -> Counter[str]:
    """Load each file; those that were neither accepted nor refused properly are listed by name."""
    outcomes: Counter[str] = Counter()
    wrong = []
    for name, data in files:
        path = folder / name
        path.write_bytes(data)
        outcome = loader.load(kind, path)
        outcomes[outcome] += 1
        if outcome.startswith("escaped"):
            wrong.append(f"{name}: {outcome}")
        else:
            path.unlink()
    assert not wrong, f"{len(wrong)} of {sum(outcomes.values())}:\n" + "\n".join(wrong[:40])
    return outcomes


def named(prefix: str, files: Iterable[bytes], suffix: str) -> Iterator[tuple[str, bytes]]:
    return ((f"{prefix}{i}{suffix}", data) for i, data in enumerate(files))


# ---------------------------------------------------------------- weights


def sound_weights(folder: Path) -> bytes:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    dlc.save(model, folder / "sound.safetensors")
    return (folder / "sound.safetensors").read_bytes()


def test_mutated_weights_are_loaded_or_refused(loader: Loader, tmp_path: Path) -> None:
    data = sound_weights(tmp_path)
    mutants = safetensors_mutants(data, np.random.default_rng(0), 400)
    outcomes = check(loader, "weights", named("w", mutants, ".safetensors"), tmp_path)
    assert set(outcomes) <= {"accepted", "FileFormatError"}
    assert outcomes["FileFormatError"] > 300  # that is, they do differ


def hand_made_weights(data: bytes) -> Iterator[tuple[str, bytes]]:
    header, body = safetensors_parts(data)
    name = "0.weight"
    record = header[name]

    def changed(**fields: Any) -> bytes:
        return safetensors_file({**header, name: {**record, **fields}}, body)

    yield "empty", b""
    yield "nulls", bytes(100)
    yield "length only", data[:8]
    yield "huge length", safetensors_file(b"", b"", length=2**63)
    yield "100 MB of header announced", safetensors_file(b"{}", b"", length=100_000_000)
    yield "no object", safetensors_file([1], body)
    yield "deep", safetensors_file(b"[" * 200_000, body)
    yield "deep objects", safetensors_file(b'{"a":' * 100_000, body)
    yield "not UTF-8", safetensors_file(b'{"\xff\xfe": 1}', body)
    yield "twice", safetensors_file(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' * 2 + b'"a":0}', b"\0")
    yield "many", safetensors_file(
        {f"{i}\n\x1b[31m": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}, b""
    )
    none = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    yield "too many", safetensors_file({str(i): none for i in range(200_000)}, b"")
    one = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    yield "a long name", safetensors_file({"x" * 1_000_000: one}, b"\0")
    yield "metadata that is no text", safetensors_file({"__metadata__": {"a": 1}, **header}, body)
    yield "metadata that is no object", safetensors_file({**header, "__metadata__": 7}, body)
    yield "huge shape", changed(shape=[2**62, 4])
    yield "shape that overflows to its size", changed(shape=[2**62, 16])
    yield "negative shape", changed(shape=[-3, -4])
    yield "many axes", changed(shape=[1] * 200 + list(record["shape"]))
    yield "empty axis", changed(shape=[0, 4], data_offsets=[record["data_offsets"][0]] * 2)
    yield "offsets reversed", changed(data_offsets=record["data_offsets"][::-1])
    yield "offsets beyond", changed(data_offsets=[0, 2**62])
    yield "offsets that overlap", changed(data_offsets=[0, record["data_offsets"][1] - record["data_offsets"][0]])
    yield "text for an offset", changed(data_offsets=["0", "48"])
    for dtype in ("BF16", "F16", "F8_E4M3", "F64", "I64", "BOOL", "C64", "F4", "pickle", "", "\n"):
        yield f"dtype {dtype!r}".replace("/", ""), changed(dtype=dtype)


def test_hand_made_weights_are_loaded_or_refused(loader: Loader, tmp_path: Path) -> None:
    check(loader, "weights", hand_made_weights(sound_weights(tmp_path)), tmp_path)


def test_what_is_no_ordinary_file_is_refused(loader: Loader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    for kind in ("weights", "checkpoint"):
        for name in ("pipe", "folder", "zero", "sparse"):
            assert loader.load(kind, tmp_path / name) == "FileFormatError", (kind, name)


# ---------------------------------------------------------------- checkpoints


def test_checkpoints_whose_record_was_changed_are_loaded_or_refused(loader: Loader, tmp_path: Path) -> None:
    """With a digest that fits: an attacker can compute one."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    trainer = dlc.Trainer(model, "cross_entropy", optim.Adam(1e-2), backend="reference")
    x, y = np.zeros((4, 4), "f"), np.zeros(4, "int64")
    trainer.fit(x, y, epochs=2, verbose=False)
    trainer.save(tmp_path / "sound")
    arrays, record = read_checkpoint(tmp_path / "sound")
    rng = np.random.default_rng(1)

    def mutants() -> Iterator[bytes]:
        for _ in range(150):
            changed = dict(arrays)
            if rng.random() < 0.4:
                name = list(changed)[int(rng.integers(len(changed)))]
                dtype = ["f", "d", "int8", "bool"][int(rng.integers(4))]
                changed[name] = rng.integers(0, 9, rng.integers(0, 4, 2)).astype(dtype)
            write_checkpoint(tmp_path / "mutant", changed, mutate_json(json.loads(json.dumps(record)), rng))
            yield (tmp_path / "mutant").read_bytes()

    outcomes = check(loader, "checkpoint", named("c", mutants(), ""), tmp_path)
    assert set(outcomes) <= {"accepted", "FileFormatError"}
    assert outcomes["FileFormatError"] > 50


# ---------------------------------------------------------------- graphs as JSON


def test_mutated_graphs_are_read_or_refused(loader: Loader, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3))
    text = dlc.graph_to_json(dlc.trace(model, dlc.input("x", ("N", 1, 6, 6))), values=True)
    record = json.loads(text)
    rng = np.random.default_rng(2)

    def mutants() -> Iterator[bytes]:
        for _ in range(250):
            changed = record
            for _ in range(int(rng.integers(1, 3))):
                changed = mutate_json(changed, rng)
            yield json.dumps(changed).encode() if rng.random() < 0.8 else damaged(text.encode(), rng)

    outcomes = check(loader, "graph", named("g", mutants(), ".json"), tmp_path)
    assert outcomes["FileFormatError"] > 100


# ---------------------------------------------------------------- ONNX models


REFUSED = {"FileFormatError", "StaticOperandError", "UnsupportedError"}


def test_mutated_models_are_read_or_refused(loader: Loader, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    models = list(sound_models().values())

    def mutants() -> Iterator[bytes]:
        for i in range(800):
            model = type(models[0])()
            model.CopyFrom(models[i % len(models)])
            if i % 4:
                mutate_message(model, rng, int(pick(rng, [1, 1, 2, 4])))
            data = model.SerializeToString()
            yield data if i % 4 else damaged(data, rng)

    outcomes = check(loader, "onnx", named("m", mutants(), ".onnx"), tmp_path)
    assert set(outcomes) <= {"accepted", *REFUSED}
    assert outcomes["accepted"] > 50
    assert sum(outcomes[e] for e in REFUSED) > 300


def test_models_that_are_damaged_here_are_sound_before(loader: Loader, tmp_path: Path) -> None:
    files = ((name, m.SerializeToString()) for name, m in sound_models().items())
    assert set(check(loader, "onnx", files, tmp_path)) == {"accepted"}


def test_hand_made_models_are_read_or_refused(loader: Loader, tmp_path: Path) -> None:
    outcomes = check(loader, "onnx", hand_made_models(), tmp_path)
    assert set(outcomes) <= {"accepted", *REFUSED}


def test_models_that_ask_for_much_are_read_or_refused(loader: Loader, tmp_path: Path) -> None:
    outcomes = check(loader, "onnx", greedy_models(), tmp_path)
    assert set(outcomes) <= {"accepted", *REFUSED}
    assert sum(outcomes[e] for e in REFUSED) > 30


def test_weights_in_other_files_come_from_the_folder_of_the_model_alone(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(100))
    folder = tmp_path / "models"
    folder.mkdir()
    outcomes = check(loader, "onnx", external_models(folder, tmp_path / "secret"), folder)
    assert set(outcomes) == {"FileFormatError"}
    assert set(check(loader, "onnx", [("sound", external_model({"location": "data.bin"}))], folder)) == {"accepted"}


def test_what_is_no_ordinary_file_is_no_model(loader: Loader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    for path in (tmp_path / "pipe", tmp_path / "zero", tmp_path / "sparse", tmp_path):
        assert loader.load("onnx", path) == "FileFormatError"
