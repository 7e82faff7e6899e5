"""Every error a user can meet says what is wrong, where in the user's code, and what to do about it."""

import copy
import inspect
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import dlc
from dlc import errors, nn, optim


class Case(NamedTuple):
    """A mistake, the error it must raise, and words its message must contain; `line`: whether it names our line."""

    mistake: Callable[[], Any]
    error: type[Exception]
    words: tuple[str, ...]
    line: bool = True


def image() -> Any:
    return dlc.input("image", ("N", 1, 28, 28))


def add_mismatch() -> Any:
    return dlc.input("x", ("N", 8)) + dlc.input("b", (7,))


def broadcast_symbol() -> Any:
    return dlc.input("x", ("N", 8)) + dlc.input("y", ("M", 8))


def matmul_mismatch() -> Any:
    return dlc.input("x", ("N", 8)) @ dlc.input("w", (7, 3))


def layer_mismatch() -> Any:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(9, 2))

        def forward(self, x: Any) -> Any:
            return self.body(x)

    return Net()(dlc.input("x", ("N", 4)))


def channels_mismatch() -> Any:
    return nn.Conv2d(3, 6, 5)(image())


def window_too_large() -> Any:
    return nn.Conv2d(1, 6, 29)(image())


def integer_exp() -> Any:
    return dlc.exp(dlc.input("n", (3,), "int32"))


def promote_int_float() -> Any:
    return dlc.input("n", (3,), "int32") + dlc.input("x", (3,))


def unknown_dtype() -> Any:
    return dlc.input("x", (3,), "complex64")


def fraction_as_integer() -> Any:
    return dlc.constant([1.5, 2.0], dtype="int64")


def bad_axis() -> Any:
    return dlc.sum(dlc.input("x", (3, 4)), axis=2)


def bad_reshape() -> Any:
    return dlc.reshape(dlc.input("x", (3, 4)), (5, 2))


def truth_value() -> Any:
    return bool(dlc.input("x") > 0)


def symbolic_float() -> Any:
    return float(dlc.input("x"))


def bad_step() -> Any:
    return dlc.input("x", (3,))[::0]


def missing_input() -> Any:
    x, y = dlc.input("x"), dlc.input("y")
    return dlc.graph([x], [x + y])


def repeated_name() -> Any:
    x, y = dlc.input("x"), dlc.input("x")
    return dlc.graph([x, y], [x + y])


def repeated_input() -> Any:
    x = dlc.input("x")
    return dlc.graph([x, x], [x])


def gradient_of_vector() -> Any:
    x = dlc.input("x", ("N",))
    return dlc.grad(x * 2, [x])


def gradient_of_integer() -> Any:
    n = dlc.input("n", (), "int32")
    return dlc.grad(n * 1, [n])


def program(**kwargs: Any) -> Any:
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", ("N",), "int32")
    return dlc.compile(dlc.graph([x, y], [x + 1, y]), backend="reference", **kwargs)


X, Y = np.zeros((2, 3), np.float32), np.zeros(2, np.int32)


def indices_out_of_range(backend: str) -> Callable[[], Any]:
    def run() -> Any:
        table, index = dlc.input("table", (5, 2)), dlc.input("index", ("N",), "int32")
        taken = dlc.compile(dlc.graph([table, index], [dlc.take(table, index, axis=0)]), backend=backend)
        return taken(np.zeros((5, 2), np.float32), np.array([0, 7], np.int32))

    return run


def non_finite() -> Any:
    x = dlc.input("x", ("N",))
    return dlc.compile(dlc.graph([x], [dlc.log(x) + 1]), backend="reference", check_finite=True)([-1.0, 1.0])


def non_finite_data() -> Any:
    x = dlc.input("x", ("N",))
    return dlc.compile(dlc.graph([x], [x + 1]), backend="reference", check_finite=True)([float("nan"), 1.0])


def onnx_shape_of_an_input() -> None:
    from onnx import TensorProto, helper

    types = (("x", TensorProto.FLOAT, [4]), ("shape", TensorProto.INT64, [2]), ("y", TensorProto.FLOAT, None))
    x, shape, y = (helper.make_tensor_value_info(*t) for t in types)
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", [x, shape], [y])
    dlc.onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def unsupported_op() -> Any:
    from dlc.ops.definition import Kind, Op
    from dlc.ops.tensor import wrap

    strange = Op("strange", Kind.OPAQUE, lambda x: x, reference=lambda x: x)
    x = dlc.input("x", (3,))
    return dlc.compile(dlc.graph([x], [strange(wrap(x))]))


