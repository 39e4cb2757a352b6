"""Schedules drawn with Matplotlib, several on one axis if wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cyclr.errors import SpecError
from cyclr.extras import require

if TYPE_CHECKING:
    from cyclr.schedules.spec import Schedule

_POINTS = 2000


def drawn_steps(schedule: Schedule, steps: int | None) -> Any:
    """Choose the steps at which a schedule is drawn: all of them, or evenly spaced ones.

    Raises:
        SpecError: The schedule never ends and ``steps`` is not given.
    """
    length = schedule.total_steps if steps is None else steps
    if length is None:
        raise SpecError(
            f"{type(schedule).__name__} never ends; say how much to draw with steps=<number>"
        )
    return np.unique(np.linspace(0, length - 1, min(length, _POINTS)).astype(np.int64))


def plot(schedule: Schedule, *, steps: int | None, axes: Any, label: str | None) -> Any:
    """Draw a schedule; see :meth:`cyclr.schedules.spec.Schedule.plot`."""
    if axes is None:
        figure = require("matplotlib.figure", caller="Schedule.plot", extra="cli").Figure(
            figsize=(7.5, 3), layout="constrained"
        )
        # A canvas of its own lets the figure be saved and shown without pyplot's global state.
        axes = figure.subplots()
        axes.grid(alpha=0.25)
        axes.set_xlabel("step")
    at = drawn_steps(schedule, steps)
    axes.plot(at, schedule(at), label=schedule.kind if label is None else label)
    axes.legend()
    return axes
