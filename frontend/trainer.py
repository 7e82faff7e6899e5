"""The training loop: fit, evaluate, predict, and stop and go on anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import ArgumentError, GraphError
from dlc.frontend.building import graph
from dlc.frontend.checkpoint import PathLike, check_folder
from dlc.frontend.data import batches
from dlc.frontend.history import History
from dlc.frontend.losses import Loss, find_loss
from dlc.frontend.metrics import Metric, find_metrics
from dlc.frontend.nn.module import Module
from dlc.frontend.optim import Optimizer
from dlc.frontend.progress import Progress, compiling
from dlc.frontend.resume import Position, restore, store
from dlc.frontend.samples import check_count, check_shape, count_of, features, targets
from dlc.frontend.step import TrainStep, check_parts, train_step
from dlc.ops.leaves import input as new_input
from dlc.ops.random import counted_draws
from dlc.ops.tensor import Tensor
from dlc.provenance import here

if TYPE_CHECKING:
    from dlc.compiler import Program

Array = np.ndarray[Any, Any]
Pair = tuple[Any, Any]


class Trainer:
    """Trains a model that maps one input [N, ...] to one output, on NumPy arrays.

    `loss` is a name ("cross_entropy", "mse", "l1", "huber", "binary_cross_entropy_with_logits") or a function of
    (outputs, targets) -> 0-d tensor; `metrics` likewise ("accuracy", "mse", "mae"). `seed` keys initial values, the
    order of samples and random draws: with the same seed, version and machine type, training gives the same bits.
    `check_finite` stops at the first NaN or infinity and names where it arose.

    Attributes: `history` (a list per metric, one entry an epoch), `epoch` (epochs done), `program` (the training step).

    >>> import numpy as np
    >>> import dlc
    >>> from dlc import nn, optim
    >>> x = np.float32([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> trainer = dlc.Trainer(nn.Linear(1), loss="mse", optimizer=optim.SGD(0.5), backend="reference")
    >>> history = trainer.fit(x, x.sum(axis=1, keepdims=True), epochs=50, batch_size=4, verbose=False)
    >>> history["loss"][-1] < 1e-3
    True
    """

    def __init__(
        self,
        model: Module,
        loss: str | Loss,
        optimizer: Optimizer,
        metrics: Sequence[str | Metric] = (),
        *,
        seed: int = 0,
        backend: str = "cpu",
        check_finite: bool = False,
    ) -> None:
        check_parts(model, optimizer)
        self.model = model
        self.optimizer = optimizer
        self.seed = seed
        self.backend = backend
        self.check_finite = check_finite
        self.history = History()
        self.position = Position()
        self._loss = find_loss(loss)
        self._metrics = find_metrics(metrics)
        self._input: Tensor | None = None
        self._output: Tensor | None = None
        self._target: Tensor | None = None
        self._reports: dict[str, Tensor] = {}
        self._step: TrainStep | None = None
        self._evaluation: Program | None = None
        self._prediction: Program | None = None
        self._first_step = 0  # where the counter of random draws goes on, after a checkpoint was loaded

    def __repr__(self) -> str:
        return f"<Trainer of {type(self.model).__name__} with {self.optimizer!r} after {self.epoch} epochs>"

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return self.position.epoch

    @property
    def program(self) -> Program:
        """The training step: forward, backward and update as one program. Raises `GraphError` before it is built."""
        return self.step.program

    @property
    def step(self) -> TrainStep:
        """The compiled step. Raises `GraphError` before `fit` or `build`."""
        if self._step is None:
            raise GraphError(
                "there is no training step yet; call fit(x, y, ...), or build(x, y) to compile alone", where=here()
            )
        return self._step

    @property
    def steps(self) -> int:
        """How many training steps were made."""
        return self._first_step if self._step is None else int(self._step.step.value)

    # ---- running

    def build(self, x: Any, y: Any) -> TrainStep:
        """Compile the training step for data like `x` [N, ...] and `y` [N, ...], without training."""
        if self._step is None:
            inputs, wanted = features(x), targets(y)
            check_count(inputs, wanted)
            self._describe(inputs, wanted)
            assert self._input is not None and self._target is not None
            self._step = train_step(
                self.model,
                [self._input, self._target],
                self._reports["loss"],
                self.optimizer,
                list(self._reports.values()),
                backend=self.backend,
                seed=self.seed,
                check_finite=self.check_finite,
            )
            self._step.step.assign(self._first_step)
        return self._step

    def fit(
        self,
        x: Any,
        y: Any,
        epochs: int,
        batch_size: int = 32,
        validation_data: Pair | None = None,
        shuffle: bool = True,
        verbose: bool = True,
        *,
        checkpoint: PathLike | None = None,
        checkpoint_every: int | None = None,
        after_batch: Callable[[Trainer], None] | None = None,
    ) -> History:
        """Train for `epochs` epochs of minibatches (the last one may be smaller) and return the history.

        `x` [N, ...] and `y` [N, ...] are cast once: floats to float32, integers to int64. `validation_data` is a pair
        like them, evaluated after each epoch. `checkpoint` is a file written after each epoch, and after every
        `checkpoint_every` batches; `after_batch` is called with the trainer, for example to set `optimizer.lr`.

        A `fit` that was interrupted, also in another process with a checkpoint loaded here, is taken up where it
        stopped: call it again with the same arguments. Otherwise each call trains for further epochs.

        Raises `ArgumentError` for data of other lengths or shapes, empty data, and numbers that are not positive, and
        `MissingFolderError` before training for a `checkpoint` that could not be written.
        """
        inputs, wanted = features(x), targets(y)
        check_count(inputs, wanted)
        validation = self._validation(validation_data)
        epochs, batch_size = count_of("epochs", epochs), count_of("batch_size", batch_size)
        every = None if checkpoint_every is None else count_of("checkpoint_every", checkpoint_every)
        if checkpoint is not None:
            check_folder(checkpoint)  # now, not after an epoch of work
        with compiling(verbose and self._step is None):
            self.build(inputs, wanted)
            self._check(inputs, wanted)
            if validation is not None:
                self._check(*validation)
                self._evaluator()
        place = self.position
        last = place.begin(epochs, batch_size, len(inputs), shuffle)
        total = -(-len(inputs) // batch_size)
        with Progress(place.first or 0, last, total, done=place.epoch * total + place.batch, verbose=verbose) as bar:
            while place.epoch < last:
                for xb, yb in batches(inputs, wanted, batch_size, self.seed, place.epoch, shuffle, start=place.batch):
                    place.add(self.step(xb, yb), len(xb))
                    bar.advance()
                    if after_batch is not None:
                        after_batch(self)
                    if checkpoint is not None and every and place.batch % every == 0:
                        self.save(checkpoint)
                self._finish_epoch(validation, batch_size)
                bar.show(self.history)
                if place.epoch == last:
                    place.first = None
                if checkpoint is not None:
                    self.save(checkpoint)
        return self.history

    def evaluate(self, x: Any, y: Any, batch_size: int = 256) -> dict[str, float]:
        """Loss and metrics on `x` [N, ...] and `y` [N, ...] in inference mode, averaged over the samples."""
        inputs, wanted = features(x), targets(y)
        check_count(inputs, wanted)
        batch_size = count_of("batch_size", batch_size)
        self._describe(inputs, wanted)
        self._check(inputs, wanted)
        program = self._evaluator()
        place = Position()
        for xb, yb in batches(inputs, wanted, batch_size, shuffle=False):
            place.add(program(xb, yb), len(xb))
        return place.averages(self._reports)

    def predict(self, x: Any, batch_size: int = 256) -> Array:
        """The model's outputs [N, ...] for `x` [N, ...], in inference mode."""
        inputs = features(x)
        batch_size = count_of("batch_size", batch_size)
        self._describe(inputs)
        self._check(inputs)
        if self._prediction is None:
            self._prediction = self._compiled([self._input], [self._output])
        starts = range(0, len(inputs), batch_size)
        return np.concatenate([self._prediction(inputs[i : i + batch_size])[0] for i in starts])

    def _finish_epoch(self, validation: Pair | None, batch_size: int) -> None:
        values = self.position.averages(self._reports)
        if validation is not None:
            found = self.evaluate(*validation, batch_size=max(batch_size, 256))
            values |= {f"val_{name}": value for name, value in found.items()}
        self.history.record(values)
        self.position.next_epoch()

    # ---- building

    def _describe(self, x: Array, y: Array | None = None) -> None:
        """Trace the model, and the loss and metrics where there are targets, unless that is done."""
        if self._input is None:
            self.model.initialise(self.seed)
            self._input = new_input("input", ("N", *x.shape[1:]), x.dtype)
            with counted_draws():
                output = self.model(self._input)
            if not isinstance(output, Tensor):
                raise GraphError(
                    f"{type(self.model).__name__} returns {type(output).__name__}, not one tensor; "
                    "write the loop with dlc.train_step",
                    where=here(),
                )
            self._output = output
        if y is not None and self._target is None:
            assert self._output is not None
            target = new_input("target", ("N", *y.shape[1:]), y.dtype)
            reports = {"loss": self._loss(self._output, target)}
            reports |= {name: metric(self._output, target) for name, metric in self._metrics.items()}
            for name, t in reports.items():
                if not isinstance(t, Tensor) or t.shape != ():
                    raise GraphError(f"{name} must be a 0-d tensor, not {t!r}; take its mean()", where=here())
            self._target, self._reports = target, reports

    def _evaluator(self) -> Program:
        """The program of loss and metrics in inference mode."""
        if self._evaluation is None:
            self._evaluation = self._compiled([self._input, self._target], list(self._reports.values()))
        return self._evaluation

    def _compiled(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Program:
        from dlc.compiler import compile

        return compile(graph(inputs, outputs), self.backend, seed=self.seed, check_finite=self.check_finite)

    def _check(self, x: Array, y: Array | None = None) -> None:
        assert self._input is not None
        check_shape("x", x, self._input.type)
        if y is not None:
            assert self._target is not None
            check_shape("y", y, self._target.type)

    def _validation(self, pair: Pair | None) -> Pair | None:
        if pair is None:
            return None
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ArgumentError(
                f"validation_data is a pair (x, y), not {type(pair).__name__}; pass validation_data=(x_val, y_val)",
                where=here(),
            )
        x, y = pair
        inputs, wanted = features(x, "validation x"), targets(y, "validation y")
        check_count(inputs, wanted)
        return inputs, wanted

    # ---- stopping and going on

    def save(self, path: PathLike) -> None:
        """Write a checkpoint of everything that training goes on from; `path` is replaced all or nothing, durably."""
        store(self, path)

    def load(self, path: PathLike) -> None:
        """Take over a checkpoint: what is trained from here on has the same bits as if it had never stopped.

        All or nothing. Raises `FileFormatError` for a file that is damaged, foreign, or of another model or optimiser.
        """
        restore(self, path)

    def resume(self, seed: int, step: int, position: Position, history: History) -> None:
        """Go on from there; model and optimiser have their values already."""
        self.seed, self._first_step, self.position, self.history = seed, step, position, history
        if self._step is not None:
            self._step.seed.assign(np.uint64(seed))
            self._step.step.assign(step)