def unknown_attribute() -> Any:
    from dlc.ops.definition import CATALOGUE

    return CATALOGUE["sum"](dlc.input("x", (3,)), axis=0)


def wrong_pass_name() -> Any:
    return dlc.passes.PIPELINE.without("fusion")


def bad_batches() -> Any:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2))
    trainer = dlc.Trainer(model, loss="cross_entropy", optimizer=optim.SGD(0.1), backend="reference")
    return trainer.fit(np.zeros((4, 3), np.float32), np.zeros(5, np.int64), epochs=1, batch_size=2)


def optimizer_by_name() -> Any:
    return dlc.Trainer(nn.Linear(2), "cross_entropy", "adam")  # type: ignore[arg-type]


def optimizer_class() -> Any:
    x = dlc.input("x", ("N", 3))
    model = nn.Linear(2)
    return dlc.train_step(model, x, model(x).sum(), optim.Adam)  # type: ignore[arg-type]


def model_class() -> Any:
    return dlc.Trainer(nn.ReLU, "cross_entropy", optim.SGD(0.1))  # type: ignore[arg-type]


def optimizer_of_parameters() -> Any:
    return optim.Adam(nn.Linear(3, 2).parameters(), lr=1e-3)  # type: ignore[misc]


def validation_without_targets() -> Any:
    trainer = dlc.Trainer(nn.Linear(2), "cross_entropy", optim.SGD(0.1))
    return trainer.fit(X, Y, epochs=1, validation_data=X)  # type: ignore[arg-type]


def data_of_another_library() -> Any:
    class Foreign:
        def __dlpack__(self) -> Any: ...

    return nn.Linear(2)(Foreign())


def text_for_a_tensor() -> Any:
    return dlc.exp("x")


def summary_of_a_model() -> Any:
    return dlc.summary(nn.Linear(2))  # type: ignore[arg-type]


def list_in_sequential() -> Any:
    return nn.Sequential([nn.Linear(2), nn.ReLU()])  # type: ignore[arg-type]


def function_in_sequential() -> Any:
    return nn.Sequential(nn.Linear(2), nn.functional.relu)  # type: ignore[arg-type]


def weights_into_a_missing_folder() -> Any:
    return dlc.save(nn.Linear(2, 2), "no/such/net.safetensors")


def checkpoints_into_a_missing_folder() -> Any:
    trainer = dlc.Trainer(nn.Linear(2), "cross_entropy", optim.SGD(0.1))
    return trainer.fit(X, Y, epochs=1, checkpoint="no/such/run.ckpt", verbose=False)


def loop_over_a_named_dim() -> Any:
    return list(dlc.input("x", ("N", 3)))


def length_of_a_number() -> Any:
    return len(dlc.input("x"))


def pass_without_result() -> Any:
    x = dlc.input("x", ("N",))
    pipeline = dlc.passes.PIPELINE.insert_before("fuse", lambda graph: None, named="forgetful")  # type: ignore[arg-type]
    return dlc.compile(dlc.graph([x], [x + 1]), "reference", pipeline=pipeline)


def label_out_of_range() -> Any:
    model = nn.Sequential(nn.Linear(3, 2))
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    step = dlc.train_step(model, inputs=[x, y], loss=loss, optimizer=optim.SGD(0.1), backend="reference")
    return step(X, np.array([0, 2]))


