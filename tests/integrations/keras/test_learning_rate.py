"""Schedules as Keras takes them: on numbers and tensors, traced or not, saved and loaded."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from strategies import schedules

keras = pytest.importorskip("keras", reason="needs the extra keras")

from cyclr import Triangular, WarmRestarts  # noqa: E402 -- after the check for Keras
from cyclr.errors import SpecError  # noqa: E402
from cyclr.integrations.keras import LearningRate  # noqa: E402

# NumPy 2 deprecates the form of __array__ that Keras's variables and some backends' tensors have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BACKEND = keras.backend.backend()
STEPS = [0, 1, 2, 7, 19, 20, 21, 60, 61, 299, 300, 1000]


def traced(function):
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow

        return tensorflow.function(function)
    return function


def number(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


@given(schedule=schedules())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_schedule_means_the_same_on_the_backend_s_tensors(schedule) -> None:
    rate = traced(LearningRate(schedule))
    due = [schedule(step) for step in STEPS]
    scale = max(map(abs, due))
    # JAX computes in float32, where angles and powers lose some digits.
    tolerance = 2e-5 if BACKEND == "jax" else 1e-6
    for step, value in zip(STEPS, due, strict=True):
        tensor = keras.ops.convert_to_tensor(step, dtype="int32")
        assert number(rate(tensor)) == pytest.approx(value, rel=tolerance, abs=tolerance * scale)
        assert number(LearningRate(schedule)(step)) == pytest.approx(value, rel=1e-6, abs=1e-30)


@given(schedule=schedules())
@settings(max_examples=20, deadline=None)
def test_written_and_read_by_keras_it_is_equal(schedule) -> None:
    data = keras.optimizers.schedules.serialize(LearningRate(schedule, accumulate=3))
    read = keras.optimizers.schedules.deserialize(data)
    assert (read.schedule, read.accumulate) == (schedule, 3)


def test_answers_in_floatx() -> None:
    rate = LearningRate(Triangular(base_lr=0.0, max_lr=1.0, stepsize=4))
    for step in (
        2,
        np.int64(2),
        keras.ops.convert_to_tensor(2),
        keras.Variable(2, dtype="int32", trainable=False),
    ):
        value = rate(step)
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        assert number(value) == 0.5


def test_arrays_of_steps() -> None:
    schedule = WarmRestarts(max_lr=1.0, period=3, multiplier=2)
    values = LearningRate(schedule)(keras.ops.arange(40, dtype="int32"))
    expected = schedule(np.arange(40))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values), expected, atol=1e-6)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX counts in 32 bits")
def test_restarts_are_exact_far_beyond_float32_and_int32() -> None:
    schedule = WarmRestarts(max_lr=1.0, period=10, multiplier=3, cycles=39)
    restart = schedule.cycle_ends(2**62)[-1]
    rate = traced(LearningRate(schedule))
    for step in (restart - 1, restart):
        tensor = keras.ops.convert_to_tensor(step, dtype="int64")
        assert number(rate(tensor)) == pytest.approx(schedule(step), abs=1e-9)


def test_accumulated_micro_batches_count_as_one() -> None:
    schedule = Triangular(base_lr=0.0, max_lr=1.0, stepsize=4)
    rate = LearningRate(schedule, accumulate=3)
    steps = keras.ops.convert_to_numpy(rate(keras.ops.arange(24, dtype="int32")))
    np.testing.assert_allclose(steps, np.repeat(schedule(np.arange(8)), 3))
    assert number(rate(3)) == schedule(1)


def test_what_is_not_a_schedule_is_refused() -> None:
    with pytest.raises(SpecError, match="schedule must be"):
        LearningRate(0.1)
    with pytest.raises(SpecError, match="accumulate must be"):
        LearningRate(Triangular(base_lr=0, max_lr=1, stepsize=4), accumulate=0)
