"""The command line: what it prints, what it writes, its exit codes, and that no error ends in a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dlc
from dlc import __main__ as command_line
from dlc.__main__ import Finding, main
from dlc.errors import RenderError
from dlc.render import layout

ROOT = Path(dlc.__file__).resolve().parent.parent


def run(*arguments, cwd, **environment):
    """``python -m dlc`` in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, "-m", "dlc", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )


# ---------------------------------------------------------------- the frame


def test_the_version(tmp_path):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"dlc {dlc.__version__}\n")


@pytest.mark.parametrize("arguments", [["paint"], []])
def test_unknown_commands_list_the_known(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert ("'demo', 'doctor', 'explain'" in said) if arguments else ("COMMAND" in said)


@pytest.mark.parametrize("epochs", ["0", "-3", "many"])
def test_epochs_are_positive(epochs, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--epochs", epochs])
    assert stop.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def raising(error):
    def check():
        raise error
        yield

    return check


def test_an_interrupt_is_clean(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "CHECKS", {"slow": raising(KeyboardInterrupt())})
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_a_closed_pipe_is_no_error(tmp_path):
    """``python -m dlc doctor | head -1``: the reader goes away while doctor still writes."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "dlc", "doctor"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=120) == 0
    assert "Traceback" not in said and "BrokenPipe" not in said


# ---------------------------------------------------------------- explain


def test_explain_says_how_a_saved_graph_compiles(tmp_path, capsys):
    x = dlc.input("x", ("N", 3))
    file = tmp_path / "graph.json"
    file.write_text(dlc.graph_to_json(dlc.graph([x], [dlc.exp(x) * 2])), encoding="utf-8")
    assert main(["explain", str(file)]) == 0
    said = capsys.readouterr().out
    assert "f32[N,3]" in said and "passes" in said and "fuse" in said and "kernels: 1" in said


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("graph.py", "raise SystemExit('executed')", "is not a .json file"),
        ("graph.json", "{", "dlc: "),
        ("graph.json", "[]", "dlc: "),
        ("missing.json", None, "No such file"),
    ],
)
def test_explain_of_a_bad_file_is_one_line(name, content, words, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["explain", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("dlc: ") and said.err.count("\n") == 1
    assert not said.out


# ---------------------------------------------------------------- doctor


def test_doctor_finds_this_machine_well(capsys):
    code = main(["doctor"])
    said = capsys.readouterr().out
    assert code == 0, said
    for name in ("dlc", "packages", "processor", "cores", "threads", "cache", "drawing", "compiler", "cuda"):
        assert f"  {name} " in said
    assert f"numba {__import__('numba').__version__}" in said
    assert said.endswith("all is well\n")


def test_doctor_names_a_missing_package(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "PACKAGES", ("numpy", "no-such-package-here"))
    monkeypatch.setattr(command_line, "CHECKS", {"versions": command_line.check_versions})
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "missing: no-such-package-here" in said
    assert "fix: python -m pip install no-such-package-here" in said
    assert "1 of the above must be repaired" in said


def test_doctor_says_how_to_get_a_renderer(monkeypatch, capsys):
    monkeypatch.setattr(layout, "renderers", list)
    monkeypatch.setattr(command_line, "CHECKS", {"drawing": command_line.check_drawing})
    assert main(["doctor"]) == 1
    assert "pip install --force-reinstall 'pygraphviz" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such modes there")
def test_doctor_notes_a_cache_that_cannot_be_trusted(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("DLC_CACHE_DIR", str(folder))
    monkeypatch.setattr(command_line, "CHECKS", {"cache": command_line.check_cache})
    assert main(["doctor"]) == 0  # slower, but not broken
    said = capsys.readouterr().out
    assert said.startswith("note") and "set DLC_CACHE_DIR" in said


def test_doctor_finds_wrong_results(monkeypatch, capsys):
    import numpy as np

    class Wrong:
        def __call__(self, data):
            return (np.zeros(len(data), np.float32),)

    monkeypatch.setattr(dlc, "compile", lambda graph: Wrong(), raising=False)
    monkeypatch.setattr(command_line, "CHECKS", {"compiler": command_line.check_compiler})
    assert main(["doctor"]) == 1
    assert "the results are wrong" in capsys.readouterr().out


def test_a_check_that_fails_is_a_finding(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "CHECKS", {"odd": raising(ValueError("two\nlines"))})
    assert main(["doctor"]) == 1
    assert "FAIL  odd        ValueError: two lines" in capsys.readouterr().out


def test_findings_say_how_bad_they_are():
    assert str(Finding("a", "b")).startswith("ok ")
    assert str(Finding("a", "b", "c", is_needed=False)).startswith("note")
    assert str(Finding("a", "b", "c")).startswith("FAIL")


# ---------------------------------------------------------------- demo


@pytest.mark.slow
def test_demo_trains_and_draws(tmp_path):
    done = run("demo", "--epochs", "2", "--out", "here/pictures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    lines = done.stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:1] == ["epoch"])
    assert lines[head].split() == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    first, second = (list(map(float, line.split())) for line in lines[head + 1 : head + 3])
    assert (first[0], second[0]) == (1, 2)
    assert second[1] < first[1] and second[2] > first[2]  # it learns
    assert "test accuracy" in done.stdout and "compilation" in done.stdout
    written = sorted(p.name for p in (tmp_path / "here" / "pictures").iterdir())
    assert written == ["curves.png", "lenet.png", "lenet_joint.svg"]
    for name in written:
        assert str(Path("here", "pictures", name)) in done.stdout


def test_demo_into_a_file_is_one_line(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["demo", "--out", str(tmp_path / "taken")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dlc: ") and said.count("\n") == 1 and "taken" in said


def test_errors_of_ours_are_one_line(monkeypatch, capsys):
    def failing(options):
        raise RenderError("two\nlines", where="net.py:3")

    monkeypatch.setattr(command_line, "doctor", failing)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "dlc: two lines at net.py:3\n"


# ---------------------------------------------------------------- cache


def test_the_cache_is_listed_and_cleared(monkeypatch, capsys, tmp_path):
    from dlc.backends.cpu.cache import ObjectCache

    folder = tmp_path / "cache"
    monkeypatch.setenv("DLC_CACHE_DIR", str(folder))
    monkeypatch.setenv("DLC_CACHE_SIZE", "2G")
    for key in ("a" * 64, "b" * 64):
        ObjectCache().write(key, b"x" * 500_000)
    assert main(["cache"]) == 0
    said = capsys.readouterr().out
    assert str(folder) in said and "kernels    2\n" in said
    assert "1.0 MB of at most 2147.5 MB" in said and "last used" in said
    assert main(["cache", "clear"]) == 0
    assert "2 kernels, 1.0 MB" in capsys.readouterr().out and not list(folder.iterdir())
    assert main(["cache", "list"]) == 0
    assert "kernels    0\n" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="modes are not kept")
def test_a_cache_that_cannot_be_trusted_is_neither_listed_nor_cleared(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / f"{'a' * 64}.o").touch()
    folder.chmod(0o777)
    done = run("cache", "clear", cwd=tmp_path, DLC_CACHE_DIR=str(folder))
    assert done.returncode == 1 and "can be written by others" in done.stderr
    assert len(list(folder.iterdir())) == 1
