"""Checkpoints and weight files: nothing is lost, nothing is trusted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, optim
from dlc.errors import ArgumentError, FileFormatError
from dlc.frontend import checkpoint
from dlc.frontend.checkpoint import clean_leftovers, read_arrays, read_checkpoint, write_arrays, write_checkpoint

X = np.random.default_rng(0).standard_normal((20, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 2, 20)


def trainer(seed: int = 0, backend: str = "reference") -> Any:
    model = nn.Sequential(nn.Linear(4), nn.BatchNorm1d(), nn.Dropout(0.3), nn.Tanh(), nn.Linear(2))
    adam = optim.Adam(1e-2, weight_decay=1e-3, clip_norm=1.0)
    return dlc.Trainer(model, "cross_entropy", adam, ["accuracy"], seed=seed, backend=backend)


FIT = {"epochs": 3, "batch_size": 6, "validation_data": (X[:5], Y[:5]), "verbose": False}


def everything(t: Any) -> dict[str, Any]:
    return {
        **{f"model.{k}": v.copy() for k, v in t.model.state_dict().items()},
        **{f"optimizer.{k}": v.copy() for k, v in t.optimizer.state_dict().items()},
        **{f"history.{k}": np.array(v) for k, v in t.history.items()},
        "step": np.array(t.steps),
    }


def same(a: Any, b: Any) -> None:
    one, two = everything(a), everything(b)
    assert list(one) == list(two)
    for name, value in one.items():
        assert value.tobytes() == two[name].tobytes(), name


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize(
    ("stop_at", "backend"),
    [
        (1, "reference"),
        (4, "reference"),
        (6, "reference"),
        (10, "reference"),
        pytest.param(6, "cpu", marks=pytest.mark.slow),
    ],
)
def test_resume_is_bit_exact_at_any_batch(stop_at: int, backend: str, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(t: Any) -> None:
        if t.steps == 2:
            t.optimizer.lr = 5e-3  # a change of the learning rate is part of what is kept
        if t.steps == stop_at:
            t.save(path)
            raise Stop

    def change(t: Any) -> None:
        if t.steps == 2:
            t.optimizer.lr = 5e-3

    path = tmp_path / "run.ckpt"
    whole = trainer(backend=backend)
    whole.fit(X, Y, **FIT, after_batch=change)
    with pytest.raises(Stop):
        trainer(backend=backend).fit(X, Y, **FIT, after_batch=stop)
    resumed = trainer(seed=9, backend=backend)  # the seed, too, comes from the file
    resumed.load(path)
    resumed.fit(X, Y, **FIT, after_batch=change)
    assert resumed.epoch == 3
    same(whole, resumed)


def test_interrupted_fit_goes_on_in_the_same_process() -> None:
    def stop(t: Any) -> None:
        if t.steps == 5:
            raise KeyboardInterrupt

    whole, other = trainer(), trainer()
    whole.fit(X, Y, **FIT)
    with pytest.raises(KeyboardInterrupt):
        other.fit(X, Y, **FIT, after_batch=stop)
    other.fit(X, Y, **FIT)
    same(whole, other)


def test_finished_fit_is_followed_by_further_epochs(tmp_path: Path) -> None:
    one, two = trainer(), trainer()
    one.fit(X, Y, **{**FIT, "epochs": 2})
    one.fit(X, Y, **{**FIT, "epochs": 2})
    two.fit(X, Y, **{**FIT, "epochs": 2}, checkpoint=tmp_path / "c")
    three = trainer()
    three.load(tmp_path / "c")
    three.fit(X, Y, **{**FIT, "epochs": 2})
    assert one.epoch == three.epoch == 4
    same(one, three)


def test_loading_into_a_trainer_that_has_run_goes_back(tmp_path: Path) -> None:
    t = trainer()
    t.fit(X, Y, **FIT)
    t.save(tmp_path / "c")
    before = everything(t)
    t.fit(X, Y, **FIT)
    t.load(tmp_path / "c")
    for name, value in everything(t).items():
        assert value.tobytes() == before[name].tobytes(), name


class Around(nn.Module):
    """A model around another, which holds a parameter that its author made."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner
        self.gain = dlc.parameter([1.0, 1.0])

    def forward(self, x: Any) -> Any:
        return self.inner(x) * self.gain


def test_a_part_that_was_trained_in_another_model_is_saved_under_its_path_in_this_one(tmp_path: Path) -> None:
    def trainer_of(model: nn.Module) -> Any:
        return dlc.Trainer(model, "cross_entropy", optim.Adam(1e-2), backend="reference")

    part = nn.Linear(2)
    for model in (Around(part), nn.Sequential(Around(Around(part)))):
        first = trainer_of(model)
        first.fit(X, Y, epochs=1, verbose=False)
    first.save(tmp_path / "run.ckpt")
    second = trainer_of(nn.Sequential(Around(Around(nn.Linear(2)))))
    second.load(tmp_path / "run.ckpt")
    for t in (first, second):
        t.fit(X, Y, epochs=1, verbose=False)
    same(first, second)
    assert {"m.0.gain", "m.0.inner.gain", "m.0.inner.inner.weight"} <= set(first.optimizer.named_states())


