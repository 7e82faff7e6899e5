"""Pictures: the DOT text word for word, what is folded and how, hostile names, every file format, and the errors."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlc
from dlc import nn, ops, optim
from dlc.errors import AttributeValueError, RenderError
from dlc.ir import Graph, TensorType
from dlc.ops.fused import FUSED
from dlc.ops.tensor import Tensor, collect_origins, wrap
from dlc.provenance import Origin, module_scope, phase
from dlc.render import layout, to_dot
from dlc.render.curves import Axis, curves_dot, plot_history, round_step
from dlc.render.fold import NODE_BUDGET, fold
from dlc.render.labels import plain, quoted
from dlc.render.ladder import rungs
from dlc.render.picture import picture_of
from dlc.state import State

MAGIC = {"svg": b"<?xml", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "dot": b"digraph dlc {"}


def state(name, *shape, dtype="float32"):
    return wrap(State(name, TensorType(dtype, shape), lambda: 0))


def graph_of(inputs, outputs, updates=()):
    """A graph with its origins, by hand."""
    origins = collect_origins([*inputs, *outputs, *(t for pair in updates for t in pair)])
    nodes = tuple(t.node for t in inputs), tuple(t.node for t in outputs)
    return Graph(*nodes, tuple((s.node, v.node) for s, v in updates), origins)


def triple():
    """J = 3(a + bc) with its gradients."""
    a, b, c = dlc.input("a"), dlc.input("b"), dlc.input("c")
    J = 3 * (a + b * c)
    return dlc.graph(inputs=[a, b, c], outputs=[J, *dlc.grad(J, [a, b, c])])


def network(layers, adam=True):
    """A chain of equal layers with a step of SGD or Adam; all its tensors are [N,8]."""
    x = h = dlc.input("x", ("N", 8))
    parameters = []
    for i in range(layers):
        with module_scope("layers"), module_scope(str(i)):
            parameters += [state(f"{i}.scale", 8), state(f"{i}.shift", 8)]
            h = ops.tanh(h * parameters[-2] + parameters[-1])
    loss = (h * h).sum()
    gradients = dlc.grad(loss, parameters)
    updates = []
    with phase("update"):
        rate, step = state("rate"), state("step", dtype="int64")
        next_step = step + 1
        updates.append((step, next_step))
        scale = rate * ops.sqrt(1 - ops.pow(0.999, next_step.astype("float32")))
        for p, g in zip(parameters, gradients, strict=True):
            if adam:
                m = state(f"m.{p.node.leaf.name}", 8)
                new = m * 0.9 + g * 0.1
                updates += [(m, new), (p, p - scale * new)]
            else:
                updates.append((p, p - rate * g))
    return graph_of([x], [loss], updates)


def draw_quietly(text, form="svg", engine="dot"):
    """Draw with every renderer of this machine; each must write a picture, and nothing to stderr.

    Fontconfig reads templates of the machine whatever it is told, and may warn of them; that is not about our text.
    """
    for renderer in layout.renderers():
        with layout._environment(text) as env:
            done = subprocess.run(
                renderer.command(form, engine), input=text.encode(), capture_output=True, env=env, timeout=60
            )
        said = [line for line in done.stderr.decode().splitlines() if not line.startswith("Fontconfig warning")]
        assert (done.returncode, said) == (0, []), renderer.name
    return done.stdout


def texts(svg):
    """All text that an SVG shows, and its tooltips."""
    root = ElementTree.fromstring(svg)
    shown = [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text")]
    return shown, [t.get("{http://www.w3.org/1999/xlink}title") or "" for t in root.iter()]


# ---------------------------------------------------------------- DOT text


GOLDEN_FORWARD = """\
  n0 [label="x\\nf32[N,3]", tooltip="f32[N,3]", style="filled", shape="ellipse", margin="0.02,0.02", \
fillcolor="#D3EBFA", color="#56B4E9"]
  n1 [label="exp", tooltip="f32[N,3]", style="filled,rounded", shape="box", fillcolor="#FFFFFF", color="#0072B2"]
  out0 [label="output\\nf32[N,3]", tooltip="f32[N,3]", style="filled", shape="ellipse", peripheries="2", \
margin="0.02,0.02", fillcolor="#F3DCE8", color="#CC79A7"]
  n3 [label="multiply(·, 2)", tooltip="f32[N,3] at net.py:7 in head", style="filled,rounded", shape="box", \
fillcolor="#FFFFFF", color="#0072B2"]
  n0 -> n1 [color="#0072B2"]
  n1 -> n3 [color="#0072B2", label=" f32[N,3] "]
  n3 -> out0 [color="#0072B2", label=" f32[N,3] "]
}
"""


def test_the_dot_text_of_a_small_graph():
    x = dlc.input("x", ("N", 3))
    y = ops.exp(x) * 2
    origins = {y.node: (Origin("/home/someone/net.py", 7, "head"),)}
    text = to_dot(Graph((x.node,), (y.node,), (), origins))
    frame, _, body = text.partition("arrowsize=0.7]\n")
    assert body == GOLDEN_FORWARD
    assert frame.startswith('digraph dlc {\n  graph [rankdir="TB", newrank="true"')
    assert "someone" not in text  # pictures are published; where they were made is nobody's business


GOLDEN_LADDER = """\
  n1 -> n4 [color="#0072B2"]
  n2 -> n4 [color="#0072B2"]
  n0 -> n5 [color="#0072B2"]
  n4 -> n5 [color="#0072B2", label=" f32[] "]
  n5 -> n6 [color="#0072B2", label=" f32[] "]
  n9 -> n8 [color="#D55E00", style="dashed", dir="back", label=" f32[] "]
  n2 -> n9 [color="#6E6E6E", style="dotted", arrowhead="open", constraint="false"]
  n10 -> n8 [color="#D55E00", style="dashed", dir="back", label=" f32[] "]
  n1 -> n10 [color="#6E6E6E", style="dotted", arrowhead="open", constraint="false"]
  n6 -> out0 [color="#0072B2", label=" f32[] "]
  out1 -> n8 [color="#D55E00", style="dashed", dir="back", label=" f32[] "]
  out2 -> n9 [color="#D55E00", style="dashed", dir="back", label=" f32[] "]
  out3 -> n10 [color="#D55E00", style="dashed", dir="back", label=" f32[] "]
  { rank=min; head_forward -> head_backward [style=invis, weight=1000] }
  { rank=same; n4 -> n9 [style=invis] }
  { rank=same; n5 -> n8 [style=invis] }
}
"""


def test_a_joint_picture_is_a_ladder_with_the_backward_part_running_up():
    assert to_dot(triple(), "joint").endswith(GOLDEN_LADDER)


def test_the_text_is_the_same_in_every_process():
    program = (
        "import dlc; a, b = dlc.input('a'), dlc.input('b'); J = dlc.exp(a * b) + 2 * a;"
        "g = dlc.graph([a, b], [J, *dlc.grad(J, [a, b])]);"
        "from dlc.render import to_dot; print(to_dot(g, 'joint', title='J'))"
    )
    found = set()
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONPATH": str(Path(dlc.__file__).parent.parent), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=env, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        found.add(done.stdout)
    assert len(found) == 1


# ---------------------------------------------------------------- what is drawn, and as what


def lines_of(picture):
    return {id_: v.lines for id_, v in picture.vertices.items()}


def test_views_show_their_part():
    graph = triple()
    phases = {view: {v.phase for v in picture_of(graph, view).vertices.values() if not v.pale} for view in
              ("forward", "backward", "joint")}  # fmt: skip
    assert phases == {"forward": {"forward"}, "backward": {"backward"}, "joint": {"forward", "backward"}}
    pale = [v.lines[0] for v in picture_of(graph, "backward").vertices.values() if v.pale]
    assert sorted(pale) == ["b", "c"]  # the forward values that the gradients use


def test_a_backward_view_without_gradients_says_what_to_do():
    x = dlc.input("x")
    with pytest.raises(RenderError, match=r"no backward part.*dlc\.grad"):
        to_dot(dlc.graph([x], [x * 2]), "backward")


def test_nodes_without_origins_count_as_forward():
    x = dlc.input("x")
    graph = Graph((x.node,), (ops.exp(x).node,))
    assert [v.phase for v in picture_of(graph, "joint").vertices.values()] == ["forward"] * 3


def test_parameters_are_one_box_with_their_views_and_stand_beside_their_reader():
    x, w = dlc.input("x", ("N", 3)), state("w", 3, 4)
    y = x * ops.permute_dims(w, (1, 0))[0]
    text = to_dot(graph_of([x], [y]))
    assert "w\\npermute_dims, slice, reshape\\nf32[3]" in text
    assert "rank=same" in text
    twice = ops.permute_dims(ops.permute_dims(w, (1, 0)), (1, 0))
    assert ("w", "f32[3,4]") in lines_of(picture_of(graph_of([], [twice]), "forward")).values()


def test_attributes_are_short_and_shapes_are_left_to_the_arrows():
    x = dlc.input("x", ("N", 2, 3))
    lines = lines_of(picture_of(graph_of([x], [ops.permute_dims(x, (0, 2, 1)).reshape("N", 6)]), "forward")).values()
    assert ("permute_dims", "axes=(0, 2, 1)") in lines
    assert ("reshape",) in lines


def test_attributes_that_say_nothing_are_left_out():
    image, kernel = dlc.input("image", ("N", 1, 8, 8)), state("kernel", 2, 1, 3, 3)
    y = ops.conv2d(ops.conv2d(image, kernel, padding=1)[:, :1], kernel, stride=2)
    lines = [line for line in lines_of(picture_of(graph_of([image], [y]), "forward")).values() if line[0] == "conv2d"]
    assert lines == [("conv2d", "padding=((1, 1), (1, 1))"), ("conv2d", "stride=(2, 2)")]


def test_fused_nodes_list_their_body():
    a = dlc.input("a", ("N",))
    body = dlc.graph([a], [ops.tanh(ops.exp(a) + 1 + 2)])
    x = dlc.input("x", ("N",))
    text = to_dot(graph_of([x], [FUSED(x, body=body)]))
    assert "fused\\nbody:\\n· exp\\n· add ×2\\n· tanh" in text
    assert 'fillcolor="#FFF6BF"' in text


def test_a_fused_gradient_is_backward_though_it_recomputes_forward_values():
    x = dlc.input("x", ("N",))
    g = dlc.grad(ops.tanh(ops.exp(x)).sum(), x)
    a, b = dlc.input("a", ("N",)), dlc.input("b", ("N",))
    body = dlc.graph([a, b], [ops.exp(a) * b])
    whole = FUSED(x, g, body=body)  # written in the forward phase, here
    (group,) = [v for v in picture_of(graph_of([x], [whole]), "joint").vertices.values() if v.role == "group"]
    assert group.phase == "backward"


def test_results_of_one_node_leave_it_as_numbered_arrows():
    a = dlc.input("a", ("N",))
    body = dlc.graph([a], [ops.exp(a), a * 2])
    x = dlc.input("x", ("N",))
    both = FUSED(x, body=body)
    text = to_dot(graph_of([x], [ops.item(both, 1) + ops.item(both, 0)]))
    assert '" #0 f32[N] "' in text and '" #1 f32[N] "' in text and "item" not in text


def test_modules_are_nested_frames_but_a_module_of_one_box_has_none():
    x = dlc.input("x", ("N", 8))
    with module_scope("encoder"):
        with module_scope("first"):
            y = ops.tanh(ops.exp(x))
        with module_scope("second"):
            y = ops.sqrt(y)
    text = to_dot(graph_of([x], [y]))
    assert text.index('label="encoder"') < text.index('label="encoder.first"')
    assert 'label="encoder.second"' not in text


def test_updates_name_the_state_that_they_write():
    picture = picture_of(network(1, adam=False), "joint")
    lines = list(lines_of(picture).values())
    assert ("0.scale :=", "f32[8]") in lines
    assert any(line[0].startswith("subtract(0.scale") for line in lines)  # no arrow across the whole picture
    assert not [e for e in picture.edges if picture.vertices[e.tail].lines[0] == "rate"]


# ---------------------------------------------------------------- folding


def test_depth_draws_modules_as_one_box_and_the_title_says_so():
    text = to_dot(network(3), "forward", depth=2)
    assert "layers.1\\nmultiply, add, tanh\\n2 parameters" in text
    assert "modules below depth 2 are drawn as one box" in text


def test_many_updates_become_one_box_a_parameter():
    picture = fold(picture_of(network(3), "joint"), None)
    updates = {v.lines for v in picture.vertices.values() if v.phase == "update"}
    assert ("m.0.scale :=", "0.scale :=", "5 ops") in updates
    assert len(updates) == 7  # six parameters, and what they share
    assert picture.notes == ("each parameter's update is drawn as one box",)


def test_repeated_modules_are_drawn_once_with_their_number():
    picture = fold(picture_of(network(60), "joint"), None)
    assert len(picture.vertices) < 60 < NODE_BUDGET
    # the last layer's gradient starts from the loss, the first's goes no further: they differ, the others are alike
    assert picture.titles == {("layers", "1"): "layers.1 … 58  ×58"}
    text = to_dot(network(60), "joint")
    assert "layers.1 to layers.58 are alike and drawn once (×58)" in text
    known = set(picture.vertices)
    assert all({e.tail, e.head} <= known for e in picture.edges)


def test_modules_that_differ_are_not_rolled_up():
    x = h = dlc.input("x", ("N",))
    for i in range(130):
        with module_scope(str(i)):
            h = ops.tanh(ops.exp(h)) if i % 2 else ops.sin(ops.cos(h))
    picture = fold(picture_of(graph_of([x], [h]), "forward"), None)
    assert not picture.titles
    assert len(picture.vertices) == 132  # each module is one box instead
    hint = "132 of 262 boxes are drawn; max_boxes=262 draws more"
    assert picture.notes == (hint, "modules below depth 1 are drawn as one box")


def test_modules_that_do_not_fit_are_folded_no_further_than_needed():
    x = h = dlc.input("x", ("N",))
    for block in range(20):
        with module_scope(f"block{block}"):
            for i, ops_of_layer in enumerate(([ops.exp, ops.tanh] * 3, [ops.sin, ops.cos] * (block + 1))):
                with module_scope(f"layer{i}"):
                    for op in ops_of_layer:
                        h = op(h)
    picture = fold(picture_of(graph_of([x], [h]), "forward"), None)
    assert picture.notes[1:] == ("modules below depth 2 are drawn as one box",)
    assert {v.module for v in picture.vertices.values() if v.role == "folded"} == {(f"block{b}",) for b in range(20)}
    assert fold(picture_of(graph_of([x], [h]), "forward"), 1).notes == ("modules below depth 1 are drawn as one box",)


def test_what_a_folded_module_writes_is_one_box_beside_it():
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(*[nn.BatchNorm1d(8) for _ in range(3)]), nn.Linear(8, 2))
    x, y = dlc.input("x", ("N", 8)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    step = dlc.train_step(model, [x, y], loss, optim.SGD(0.1, momentum=0.9), backend="reference")
    picture = fold(picture_of(step.program.graph, "joint"), 1)
    boxes = [v for v in picture.vertices.values() if v.role == "update"]
    written = {frozenset(v.lines) for v in boxes}
    statistics = ("1.0.running_mean :=", "1.0.running_var :=", "1.1.running_mean :=", "1.1.running_var :=", "… 2 more")
    assert frozenset(statistics) in written
    assert {"0.weight :=", "momentum.0.weight :=", "0.bias :=", "momentum.0.bias :=", "8 ops"} in written
    assert sum(v.phase == "update" for v in boxes) == 4  # one for each of the three modules, and what they share
    assert "each parameter's update is drawn as one box, those of a folded module together" in picture.notes


# ---------------------------------------------------------------- the ladder


def heights(picture):
    """Rungs as heights; every arrow of both columns must go the right way."""
    import networkx as nx

    merged = {b: f for f, b in rungs(picture)}
    below = nx.DiGraph()
    for e in picture.edges:
        tail, head = picture.vertices[e.tail], picture.vertices[e.head]
        if tail.phase == head.phase and tail.phase in ("forward", "backward"):
            a, b = (e.tail, e.head) if tail.phase == "forward" else (e.head, e.tail)
            below.add_edge(merged.get(a, a), merged.get(b, b))
    return below


@pytest.mark.parametrize("layers", [1, 2, 5, 40])
def test_rungs_never_contradict_the_arrows(layers):
    import networkx as nx

    picture = picture_of(network(layers), "joint")
    found = rungs(picture)
    assert len(found) >= 2 * layers  # multiply, and add or tanh, of each layer
    assert len({f for f, _ in found}) == len({b for _, b in found}) == len(found)
    assert nx.is_directed_acyclic_graph(heights(picture))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rungs_of_random_graphs_never_contradict_the_arrows(data):
    import networkx as nx

    x, y = dlc.input("x"), dlc.input("y")
    values: list[Tensor] = [x, y]
    for _ in range(data.draw(st.integers(1, 14))):
        a, b = data.draw(st.sampled_from(values)), data.draw(st.sampled_from(values))
        step = data.draw(st.sampled_from([lambda a, b: a * b, lambda a, b: a + ops.sin(b), lambda a, b: ops.exp(a)]))
        values.append(step(a, b))
    graph = dlc.graph([x, y], [values[-1], *dlc.grad(values[-1], [x, y])])
    picture = picture_of(graph, "joint")
    assert nx.is_directed_acyclic_graph(heights(picture))


def test_a_joint_graph_of_300_nodes_is_laid_out_quickly():
    x = h = dlc.input("x", ("N", 8))
    for _ in range(60):
        h = ops.tanh(h * 1.5)
    graph = dlc.graph([x], [h.sum(), dlc.grad(h.sum(), x)])
    text = to_dot(graph, "joint")
    assert len(graph.nodes) >= 300
    started = time.perf_counter()
    layout.draw(text, "svg", timeout=30)
    assert time.perf_counter() - started < 30


# ---------------------------------------------------------------- hostile names


HOSTILE = [
    'quote " backslash \\ done',
    "ends with \\",
    "two\nlines\r\n",
    "nul\0bell\a",
    "<b>html</b>",
    "<<TABLE>>",
    "&lt; &amp; &#65; &",
    "\\N \\G \\E \\L",
    "}; digraph { a -> b",
    "semicolon; [label=evil]",
    "ünïcödé ∂ℒ/∂x",
    "right \u202eto left",
    "\ud800 lone",
    "// comment /* */ #",
]


@pytest.fixture(scope="module")
def hostile_svg():
    inputs = [dlc.input(name, (2,)) for name in HOSTILE]
    total = inputs[0]
    for name, t in zip(HOSTILE, inputs, strict=True):
        with module_scope(name.replace(".", "")):
            total = ops.exp(total * t)
    return texts(draw_quietly(to_dot(graph_of(inputs, [total]), title=' &<"title">\\ ')))


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_shown_as_they_are(hostile_svg, name):
    shown, _ = hostile_svg
    assert shown.count(plain(name)) == 2  # the input, and the frame of the module
    assert plain(name).isprintable()


def test_a_hostile_title_is_shown_as_it_is(hostile_svg):
    assert ' &<"title">\\ ' in hostile_svg[0]


def test_very_long_names_keep_their_ends():
    x = dlc.input("start" + "x" * 1_000_000 + "end")
    text = to_dot(dlc.graph([x], [x * 2]))
    assert len(text) < 5000
    assert '"startxxx' in text and "xxxend\\n" in text


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_becomes_one_dot_string(text):
    string = quoted(plain(text))
    assert string[0] == string[-1] == '"'
    inner = string[1:-1].replace("\\\\", "")
    assert '"' not in inner.replace('\\"', "")
    assert inner.replace('\\"', "").count("\\") == 0
    assert all(c.isprintable() for c in string)


def test_east_asian_names_draw():
    x = dlc.input("入力")
    shown, _ = texts(draw_quietly(to_dot(dlc.graph([x], [x * 2]))))
    assert "入力" in shown


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("form", MAGIC)
def test_every_suffix_writes_its_format(form, tmp_path):
    path = tmp_path / f"J.{form}"
    assert dlc.render(triple(), path, view="joint") == path
    assert path.read_bytes().startswith(MAGIC[form])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing else is left behind
    assert path.stat().st_mode & 0o444 == 0o444 & ~layout._umask()


def test_suffixes_may_be_capitals_and_paths_text(tmp_path):
    path = dlc.render(triple(), str(tmp_path / "J.SVG"))
    assert path.read_bytes().startswith(MAGIC["svg"])


def test_pictures_are_the_same_each_time(tmp_path):
    first, second = (dlc.render(triple(), tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second


def test_text_is_drawn_with_the_font_that_we_bring():
    """A machine without fonts would draw boxes: two letters must look different from two others."""
    a, b = (draw_quietly(f'digraph {{ n [label="{text}", fontname="DejaVu Sans"] }}', "png") for text in ("HI", "LT"))
    assert a != b
    with layout._environment("plain") as env:
        conf = Path(env["FONTCONFIG_FILE"]).read_text()
        assert conf.count("<dir>") == 1
    assert not Path(env["FONTCONFIG_FILE"]).exists()


@pytest.mark.parametrize("name", ["J", "J.gif", "J.svg.gz", "J."])
def test_unknown_suffixes_list_the_known(name, tmp_path):
    with pytest.raises(RenderError, match=r"\.svg, \.png, \.pdf, \.dot"):
        dlc.render(triple(), tmp_path / name)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RenderError, match=r"nowhere.*does not exist; create it"):
        dlc.render(triple(), tmp_path / "nowhere" / "J.svg")


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "J.svg").mkdir()
    with pytest.raises(RenderError, match="is a folder"):
        dlc.render(triple(), tmp_path / "J.svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"view": "sideways"}, "'forward', 'backward', 'joint'"),
        ({"rankdir": "UP"}, "'TB', 'LR', 'BT', 'RL'"),
        ({"depth": 0}, "at least 1"),
        ({"depth": True}, "at least 1"),
        ({"timeout": 0}, "positive"),
    ],
)
def test_bad_arguments_say_what_is_possible(arguments, words, tmp_path):
    with pytest.raises(AttributeValueError, match=words):
        dlc.render(triple(), tmp_path / "J.svg", **arguments)
    assert not list(tmp_path.iterdir())


def test_only_graphs_are_drawn(tmp_path):
    with pytest.raises(AttributeValueError, match=r"not Tensor; make one with dlc\.graph"):
        dlc.render(dlc.input("x"), tmp_path / "x.svg")


def test_time_runs_out_with_advice_and_the_dot_text_is_kept(tmp_path):
    with pytest.raises(RenderError, match=r"longer than 0\.01 s.*depth=1.*J\.dot"):
        dlc.render(triple(), tmp_path / "J.png", timeout=0.01)
    assert [p.name for p in tmp_path.iterdir()] == ["J.dot"]
    assert (tmp_path / "J.dot").read_bytes().startswith(MAGIC["dot"])


def test_without_a_renderer_the_dot_text_is_written_and_the_fix_named(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "renderers", list)
    with pytest.raises(RenderError, match=r"pip install 'pygraphviz.*J\.dot"):
        dlc.render(triple(), tmp_path / "J.svg")
    assert (tmp_path / "J.dot").read_bytes().startswith(MAGIC["dot"])


def test_what_graphviz_says_is_passed_on():
    with pytest.raises(RenderError, match=r"could not draw the picture as svg \(.+: .+\)"):
        layout.draw("this is not DOT", "svg")


def test_the_module_is_the_function(tmp_path):
    import dlc.render.curves

    assert dlc.render(triple(), tmp_path / "J.dot").exists()


# ---------------------------------------------------------------- curves


HISTORY = {
    "loss": [2.3, 1.1, 0.6],
    "val_loss": [2.2, 1.3, 0.9],
    "accuracy": [0.2, 0.6, 0.9],
    "val_accuracy": [0.3, 0.5, 0.8],
}


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_curves_are_drawn_in_every_format(form, tmp_path):
    path = plot_history(HISTORY, tmp_path / f"curves.{form}", title="LeNet-5")
    assert path.read_bytes().startswith(MAGIC[form])


def test_curves_have_axes_units_and_a_legend():
    shown, _ = texts(draw_quietly(curves_dot(HISTORY, "LeNet-5"), engine="nop2"))
    assert {"LeNet-5", "loss", "accuracy (%)", "epoch", "training", "validation"} <= set(shown)
    assert {"0.5", "1.0", "1.5", "2.0", "1", "2", "3", "20", "40", "60", "80"} <= set(shown)


def test_validation_is_told_apart_by_line_style():
    root = ElementTree.fromstring(draw_quietly(curves_dot({"loss": [1, 2], "val_loss": [2, 1]}), engine="nop2"))
    dashed = [p.get("points") for p in root.iter("{http://www.w3.org/2000/svg}polyline") if p.get("stroke-dasharray")]
    assert len(dashed) == 2  # the curve and its entry in the legend


def test_curves_stand_where_their_values_are():
    root = ElementTree.fromstring(draw_quietly(curves_dot({"loss": [0.0, 10.0, 5.0]}), engine="nop2"))
    blue = [p.get("points") for p in root.iter("{http://www.w3.org/2000/svg}polyline") if p.get("stroke") == "#0072b2"]
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in blue[0].split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.02)
    assert y1 < y2 < y0  # SVG counts down
    assert y2 == pytest.approx((y0 + y1) / 2, abs=0.02)


@pytest.mark.parametrize(
    "values", [[math.nan, 1.0, math.inf, 2.0], [math.nan], [5.0], [3.0, 3.0], [0.0], [1e-30, 1e30], [-1e300, 1e300]]
)
def test_odd_values_are_drawn(values):
    draw_quietly(curves_dot({'od"d\\ <&amp;>\n': values}), engine="nop2")


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.booleans())
def test_axes_have_a_few_ticks_inside(a, b, widen):
    axis = Axis.over(min(a, b), max(a, b), 0, 100, widen=widen)
    places = [axis.at(value) for value, _ in axis.ticks()]
    assert 2 <= len(places) <= 8
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in places)


@given(st.floats(1e-12, 1e12))
def test_steps_are_round_and_not_too_small(span):
    step = round_step(span)
    assert span * (1 - 1e-9) <= step <= span * 2.5 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("records", "words"),
    [({}, "nothing to plot"), ({"loss": []}, "nothing to plot"), ({"loss": ["a"]}, "'loss' is not a list of numbers")],
)
def test_histories_that_cannot_be_drawn(records, words, tmp_path):
    with pytest.raises(AttributeValueError, match=words):
        plot_history(records, tmp_path / "curves.svg")


def test_curves_are_no_dot_files(tmp_path):
    with pytest.raises(RenderError, match=r"\.svg, \.png, \.pdf"):
        plot_history(HISTORY, tmp_path / "curves.dot")


def test_graphviz_object_holds_the_same_text() -> None:
    x = dlc.input("x", ("N", 3))
    graph = dlc.graph([x], [dlc.exp(x)])
    assert dlc.render.to_graphviz(graph, rankdir="LR").source.strip() == dlc.render.to_dot(graph, rankdir="LR").strip()


# ---------------------------------------------------------------- frames and kernels


def test_frames_name_the_class_of_their_module():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 2))
    text = to_dot(dlc.trace(model, dlc.input("x", ("N", 4))))
    for name in ("0 · Sequential", "0.0 · Linear", "1 · Linear"):
        assert f'label="{name}"' in text
    assert "0 · Sequential\\nmatmul, add, tanh\\n2 parameters" in to_dot(
        dlc.trace(model, dlc.input("x", ("N", 4))), depth=1
    )


def test_modules_in_lists_have_their_class_and_the_list_has_none():
    class Tower(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(4, 4), nn.Linear(4, 4)]

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    picture = picture_of(dlc.trace(nn.Sequential(Tower()), dlc.input("x", ("N", 4))), "forward")
    assert picture.classes == {("0",): "Tower", ("0", "layers", "1"): "Linear", ("0", "layers", "0"): "Linear"}


def test_sizes_of_named_dims_are_written_into_the_boxes_that_use_them():
    x = dlc.input("x", ("N", 3))
    y = (x - x.mean(axis=0)) / ops.maximum(ops.size_of(x.shape[0]) - 1, 1)
    boxes = {line[0] for line in lines_of(picture_of(graph_of([x], [y]), "forward")).values()}
    assert {"divide(·, N)", "divide(·, max(N - 1, 1))"} <= boxes
    assert "size_of" not in " ".join(boxes)


def test_a_program_is_drawn_with_the_kernels_that_explain_names():
    x = dlc.input("x", ("N", 3))
    program = dlc.compile(dlc.graph([x], [ops.tanh(ops.exp(x) * 2).sum(), ops.permute_dims(x, (1, 0)) @ x]))
    text = to_dot(program, kernels=True)
    assert program.kernels
    for kernel in program.kernels:
        assert kernel.name in text
    assert text.index('label="tanh"') and '">one kernel  <' in text and "fused" not in text
    assert to_dot(program) == to_dot(program.graph)


def test_each_op_of_a_fused_kernel_lies_in_its_frame():
    a, b = dlc.input("a", ("N",)), dlc.input("b", ("N",))
    body = dlc.graph([a, b], [ops.exp(a) + b, ops.tanh(b)])
    x, y = dlc.input("x", ("N",)), dlc.input("y", ("N",))
    both = FUSED(x, y, body=body)
    graph = graph_of([x, y], [ops.sqrt(ops.item(both, 1)), ops.item(both, 0)])
    picture = picture_of(graph, "forward", {both.node: "k"})
    names = {id_: v.lines[0] for id_, v in picture.vertices.items()}
    assert {v.lines[0] for v in picture.vertices.values() if v.kernel == "k"} == {"exp", "add", "tanh"}
    arrows = {(names[e.tail], names[e.head]) for e in picture.edges}
    assert arrows == {("x", "exp"), ("exp", "add"), ("y", "add"), ("y", "tanh"), ("tanh", "sqrt"),
                      ("sqrt", "output 0"), ("add", "output 1")}  # fmt: skip


def test_kernels_of_a_large_program_are_drawn_closed():
    a = dlc.input("a", ("N",))
    body = dlc.graph([a], [ops.tanh(ops.exp(ops.sin(a)))])
    x = h = dlc.input("x", ("N",))
    for _ in range(5):
        h = ops.sum(FUSED(h, body=body)) * x
    text = to_dot(graph_of([x], [h]), kernels=True, max_boxes=20)
    assert "each fused kernel is drawn as one box; max_boxes=80 opens them" in text
    assert "fused\\nbody:\\n· sin\\n· exp\\n· tanh\\nkernel 4" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernels": True}, "pass the program"),
        ({"kernels": True, "depth": 1}, "leave out one"),
        ({"max_boxes": 0}, "max_boxes=0"),
    ],
)
def test_options_that_do_not_fit(options, words):
    x = dlc.input("x", ("N",))
    graph = graph_of([x], [ops.exp(x)])
    if "depth" in options:
        graph = dlc.compile(graph, backend="reference")
    with pytest.raises(AttributeValueError, match=words):
        to_dot(graph, **options)


def test_long_chains_without_modules_are_folded_and_the_picture_says_so():
    x = h = dlc.input("x", ("N",))
    for _ in range(200):
        h = ops.tanh(ops.exp(h))
    picture = fold(picture_of(graph_of([x], [h]), "forward"), None)
    assert len(picture.vertices) == 3
    assert picture.notes == ("3 of 402 boxes are drawn; max_boxes=402 draws more", "chains of ops are drawn as one box")
    assert len(fold(picture_of(graph_of([x], [h]), "forward"), None, 402).vertices) == 402


def test_what_cannot_be_folded_says_how_to_draw_less():
    x = dlc.input("x", ("N",))
    total = x
    for i in range(150):
        total = total + ops.exp(x * i)
    picture = fold(picture_of(graph_of([x], [total]), "forward"), None)
    assert len(picture.vertices) > NODE_BUDGET
    assert picture.notes[0].endswith('depth=1 or view="forward" fewer')


def test_a_large_network_is_folded_layer_by_layer_with_its_updates_beside():
    layers = [m for i in range(12) for m in (nn.Linear(4 + i, 5 + i), nn.BatchNorm1d(5 + i), nn.Tanh())]
    x, y = dlc.input("x", ("N", 4)), dlc.input("y", ("N",), "int64")
    model = nn.Sequential(*layers)
    step = dlc.train_step(model, [x, y], nn.functional.cross_entropy(model(x), y), optim.Adam(0.1), backend="reference")
    picture = fold(picture_of(step.program.graph, "joint"), None)
    assert len(picture.vertices) <= NODE_BUDGET < len(picture_of(step.program.graph, "joint").vertices)
    folded = {(v.phase, v.lines[0]) for v in picture.vertices.values() if v.role == "folded"}
    assert {("forward", "4 · BatchNorm1d"), ("backward", "4 · BatchNorm1d"), ("backward", "3 · Linear")} <= folded
    fed = [e for e in picture.edges if e.kind == "update"]
    assert fed and len({e.tail for e in fed}) == len(fed)  # one box of updates a layer


def test_forward_values_of_a_backward_picture_stand_in_the_frame_of_their_reader():
    x = dlc.input("x", ("N", 4))
    with module_scope("first"):
        h = ops.tanh(ops.exp(x))
    with module_scope("second"):
        y = ops.sin(h * x)
    graph = graph_of([x], [dlc.grad(y.sum(), x)])
    text = to_dot(graph, "backward")
    frames = text.split("subgraph cluster_")[1:]
    second = next(f for f in frames if 'label="second"' in f)
    assert 'label="tanh"' in second.split("\n  }")[0]
    assert sum('label="tanh"' in line for line in text.splitlines()) == 2  # read in both modules
