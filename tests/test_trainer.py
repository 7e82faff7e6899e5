"""`train_step` and `Trainer`: what they compute, what they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, optim
from dlc.errors import ArgumentError, AttributeValueError, DlcError, DTypeError, GradientError, GraphError
from dlc.frontend.history import History
from dlc.frontend.metrics import accuracy

X = np.random.default_rng(0).standard_normal((50, 3)).astype("float32")
W = np.float32([[1, -2, 0.5], [0, 1, 1]])
Y = (X @ W.T).argmax(1)


def classifier(**kwargs: Any) -> Any:
    settings = {"metrics": ["accuracy"], "backend": "reference", **kwargs}
    return dlc.Trainer(nn.Sequential(nn.Linear(2)), "cross_entropy", optim.SGD(0.5), **settings)


# ---------------------------------------------------------------- train_step


def test_step_is_one_graph_that_updates_in_place_and_returns_the_loss_before() -> None:
    model, x, t = nn.Linear(3, 1, bias=False), dlc.input("x", ("N", 3)), dlc.input("t", ("N", 1))
    step = dlc.train_step(model, [x, t], nn.functional.mse_loss(model(x), t), optim.SGD(0.1), backend="reference")
    storage, w = model.weight.value, model.weight.value.astype("float64").copy()
    target = (X @ W[:1].T).astype("float32")
    for i in range(5):
        value = step(X, target)
        error = X @ w.T - target
        np.testing.assert_allclose(value, (error**2).mean(), rtol=1e-5)
        w -= 0.1 * 2 * error.T @ X / len(X)
        np.testing.assert_allclose(storage, w, rtol=1e-4, atol=1e-6)
        assert (value.shape, value.dtype) == ((), np.float32)
        assert int(step.step.value) == i + 1
    assert len(step.program.graph.outputs) == 1


def test_step_returns_the_outputs_asked_for() -> None:
    model, x = nn.Linear(3, 1), dlc.input("x", ("N", 3))
    y = model(x)
    loss = (y * y).mean()
    one = dlc.train_step(model, [x], loss, optim.SGD(0.0), outputs=y, backend="reference")
    two = dlc.train_step(model, [x], loss, optim.SGD(0.0), outputs=[loss, y], backend="reference")
    assert one(X).shape == (50, 1)
    value, outputs = two(X)
    np.testing.assert_allclose(value, (outputs**2).mean(), rtol=1e-6)


def test_step_trains_only_what_the_loss_depends_on() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            self.used, self.idle = nn.Linear(3, 1), nn.Linear(3, 1)

        def forward(self, x: Any) -> Any:
            return self.used(x), self.idle(x)

    model, x = Two(), dlc.input("x", ("N", 3))
    loss = model(x)[0].mean()
    step = dlc.train_step(model, [x], loss, optim.SGD(0.1, weight_decay=0.5), backend="reference")
    idle = model.idle.weight.value.copy()
    used = model.used.weight.value.copy()
    step(X)
    np.testing.assert_array_equal(model.idle.weight.value, idle)
    assert not np.array_equal(model.used.weight.value, used)


def test_step_nodes_are_marked_forward_backward_and_update() -> None:
    model, x = nn.Linear(3, 1), dlc.input("x", ("N", 3))
    step = dlc.train_step(model, [x], model(x).mean(), optim.Adam(0.1), backend="reference")
    graph = step.program.graph
    phases = {origin.phase for places in graph.origins.values() for origin in places}
    assert phases == {"forward", "backward", "update"}


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda m, x: m(x), GradientError, "0-d floating-point tensor is needed"),
        (lambda m, x: (x * x).sum(), GradientError, "depends on no trainable parameter of Linear"),
        (lambda m, x: 3.0, GraphError, "not float"),
    ],
)
def test_step_refuses_a_loss_that_cannot_be_trained(make: Any, error: type[DlcError], words: str) -> None:
    model, x = nn.Linear(3, 2), dlc.input("x", ("N", 3))
    with pytest.raises(error, match=words) as caught:
        dlc.train_step(model, [x], make(model, x), optim.SGD(0.1), backend="reference")
    assert __file__ in str(caught.value)


def test_step_names_an_input_that_is_missing() -> None:
    model, x, t = nn.Linear(3, 1), dlc.input("x", ("N", 3)), dlc.input("t", ("N", 1))
    with pytest.raises(GraphError, match="depends on the input 't'"):
        dlc.train_step(model, [x], nn.functional.mse_loss(model(x), t), optim.SGD(0.1), backend="reference")


# ---------------------------------------------------------------- Trainer


def test_fit_learns_and_history_has_one_entry_an_epoch() -> None:
    t = classifier()
    history = t.fit(X, Y, epochs=30, batch_size=16, validation_data=(X[:10], Y[:10]), verbose=False)
    assert history is t.history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(v) == 30 for v in history.values())
    assert history["accuracy"][-1] > 0.9
    assert t.evaluate(X, Y)["accuracy"] > 0.9


def test_averages_are_weighted_by_samples_and_the_last_batch_is_used() -> None:
    t = dlc.Trainer(nn.Linear(1), "mse", optim.SGD(0.0), ["mae"], backend="reference")
    target = X[:, :1] * 3
    history = t.fit(X, target, epochs=1, batch_size=32, verbose=False)
    error = t.predict(X) - target
    np.testing.assert_allclose(history["loss"][0], (error**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(history["mae"][0], np.abs(error).mean(), rtol=1e-5)
    for size in (1, 7, 50, 1000):
        assert t.evaluate(X, target, batch_size=size)["loss"] == pytest.approx(
            (error**2).mean(), rel=1e-5
        )
        np.testing.assert_allclose(t.predict(X, batch_size=size), t.predict(X), rtol=1e-6)


def test_same_seed_same_bits_and_another_seed_others() -> None:
    runs = []
    for seed in (0, 0, 1):
        t = classifier(seed=seed)
        t.fit(X, Y, epochs=2, batch_size=16, verbose=False)
        runs.append(t.model.state_dict()["0.weight"].tobytes())
    assert runs[0] == runs[1] != runs[2]


def test_training_mode_in_fit_and_inference_mode_in_evaluate() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2), nn.BatchNorm1d())
    t = dlc.Trainer(model, "cross_entropy", optim.SGD(0.1), backend="reference")
    t.fit(X, Y, epochs=1, batch_size=25, verbose=False)
    assert np.abs(model.state_dict()["2.running_mean"]).sum() > 0
    before = {name: v.copy() for name, v in model.state_dict().items()}
    assert t.evaluate(X, Y) == t.evaluate(X, Y)
    np.testing.assert_array_equal(t.predict(X), t.predict(X))
    for name, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[name])


def test_data_is_cast_once_and_any_integers_are_labels() -> None:
    whole = classifier()
    whole.fit(X, Y, epochs=1, batch_size=16, verbose=False)
    for x, y in ((X.astype("float64"), Y.astype("int8")), (X.tolist(), Y.astype("uint64")), (X, Y.astype(bool))):
        t = classifier()
        t.fit(x, y, epochs=1, batch_size=16, verbose=False)
        assert t.model.state_dict()["0.weight"].tobytes() == whole.model.state_dict()["0.weight"].tobytes()


def test_no_program_is_compiled_for_the_smaller_last_batch() -> None:
    t = classifier()
    program = t.build(X, Y).program
    t.fit(X, Y, epochs=1, batch_size=32, verbose=False)
    assert t.program is program


def test_own_losses_and_metrics() -> None:
    def cube(outputs: Any, targets: Any) -> Any:
        return (dlc.abs(outputs - targets) ** 3.0).mean()

    t = dlc.Trainer(nn.Linear(1), cube, optim.SGD(0.0), [cube], backend="reference")
    found = t.evaluate(X, X[:, :1])
    np.testing.assert_allclose(found["cube"], (np.abs(t.predict(X) - X[:, :1]) ** 3).mean(), rtol=1e-5)
    assert found["loss"] == found["cube"]


def test_accuracy_of_classes_and_of_two_classes() -> None:
    assert dlc.evaluate(accuracy([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], np.array([1, 1, 1]))).item() == np.float32(2 / 3)
    assert dlc.evaluate(accuracy([[2.0], [-1.0]], [[1.0], [1.0]])).item() == 0.5
    with pytest.raises(DlcError, match="accuracy"):
        accuracy(dlc.input("x", ("N", 3)), dlc.input("y", ("N", 2), "int64"))


@pytest.mark.parametrize(
    ("x", "y", "settings", "error", "words"),
    [
        (X, Y[:9], {}, ArgumentError, "x holds 50 samples and y 9"),
        (X[:0], Y[:0], {}, ArgumentError, "no samples"),
        (np.float32(1), Y, {}, ArgumentError, "first axis must be the samples"),
        (X.astype(str), Y, {}, DTypeError, "pass numbers"),
        ([[1.0, 2.0], [3.0]], Y, {}, DTypeError, "x, a list, cannot be read"),
        (X, Y, {"epochs": 0}, ArgumentError, "epochs is an integer of at least 1"),
        (X, Y, {"epochs": 1.5}, ArgumentError, "epochs"),
        (X, Y, {"batch_size": -3}, ArgumentError, "batch_size"),
        (X, Y, {"validation_data": (X[:3], Y[:2])}, ArgumentError, "3 samples and y 2"),
        (X, Y, {"checkpoint_every": 0}, ArgumentError, "checkpoint_every"),
    ],
)
def test_bad_data_and_numbers_are_refused(x: Any, y: Any, settings: Any, error: type[DlcError], words: str) -> None:
    with pytest.raises(error, match=words):
        classifier().fit(x, y, **{"epochs": 1, "batch_size": 8, "verbose": False, **settings})


def test_bad_validation_data_is_refused_before_training() -> None:
    t = classifier()
    with pytest.raises(ArgumentError, match=r"x of type f32\[N,3\], got float32 of shape \(50, 1\)"):
        t.fit(X, Y, epochs=1, validation_data=(X[:, :1], Y), verbose=False)
    assert t.steps == 0


def test_a_run_says_that_it_compiles_and_then_how_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    t = classifier()
    t.fit(X, Y, epochs=2, batch_size=25, validation_data=(X, Y))
    said = capsys.readouterr().err
    assert said.index("compiling") < said.index("4/4") and "val_accuracy" in said
    t.fit(X, Y, epochs=1, batch_size=25)
    assert "compiling" not in capsys.readouterr().err
    t.fit(X, Y, epochs=1, batch_size=25, verbose=False)
    assert not capsys.readouterr().err


def test_other_shapes_after_building_are_refused() -> None:
    t = classifier()
    t.build(X, Y)
    with pytest.raises(ArgumentError, match=r"x of type f32\[N,3\], got float32 of shape \(50, 2\)"):
        t.predict(X[:, :2])
    with pytest.raises(ArgumentError, match=r"y of type i64\[N\], got float32"):
        t.evaluate(X, Y.astype("float32"))


def test_names_that_do_not_exist_are_answered_with_those_that_do() -> None:
    with pytest.raises(AttributeValueError, match=r"'crossentropy'.*'cross_entropy'"):
        dlc.Trainer(nn.Linear(2), "crossentropy", optim.SGD(0.1))
    with pytest.raises(AttributeValueError, match=r"'acc'.*'accuracy'"):
        classifier(metrics=["acc"])
    with pytest.raises(AttributeValueError, match="taken"):
        classifier(metrics=["accuracy", "accuracy"])


def test_program_before_training_says_what_to_do() -> None:
    with pytest.raises(GraphError, match="fit"):
        classifier().program  # noqa: B018


def test_model_with_several_outputs_is_referred_to_train_step() -> None:
    class Pair(nn.Module):
        def forward(self, x: Any) -> Any:
            return x, x

    with pytest.raises(GraphError, match=r"dlc\.train_step"):
        dlc.Trainer(Pair(), "mse", optim.SGD(0.1), backend="reference").fit(X, X, epochs=1, verbose=False)


def test_label_out_of_range_changes_nothing() -> None:
    t = classifier()
    t.fit(X, Y, epochs=1, batch_size=50, verbose=False)
    before = t.model.state_dict()["0.weight"].copy()
    with pytest.raises(IndexError):
        t.fit(X, Y + 1, epochs=1, batch_size=50, verbose=False)
    np.testing.assert_array_equal(t.model.state_dict()["0.weight"], before)


def test_verbose_shows_a_bar_and_quiet_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    classifier().fit(X, Y, epochs=2, batch_size=25, verbose=False)
    assert capsys.readouterr() == ("", "")
    classifier().fit(X, Y, epochs=2, batch_size=25)
    shown = capsys.readouterr().err
    assert "4/4" in shown and "accuracy=" in shown and "epoch 2" in shown


def test_history_pads_metrics_that_come_and_go(tmp_path: Path) -> None:
    history = History()
    history.record({"loss": 1.0})
    history.record({"loss": 2.0, "val_loss": 3.0})
    history.record({"val_loss": 4.0})
    np.testing.assert_array_equal(history["loss"], [1.0, 2.0, np.nan])
    np.testing.assert_array_equal(history["val_loss"], [np.nan, 3.0, 4.0])
