"""What a framework's integration must offer, as far as it can be checked from outside.

An integration maps schedules onto a framework: it counts updates and sets what the schedules say.
:class:`Integration` is the handle by which :mod:`cyclr.testing` drives one through its paces; a
third party's integration is checked by writing such a handle for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from cyclr.errors import StateError
from cyclr.rangetest import RangeRecord
from cyclr.recipe import Recipe
from cyclr.schedules.spec import Schedule


class Integration(ABC):
    """A small training in one framework, driven from outside.

    Attributes:
        tolerance: Relative tolerance of the values used; frameworks that hold rates in float32
            need about 1e-6.
    """

    tolerance: float = 1e-6

    @abstractmethod
    def begin(self, recipe: Recipe) -> None:
        """Start over: a fresh model and optimizer (with a momentum) under the recipe."""

    @abstractmethod
    def update(self) -> Mapping[str, float]:
        """Make one real optimizer update.

        Returns:
            The values that this update used, read from the framework's optimizer and not from the
            schedule: ``"lr"``, and ``"momentum"`` when the recipe schedules it.
        """

    def state(self) -> Any:
        """Give what the framework would write to a checkpoint; None if it keeps no state."""
        return None

    def resume(self, recipe: Recipe, state: Any) -> None:
        """Start over and load a state, as a new process would."""
        raise StateError(f"{type(self).__name__} gave a state and does not say how to load it")

    def range_test(self, sweep: Schedule, *, fail_at: int | None = None) -> RangeRecord | None:
        """Run the integration's range test on the training that was begun.

        Args:
            sweep: Schedule of the rate.
            fail_at: Raise an exception of type :class:`Interruption` from within the training at
                this step.

        Returns:
            The record; None if the integration has no range test.
        """
        return None

    def fingerprint(self) -> Any:
        """Give everything a range test must put back, in a form that compares with ``==``."""
        return None


class Interruption(Exception):
    """Raised by a training on request, to see what an exception leaves behind."""