CASES = {
    "shapes that do not broadcast": Case(
        add_mismatch, errors.ShapeError, ("[N,8]", "[7]", "axis -1", "make them equal")
    ),
    "a named dim is not 1": Case(broadcast_symbol, errors.ShapeError, ("[N,8]", "[M,8]", "named dim")),
    "matmul": Case(matmul_mismatch, errors.ShapeError, ("f32[N,8]", "f32[7,3]", "8", "7")),
    "a layer inside a model": Case(layer_mismatch, errors.ShapeError, ("body.2", "9", "8")),
    "convolution channels": Case(channels_mismatch, errors.ShapeError, ("f32[N,1,28,28]", "3")),
    "a window larger than the image": Case(window_too_large, errors.ShapeError, ("29", "28", "pad")),
    "a function of integers": Case(integer_exp, errors.DTypeError, ("exp", "i32[3]", ".astype('float32')")),
    "integers with floats": Case(promote_int_float, errors.DTypeError, ("int32", "float32", ".astype(")),
    "an unknown dtype": Case(unknown_dtype, errors.DTypeError, ("complex64", "float32, float64")),
    "a fraction as an integer": Case(fraction_as_integer, errors.DTypeError, ("1.5", "int64", "round")),
    "an axis that does not exist": Case(bad_axis, errors.AttributeValueError, ("axis 2", "2 axes", "-2 to 1")),
    "an impossible reshape": Case(bad_reshape, errors.ShapeError, ("f32[3,4]", "12", "[5,2]", "10")),
    "the truth of a tensor": Case(truth_value, errors.GraphError, ("no truth value", "dlc.where")),
    "a number of a tensor": Case(symbolic_float, errors.GraphError, ("symbolic", "compile")),
    "a loop over a named dim": Case(loop_over_a_named_dim, errors.GraphError, ("f32[N,3]", "N rows", "dlc.scan")),
    "the length of a number": Case(length_of_a_number, errors.GraphError, ("f32[]", "no axis")),
    "an optimiser by its name": Case(optimizer_by_name, errors.ArgumentError, ("'adam'", "optim.Adam(1e-3)")),
    "an optimiser's class": Case(optimizer_class, errors.ArgumentError, ("the class Adam", "call it")),
    "a model's class": Case(model_class, errors.ArgumentError, ("Module", "the class ReLU", "call it")),
    "an optimiser of parameters": Case(
        optimizer_of_parameters, errors.ArgumentError, ("takes no parameters", "dlc.Trainer", "Adam(lr=...)")
    ),
    "validation data without targets": Case(
        validation_without_targets, errors.ArgumentError, ("ndarray", "validation_data=(x_val, y_val)")
    ),
    "data of another library": Case(
        data_of_another_library, errors.DTypeError, ("Foreign", "dlc.input(name, shape)", "calling the program")
    ),
    "text for a tensor": Case(text_for_a_tensor, errors.DTypeError, ("str is not a tensor", "'x'")),
    "the summary of a model": Case(summary_of_a_model, errors.GraphError, ("Linear", "dlc.trace(model")),
    "a list of layers": Case(list_in_sequential, errors.ArgumentError, ("number 0", "Sequential(*layers)")),
    "a function among layers": Case(function_in_sequential, errors.ArgumentError, ("number 1", "relu", "nn.ReLU()")),
    "weights into a missing folder": Case(
        weights_into_a_missing_folder, errors.MissingFolderError, ("'no/such/net.safetensors'", "makedirs('no/such')")
    ),
    "checkpoints into a missing folder": Case(
        checkpoints_into_a_missing_folder, errors.MissingFolderError, ("'no/such/run.ckpt'", "create it first")
    ),
    "a slice by 0": Case(bad_step, errors.AttributeValueError, ("step", "0")),
    "an unknown attribute": Case(unknown_attribute, errors.AttributeValueError, ("sum", "axes", "axis")),
    "a graph without one of its inputs": Case(missing_input, errors.GraphError, ("'y'", "inputs=[x]", "add it")),
    "two inputs of one name": Case(repeated_name, errors.GraphError, ("'x'", "two different inputs"), False),
    "an input listed twice": Case(repeated_input, errors.GraphError, ("'x'", "listed twice"), False),
    "the gradient of a vector": Case(gradient_of_vector, errors.GradientError, ("f32[N]", "sum", "cotangents=")),
    "the gradient of an integer": Case(gradient_of_integer, errors.GradientError, ("i32[]", ".astype('float32')")),
    "a missing argument": Case(
        lambda: program()(X), errors.CallError, ("missing input y", "x: f32[N,3], y: i32[N]"), False
    ),
    "a surplus argument": Case(lambda: program()(X, Y, Y), errors.CallError, ("takes 2 inputs, got 3",), False),
    "an unknown argument": Case(lambda: program()(X, z=Y), errors.CallError, ("no input 'z'", "y: i32[N]"), False),
    "an argument given twice": Case(lambda: program()(X, x=X, y=Y), errors.CallError, ("'x' was given twice",), False),
    "an argument of wrong rank": Case(
        lambda: program()(X[0], Y), errors.ArgumentError, ("'x'", "f32[N,3]", "(3,)"), False
    ),
    "an argument of wrong size": Case(
        lambda: program()(X[:, :2], Y), errors.ArgumentError, ("'x'", "axis 1 must be 3"), False
    ),
    "a named dim of two sizes": Case(
        lambda: program()(X, Y[:1]),
        errors.ArgumentError,
        ("named dim N", "2 in axis 0 of 'x'", "1 in axis 0 of 'y'"),
        False,
    ),
    "a lossy argument": Case(
        lambda: program()(X.astype("f8"), Y), errors.DTypeError, ("'x'", "float64", ".astype('float32')"), False
    ),
    "an integer that does not fit": Case(
        lambda: program()(X, np.array([0, 2**40])), errors.DTypeError, ("'y'", "int32", "outside"), False
    ),
    "text for an array": Case(lambda: program()("hello", Y), errors.DTypeError, ("'x'", "hello"), False),
    "an unknown backend": Case(
        lambda: dlc.compile(dlc.graph([], [dlc.constant(1.0)]), "tpu"),
        errors.AttributeValueError,
        ("'tpu'", "'cpu'"),
        False,
    ),
    "a shape that is computed": Case(
        onnx_shape_of_an_input, errors.StaticOperandError, ("Reshape", "operand 1", "constant", "values")
    ),
    "an op without code": Case(unsupported_op, errors.UnsupportedError, ("cpu", "strange", "reference backend")),
    "an index out of range": Case(indices_out_of_range("reference"), errors.IndexOutOfRangeError, ("7", "5")),
    "an index out of range, natively": Case(indices_out_of_range("cpu"), errors.IndexOutOfRangeError, ("7", "5")),
    "a label out of range": Case(label_out_of_range, errors.IndexOutOfRangeError, ("2",)),
    "a value that is not finite": Case(non_finite, errors.NonFiniteError, ("log", "f32[N]", "1 of 2", "learning rate")),
    "data that is not finite": Case(non_finite_data, errors.NonFiniteError, ("input 'x'", "clean the data"), False),
    "an unknown pass": Case(wrong_pass_name, errors.DlcError, ("fusion", "fuse"), False),
    "a pass that returns nothing": Case(
        pass_without_result, errors.VerificationError, ("forgetful", "NoneType", "return the graph"), False
    ),
    "unequal numbers of samples and labels": Case(bad_batches, ValueError, ("4", "5"), False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_message(case: Case) -> None:
    with pytest.raises(case.error) as caught:
        case.mistake()
    message = str(caught.value)
    for word in case.words:
        assert word in message, message
    if case.line:
        source, first = inspect.getsourcelines(case.mistake)
        found = re.search(r"test_errors\.py:(\d+)", message)
        assert found, f"no line of ours in: {message}"
        if case.mistake.__name__ not in ("<lambda>", "run"):
            assert first <= int(found[1]) < first + len(source), message


def test_every_error_is_a_dlc_error_and_a_builtin() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.DlcError) and kind is not errors.DlcError:
            builtin = [
                b for b in kind.__mro__ if b.__module__ == "builtins" and b not in (Exception, BaseException, object)
            ]
            assert builtin, name


def test_every_error_has_a_case() -> None:
    """Errors that have tests of their own beside their subject are listed here on purpose."""
    elsewhere = {"DimError", "VerificationError", "RuleError", "FileFormatError", "RenderError", "DlcError"}
    kinds = {n for n, k in vars(errors).items() if isinstance(k, type) and issubclass(k, errors.DlcError)}
    assert kinds - elsewhere <= {c.error.__name__ for c in CASES.values()}


def test_failed_step_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    for backend in ("reference", "cpu"):
        step = dlc.train_step(model, inputs=[x, y], loss=loss, optimizer=optim.Adam(0.1), backend=backend)
        step(X + 1, np.array([0, 1]))
        states = [n.leaf for n in step.program.graph.states]
        before = [s.value.copy() for s in states]
        with pytest.raises(errors.IndexOutOfRangeError):
            step(X, np.array([0, 5]))
        for state, value in zip(states, before, strict=True):
            np.testing.assert_array_equal(state.value, value, err_msg=state.name)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: dlc.ops.windows(x, (9,), (2,)),
        lambda x: dlc.ops.windows(x, (2, 2), (2, 2)),
        lambda x: dlc.ops.windows(x, (2,), (2, 3)),
        lambda x: dlc.ops.windows(x, 2, 2),
        lambda x: dlc.ops.max_pool2d(x, 2, padding=2),
        lambda x: dlc.ops.permute_dims(x, 5),
        lambda x: dlc.ops.expand_dims(x, "a"),
        lambda x: dlc.ops.pad(x, 5),
        lambda x: dlc.ops.zeros(None),
        lambda x: dlc.ops.gradient(x[0, 0, 0], axis=1.5),
        lambda x: dlc.nn.functional.grid_sample(x, x, ["bilinear"]),
        lambda x: dlc.ops.grid_sample(x, np.zeros((1, 2, 2, 2), "f"), "cubic", cubic="keys"),
        lambda x: dlc.ops.roi_pool(x, np.zeros((1, 4), "f"), [0], 2, spatial_scale="1/16"),
        lambda x: dlc.nn.functional.roi_align(x, np.zeros((1, 5), "f"), 2, sampling_ratio=1.5),
        lambda x: dlc.ops.linspace(0.0, x, 3),
        lambda x: dlc.nn.functional_call(dlc.nn.Linear, {}, x),
        lambda x: dlc.nn.functional_call(dlc.nn.Linear(2), None, x),
        lambda x: x.sum(axis=1.5),
        lambda x: x.astype(None),
        lambda x: x[np.array([1.5, 2.0])],
        lambda x: dlc.ops.attention(x[0, 0, 0, 0], x, x),
    ],
)
def test_attributes_that_do_not_fit_are_refused_where_they_are_written(build: Any) -> None:
    with pytest.raises(errors.DlcError, match=r"test_errors\.py:"):
        build(dlc.input("x", ("N", 3, 8, 8)))


