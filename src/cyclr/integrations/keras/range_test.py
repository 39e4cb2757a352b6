"""The Keras driver of the range test: trains a compiled model and puts everything back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from cyclr.errors import DataError, InputError, complaint
from cyclr.integrations.driver import drive, endless, make_test
from cyclr.integrations.keras.follow import followers, optimizer_of
from cyclr.integrations.keras.snapshot import restored
from cyclr.integrations.validation import check_validation
from cyclr.rangetest import RangeRecord, RangeTest
from cyclr.schedules.fields import Constraint
from cyclr.schedules.spec import Schedule


def range_test(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    sweep: Schedule | RangeTest | None = None,
    steps: int | None = None,
    validate: Callable[[Any], Mapping[str, float]] | None = None,
    validate_every: int | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
) -> RangeRecord:
    """Run a learning rate range test on a compiled model, and leave no trace of it.

    Afterwards, and after an exception or Ctrl-C as well, everything is as it was: weights and other
    state of layers (seed generators included), the optimizer's variables and settings, metrics, the
    compiled train function, and the random generators of Python, NumPy, Keras and, where loaded,
    torch and TensorFlow. What stays is that the optimizer's state is built, of zeros as the first
    ``fit`` would have it; and what a data set itself changes by being gone through, such as the
    seeds inside TensorFlow's kernels.

    A step that raises because of NaN or infinity ends the test with a note in its record; a range
    found by itself that began too high begins again lower, as often as steps are left.

    An optimizer that follows a plan is held at its current momentum and weight decay. The record
    has the loss of every batch, and the metrics the model is compiled with, measured on the batch
    while training.

    Args:
        model: A built model, compiled with an optimizer and a loss.
        x: Arrays as for ``model.fit``, together with y; or a re-iterable of batches ``(x, y)`` or
            ``(x, y, sample_weight)``: a ``PyDataset``, ``tf.data.Dataset``, data loader or list.
        y: Targets, if x is arrays; None for a model compiled without a loss of targets.
        batch_size: Examples in a batch, ≥ 1, if x is arrays; they are then shuffled.
        sweep: Schedule of the rate, or a :class:`~cyclr.rangetest.sweep.RangeTest` to watch. By
            default the test finds its range by itself.
        steps: Density of a range that the test finds, ≥ 2; 100 if None. Not with sweep.
        validate: ``validate(model)`` gives metrics by name, such as ``{"val_loss": 0.9}`` from
            ``model.evaluate``; called before an update.
        validate_every: Updates between validations, ≥ 1. If None, a twentieth of the sweep; or 1
            where an epoch has twenty updates or fewer, since there the validation loss is what is
            read (:meth:`~cyclr.rangetest.RangeRecord.read`).
        on_step: Called after every update with the running test, for progress.

    Raises:
        InputError: The model is not built or not compiled, or arguments do not go together.
        DataError: The data is empty, or an iterator that cannot be started again.

    Reference: arXiv 1506.01186, section 3.3.
    """
    optimizer = optimizer_of(model)
    if not model.built or not model.trainable_variables:
        raise InputError(
            "the model has no trainable weights (yet), so there is nothing to train; "
            "call model.build(input_shape) first"
        )
    if optimizer.gradient_accumulation_steps:
        raise InputError(
            "the optimizer accumulates gradients, so a batch is not an update; compile with "
            "gradient_accumulation_steps=None for the range test, and with larger batches"
        )
    check_validation(validate, validate_every)
    measure = None if validate is None else lambda: validate(model)
    batches = _batches(model, x, y, batch_size)
    test = make_test(sweep, steps, optimizer=_describe(optimizer), batches=batches)
    while True:
        with restored(model, batches), _settable_rate(model, optimizer) as rate:
            drive(test, _updates(model, rate, batches), on_step, measure, validate_every)
        if not test.restart():
            return test.record


def _updates(model: Any, rate: Any, batches: Any) -> Callable[[float], dict[str, float]]:
    """Make the function that takes the model through the batches, an update a call."""
    stream = endless(batches)

    def update(lr: float) -> dict[str, float]:
        rate.assign(lr)
        batch = keras.utils.unpack_x_y_sample_weight(next(stream))
        model.reset_metrics()  # otherwise the loss would be a mean over the batches so far
        logs = model.train_on_batch(*batch, return_dict=True)
        return {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}

    return update


def _batches(model: Any, x: Any, y: Any, batch_size: int) -> Any:
    """Cut arrays into batches; a re-iterable of batches is one already.

    Raises:
        InputError: They are arrays without targets, and the model's loss needs some.
    """
    if y is not None:
        return _Arrays((x, y), batch_size)
    if isinstance(x, tuple) and x and all(map(_is_array, x)):
        raise InputError(
            f"x is a tuple of {len(x)} arrays and y is missing; pass inputs and targets one after "
            "the other: range_test(model, inputs, targets)"
        )
    if not _is_array(x):
        return x
    if model._compile_loss is not None:
        raise InputError(
            "y is missing: x is an array, and the model was compiled with a loss of targets; "
            "pass range_test(model, inputs, targets)"
        )
    return _Arrays((x,), batch_size)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or bool(keras.ops.is_tensor(value))


def _describe(optimizer: Any) -> dict[str, Any]:
    """Say what a sweep runs with."""
    facts: dict[str, Any] = {"name": type(optimizer).__name__}
    for key, names in {
        "momentum": ("momentum", "beta_1"),
        "weight_decay": ("weight_decay",),
    }.items():
        value = next((getattr(optimizer, n) for n in names if hasattr(optimizer, n)), None)
        if value is not None:
            facts[key] = float(value)
    return facts


@contextmanager
def _settable_rate(model: Any, optimizer: Any) -> Iterator[Any]:
    """Give the optimizer's rate as a variable; one that is a schedule is put aside meanwhile."""
    following = followers(optimizer)
    rate = optimizer._learning_rate
    if isinstance(rate, keras.Variable) and not following:
        yield rate
        return
    function = model.train_function
    variable = keras.Variable(0.0, dtype=keras.backend.floatx(), trainable=False, name="rate")
    held = {name: float(follower) for name, follower in following.items()}
    for name, value in {**held, "_learning_rate": variable}.items():
        object.__setattr__(optimizer, name, value)
    optimizer._track_variable(variable)  # JAX passes an update only the variables that are tracked
    model.train_function = None
    try:
        yield variable
    finally:
        optimizer._untrack_variable(variable)
        for name, value in {**following, "_learning_rate": rate}.items():
            object.__setattr__(optimizer, name, value)
        model.train_function = function


class _Arrays:
    """Arrays, cut into whole batches in a new order on every pass; the order is always the same.

    Their length counts a smaller last batch as well, because ``fit`` makes an update of it. A sweep
    leaves it out: its loss scatters more.
    """

    def __init__(self, arrays: tuple[Any, ...], batch_size: int) -> None:
        size = Constraint(kind="integer", ge=1, is_duration=False).check("batch_size", batch_size)
        self._arrays = keras.tree.map_structure(np.asarray, arrays)
        lengths = {len(array) for array in keras.tree.flatten(self._arrays)}
        if len(lengths) != 1:
            raise DataError(
                complaint("x and y", "equally long", sorted(lengths), "pass one row per example")
            )
        self._examples: int = lengths.pop()
        self._size: int = min(size, max(1, self._examples))
        self._random = np.random.default_rng(0)

    def __len__(self) -> int:
        return math.ceil(self._examples / self._size)

    def __iter__(self) -> Iterator[Any]:
        order = self._random.permutation(self._examples)
        for begin in range(0, self._examples - self._size + 1, self._size):
            rows = order[begin : begin + self._size]
            yield keras.tree.map_structure(lambda array, rows=rows: array[rows], self._arrays)