def test_resuming_inside_an_epoch_with_other_batches_is_refused(tmp_path: Path) -> None:
    def save(t: Any) -> None:
        if t.steps == 2:
            t.save(tmp_path / "c")

    trainer().fit(X, Y, **FIT, after_batch=save)
    t = trainer()
    t.load(tmp_path / "c")
    with pytest.raises(ValueError, match=r"batch_size=6, 20 samples .* batch_size=7, 20 samples"):
        t.fit(X, Y, **{**FIT, "batch_size": 7})


def test_fit_writes_checkpoints_every_so_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    t = trainer()
    monkeypatch.setattr(t, "save", lambda path: steps.append(t.steps))
    t.fit(X, Y, **FIT, checkpoint=tmp_path / "c", checkpoint_every=3)
    assert steps == [3, 4, 7, 8, 11, 12]  # batches 3 of 4 in each epoch, and the end of each


# ---------------------------------------------------------------- damage


def test_every_damaged_byte_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    t = trainer()
    t.fit(X, Y, **FIT)
    t.save(tmp_path / "c")
    data = (tmp_path / "c").read_bytes()
    before = everything(t)
    header = int.from_bytes(data[:8], "little")
    places = [*range(8), *range(8, 8 + header, 37), *range(8 + header, len(data), 11)]
    for place in places:
        bad = bytearray(data)
        bad[place] ^= 0x04
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(FileFormatError):
            t.load(tmp_path / "bad")
    for length in (0, 7, 8, header, len(data) - 1):
        (tmp_path / "bad").write_bytes(data[:length])
        with pytest.raises(FileFormatError):
            t.load(tmp_path / "bad")
    for name, value in everything(t).items():
        assert value.tobytes() == before[name].tobytes()


def hostile(**changes: Any) -> Any:
    def change(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, **changes}

    return change


@pytest.mark.parametrize(
    "change",
    [
        hostile(seed=-1),
        hostile(seed="0; import os"),
        hostile(step=2**70),
        hostile(position=None),
        hostile(history=[1, 2]),
        hostile(history={"loss": ["x"]}),
        hostile(optimizer="os.system"),
        lambda record: [],
        lambda record: {k: v for k, v in record.items() if k != "step"},
        lambda record: {**record, "position": {**record["position"], "batch": 10**9}},
        lambda record: {**record, "position": {**record["position"], "first": 99}},
    ],
)
def test_well_formed_nonsense_is_refused(change: Any, tmp_path: Path) -> None:
    t = trainer()
    t.build(X, Y)
    t.save(tmp_path / "c")
    arrays, record = read_checkpoint(tmp_path / "c")
    write_checkpoint(tmp_path / "c", arrays, change(record))
    with pytest.raises(FileFormatError):
        t.load(tmp_path / "c")


def test_checkpoint_of_another_model_lists_what_differs(tmp_path: Path) -> None:
    t = trainer()
    t.build(X, Y)
    t.save(tmp_path / "c")
    other = dlc.Trainer(
        nn.Sequential(nn.Linear(5), nn.Linear(2)), "cross_entropy", optim.Adam(1e-2), backend="reference"
    )
    other.build(X, Y)
    words = r"(?s)unexpected: 1\.running_mean.*unexpected: 4\.weight.*mis-shaped: 0\.weight"
    with pytest.raises(FileFormatError, match=words):
        other.load(tmp_path / "c")
    sgd = dlc.Trainer(trainer().model, "cross_entropy", optim.SGD(1e-2), backend="reference")
    with pytest.raises(FileFormatError, match="the file has 'Adam', this trainer SGD"):
        sgd.load(tmp_path / "c")


def test_weights_are_not_a_checkpoint_and_pickles_are_nothing(tmp_path: Path) -> None:
    t = trainer()
    t.build(X, Y)
    dlc.save(t.model, tmp_path / "w")
    with pytest.raises(FileFormatError, match="not a checkpoint"):
        t.load(tmp_path / "w")
    (tmp_path / "p").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR.")
    with pytest.raises(FileFormatError):
        t.load(tmp_path / "p")
    assert not (tmp_path / "pwned").exists()


