"""A schedule as Keras takes one, and the evaluation of formulas on every backend's tensors."""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
from keras import ops

from cyclr.schedules import from_dict
from cyclr.schedules.arrays import ArrayOperations, Value
from cyclr.schedules.fields import Constraint
from cyclr.schedules.spec import Schedule


# Keras has no type hints, so its classes and decorators are of type Any to a type checker.
@keras.saving.register_keras_serializable(package="cyclr")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A schedule as Keras takes one: ``keras.optimizers.SGD(LearningRate(schedule))``.

    ::

        learning rate of update k = schedule(k),   k = iterations // accumulate

    It is saved with the model, as the schedule's own plain data, and read back when cyclr has been
    imported. It answers in Keras's ``floatx``.

    Args:
        schedule: Any cyclr schedule.
        accumulate: The optimizer's ``gradient_accumulation_steps``, ≥ 1. Keras asks a schedule with
            the count of micro-batches, and several of them make one update.
        name: Ignored; other Keras schedules have one.

    Raises:
        SpecError: ``schedule`` is not one, or ``accumulate`` is out of bounds.
    """

    def __init__(self, schedule: Schedule, accumulate: int = 1, name: str | None = None) -> None:
        super().__init__()
        self.schedule: Schedule = Constraint(kind="schedule").check("schedule", schedule)
        self.accumulate: int = Constraint(kind="integer", ge=1, is_duration=False).check(
            "accumulate", accumulate
        )
        self.name = name

    def __call__(self, step: Any) -> Any:
        """Give the rate used at a count of micro-batches: a number, or a tensor, traced or not."""
        if not isinstance(step, int | np.integer):
            step = ops.convert_to_tensor(step)
        return evaluate(self.schedule, step // self.accumulate if self.accumulate > 1 else step)

    def get_config(self) -> dict[str, Any]:
        """Give the schedule as plain data."""
        return {
            "schedule": self.schedule.to_dict(),
            "accumulate": self.accumulate,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRate:
        """Read the schedule back; it is equal to the one that was written.

        Raises:
            SpecError: The data is not a schedule.
        """
        return cls(**{**config, "schedule": from_dict(config["schedule"])})


def evaluate(schedule: Schedule, step: Any) -> Any:
    """Evaluate a schedule on a number or a backend's tensor, in Keras's floating-point type."""
    backend = keras.backend.backend()
    if backend == "torch" and hasattr(step, "ndim") and step.ndim == 0:
        return _evaluate_in_torch(schedule, step)
    if backend == "tensorflow" and not isinstance(step, int | np.integer):
        steps = ops.cast(step, "int64")
        value = schedule._value(_TensorFlowOperations(), steps)
    else:
        value = schedule(step)
    return ops.convert_to_tensor(value, dtype=keras.backend.floatx())


def _evaluate_in_torch(schedule: Schedule, step: Any) -> Any:
    """Evaluate on one step: torch runs eagerly, and a number is much cheaper than tiny tensors.

    Nothing is lost on a GPU: Keras's optimizers for torch read the rate off the device in any case.
    """
    return ops.convert_to_tensor(schedule(int(step)), dtype=keras.backend.floatx())


if keras.backend.backend() == "torch":
    # With jit_compile=True torch would compile this anew for every step.
    _evaluate_in_torch = sys.modules["torch"].compiler.disable(_evaluate_in_torch)


class _KerasNamespace:
    """``keras.ops`` under array-API names, for TensorFlow: array_api_compat does not know it."""

    where = staticmethod(ops.where)
    sin = staticmethod(ops.sin)
    exp = staticmethod(ops.exp)
    take = staticmethod(ops.take)
    astype = staticmethod(ops.cast)

    @staticmethod
    def asarray(x: Value, *, dtype: Any, device: None) -> Value:  # noqa: ARG004 -- array API's
        return ops.convert_to_tensor(np.asarray(x, dtype=_name(dtype)))

    @staticmethod
    def reshape(x: Value, shape: Any) -> Value:
        return ops.reshape(x, tuple(shape))

    @staticmethod
    def iinfo(dtype: Any) -> Any:
        return np.iinfo(_name(dtype))

    @staticmethod
    def searchsorted(table: Value, step: Value, *, side: str) -> Value:  # noqa: ARG004 -- as above
        # Formulas only count entries at or below the step, which is side="right". TensorFlow's own
        # search takes neither a scalar step nor an empty table.
        return ops.sum(ops.cast(ops.expand_dims(step, -1) >= table, "int64"), axis=-1)


def _name(dtype: Any) -> str:
    """Name a type: TensorFlow's own are called as NumPy's are."""
    return str(getattr(dtype, "name", dtype))


class _TensorFlowOperations(ArrayOperations):
    """The operations of formulas, on TensorFlow tensors of int64 steps, traced or not."""

    def __init__(self) -> None:
        self._xp, self._float, self._device = _KerasNamespace, "float64", None
        self._top = int(np.iinfo(np.int64).max)