@pytest.mark.parametrize(
    "mistake",
    [
        lambda g: dlc.compile("model"),
        lambda g: dlc.compile(g, pipeline=[dlc.passes.simplify]),
        lambda g: dlc.compile(g, seed=-1),
        lambda g: dlc.compile(g, seed=1.5),
        lambda g: dlc.compile(g, step=5),
        lambda g: dlc.constant([[1.0], [2.0, 3.0]]),
    ],
)
def test_what_compile_cannot_take_is_refused_at_the_line(mistake: Any) -> None:
    with pytest.raises(errors.DlcError, match=r"test_errors\.py:"):
        mistake(dlc.graph([], [dlc.uniform((3,), site=1)]))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda x: x.view(3, 1), r"'Tensor' object has no attribute 'view'; here: dlc\.reshape"),
        (lambda x: x.exp(), r"here: dlc\.exp$"),
        (lambda x: x.detach(), r"here: dlc\.stop_gradient"),
        (lambda x: x.item(), "no value while the graph is built"),
        (lambda x: x.flibber, "no attribute 'flibber'$"),
        (lambda x: dlc.cat([x, x]), r"module 'dlc' has no attribute 'cat'; here: dlc\.concat"),
        (lambda x: dlc.flibber, "no attribute 'flibber'$"),
        (lambda x: nn.CrossEntropyLoss(), r"here: nn\.functional\.cross_entropy"),
        (lambda x: nn.ModuleList([]), "here: a list of modules as an attribute"),
        (lambda x: nn.Flibber, "no attribute 'Flibber'$"),
    ],
)
def test_names_of_other_libraries_get_the_name_here(write: Any, words: str) -> None:
    with pytest.raises(AttributeError, match=words):
        write(dlc.input("x", ("N", 3)))


def test_what_other_names_are_called_here_exists() -> None:
    from dlc import other_names

    words = " ".join([*other_names.FUNCTIONS.values(), *other_names.LAYERS.values()])
    for name in re.findall(r"(?:dlc|nn)(?:\.\w+)+", words):
        assert operator.attrgetter(name.removeprefix("dlc."))(dlc) is not None
    assert [n for n in other_names.FUNCTIONS if hasattr(dlc, n)] == ["data", "item"]
    assert not [n for n in other_names.LAYERS if hasattr(nn, n)]


def test_what_a_tensor_cannot_do_is_said_with_what_to_write() -> None:
    x = dlc.input("x", ("N", 3))
    with pytest.raises(errors.GraphError, match=r"dlc\.index_update\(x, index, values\).*\n.*test_errors\.py"):
        x[0] = 1.0
    with pytest.raises(errors.DTypeError, match=r"the dim N has no value yet; dlc\.size_of"):
        x * x.shape[0]
    assert not hasattr(x, "__dlpack__") and copy.copy(x).node is x.node