def test_header_nested_without_end_is_refused(tmp_path: Path) -> None:
    text = b'{"__metadata__":' + b"[" * 100_000 + b"}"
    (tmp_path / "c").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(FileFormatError):
        read_arrays(tmp_path / "c")


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(("start", "words"), [(0, "header would have 0 bytes"), (2, "do not end where the file does")])
def test_large_file_is_refused_by_its_header_before_it_is_read(start: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "holes.safetensors"
    with open(path, "wb") as file:
        file.write(start.to_bytes(8, "little") + b"{}")
        file.truncate(2**36)  # holes, which take no room on disk but would in memory
    with pytest.raises(FileFormatError, match=words):
        dlc.load(nn.Linear(2, 2), path)


def test_bytes_that_are_no_bools_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bools.safetensors"
    header = json.dumps({"weight": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}).encode()
    for data, sound in ((b"\0\1", True), (b"\1\2", False)):
        path.write_bytes(len(header).to_bytes(8, "little") + header + data)
        with nullcontext() if sound else pytest.raises(FileFormatError, match="neither 0 nor 1"):
            assert read_arrays(path)[0]["weight"].tolist() == [False, True]


def test_weights_round_trip_with_torchs_names(tmp_path: Path) -> None:
    t = trainer()
    t.build(X, Y)
    dlc.save(t.model, tmp_path / "w")
    from safetensors.numpy import load_file

    names = load_file(tmp_path / "w")
    assert {"0.weight", "0.bias", "1.running_mean", "1.running_var", "4.weight"} <= set(names)
    fresh = dlc.load(trainer(seed=3).model, tmp_path / "w")
    for name, value in t.model.state_dict().items():
        np.testing.assert_array_equal(fresh.state_dict()[name], value)


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    write_arrays(tmp_path / "w", {"weight": np.zeros((2, 3), "f"), "more": np.zeros(1)})
    with pytest.raises(FileFormatError, match=r"(?s)missing: bias.*unexpected: more.*mis-shaped: weight is \(2, 4\)"):
        dlc.load(nn.Linear(4, 2), tmp_path / "w")


def test_a_checkpoint_is_not_weights_alone(tmp_path: Path) -> None:
    t = trainer()
    t.build(X, Y)
    t.save(tmp_path / "c")
    with pytest.raises(FileFormatError, match=r"checkpoint of a trainer.*trainer\.load\(path\)"):
        dlc.load(trainer().model, tmp_path / "c")


def test_shapes_are_written_as_python_writes_them(tmp_path: Path) -> None:
    write_arrays(tmp_path / "w", {"weight": np.zeros((2, 4), "f"), "bias": np.zeros(3, "f")})
    with pytest.raises(FileFormatError, match=r"bias is \(2,\) in the model, \(3,\) in the values"):
        dlc.load(nn.Linear(4, 2), tmp_path / "w")


def test_arrays_of_every_kind_and_layout_round_trip(tmp_path: Path) -> None:
    arrays = {
        "zero": np.array(3, "uint64"), "empty": np.zeros((0, 2), "f"), "turned": np.arange(6.0).reshape(2, 3).T,
        "bool": np.array([True, False]), "odd \n name": np.arange(3, dtype="int8"),
    }  # fmt: skip
    write_arrays(tmp_path / "a", arrays, {"key": "value"})
    found, metadata = read_arrays(tmp_path / "a")
    assert metadata == {"key": "value"}
    for name, a in arrays.items():
        assert found[name].dtype == a.dtype
        np.testing.assert_array_equal(found[name], a)


# ---------------------------------------------------------------- crashes


def test_failure_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrays(tmp_path / "a", {"x": np.ones(2)})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_arrays(tmp_path / "a", {"x": np.zeros(2)})
    assert read_arrays(tmp_path / "a")[0]["x"].tolist() == [1.0, 1.0]
    assert os.listdir(tmp_path) == ["a"]


def test_file_and_folder_are_synced_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(checkpoint.os, "fsync", lambda d: (calls.append("fsync"), sync(d)))
    monkeypatch.setattr(checkpoint.os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_arrays(tmp_path / "a", {"x": np.ones(2)})
    assert calls == ["fsync", "replace", "fsync"]


def test_leftovers_of_dead_processes_are_removed_and_others_kept(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    mine, lost, foreign = f".a.{os.getpid()}.0123abcd.tmp", f".a.{dead.stdout.strip()}.0123abcd.tmp", ".a.tmp"
    for name in (mine, lost, foreign):
        (tmp_path / name).touch()
    clean_leftovers(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == sorted([mine, foreign])


def test_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "real")
    write_arrays(tmp_path / "link", {"x": np.ones(2)})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "real").exists()


WRITER = """
import sys, numpy as np
from dlc.frontend.checkpoint import write_checkpoint
i = 0
while True:
    write_checkpoint(sys.argv[1], {"x": np.full(200_000, i, "float64")}, {"i": i})
    i += 1
    print(i, flush=True)
"""


@pytest.mark.slow
def test_checkpoint_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "c"
    rng = np.random.default_rng(0)
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()  # at least one is written
        time.sleep(float(rng.uniform(0, 0.05)))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        arrays, record = read_checkpoint(path)
        assert (arrays["x"] == record["i"]).all()
    write_checkpoint(path, {}, None)
    assert os.listdir(tmp_path) == ["c"]


def test_record_is_json_in_the_header(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", {"x": np.ones(1)}, {"a": [1.5, None, float("nan")]})
    data = (tmp_path / "c").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert re.fullmatch("[0-9a-f]{64}", header["__metadata__"]["digest"])
    assert read_checkpoint(tmp_path / "c")[1]["a"][:2] == [1.5, None]


def test_more_arrays_than_are_read_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="65537 arrays"):
        write_arrays(tmp_path / "a.safetensors", {str(i): np.zeros(0) for i in range(2**16 + 1)})
    assert not list(tmp_path.iterdir())
