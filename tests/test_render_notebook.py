"""What notebooks show: a picture beside the text, quickly, and never an exception."""

import time
from xml.etree import ElementTree

import pytest

import dlc
from dlc import nn, optim
from dlc.render import layout, notebook

SVG = "image/svg+xml"


def shown(thing):
    """The bundle as IPython asks for it: its text is the repr, its picture a whole SVG."""
    bundle = thing._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == repr(thing)
    root = ElementTree.fromstring(bundle[SVG])
    return [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]


def small():
    x = dlc.input("x", ("N", 3))
    return x, dlc.exp(x).sum()


def test_graphs_and_programs_are_pictures():
    x, y = small()
    graph = dlc.graph([x], [y])
    assert {"exp", "f32[N,3]"} <= set(shown(graph))
    assert "exp" in shown(dlc.compile(graph, backend="reference"))


def test_tensors_are_pictures_of_what_they_were_made_from():
    x, y = small()
    assert {"x", "exp", "sum"} <= set(shown(y))
    assert "backward" in shown(dlc.grad(y, x))  # side by side
    assert list(x._repr_mimebundle_()) == ["text/plain"]  # an input is what its text says


def test_training_steps_show_all_three_parts():
    model = nn.Linear(3, 2)
    x = dlc.input("x", ("N", 3))
    loss = (model(x) ** 2).sum()
    step = dlc.train_step(model, [x], loss, optim.SGD(0.1), backend="reference")
    assert {"forward", "backward", "update", "weight :="} <= set(shown(step))


def without_picture(thing):
    bundle = thing._repr_mimebundle_()
    assert list(bundle) == ["text/plain"] and bundle["text/plain"].startswith(repr(thing))
    return bundle["text/plain"]


def test_without_graphviz_the_text_says_what_to_install(monkeypatch):
    monkeypatch.setattr(layout, "renderers", list)
    assert "pip install 'pygraphviz" in without_picture(dlc.graph([small()[0]], []))


def test_two_inputs_of_one_name_are_said():
    a, b = dlc.input("x"), dlc.input("x")
    assert "two different inputs" in without_picture(a + b)


def test_what_takes_long_is_given_up(monkeypatch):
    monkeypatch.setattr(notebook, "TIMEOUT", 0.001)
    assert "longer than" in without_picture(small()[1])


def test_what_is_too_large_is_left_to_files(monkeypatch):
    x = y = dlc.input("x", ("N", 3))
    for _ in range(notebook.MAX_NODES):
        y = dlc.exp(y)
    started = time.perf_counter()
    assert f"{notebook.MAX_NODES + 1} nodes" in without_picture(dlc.graph([x], [y]))
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("odd"), RecursionError("odd"), MemoryError("odd")])
def test_no_error_reaches_the_notebook(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(notebook, "_svg", fail)
    assert "odd" in without_picture(small()[1])
