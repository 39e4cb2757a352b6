"""What a claim can be about, read off a finished run's result."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cyclr.errors import RecordError
from cyclr.experiments.policy import record_of

Result = Mapping[str, Any]


class Quantity(NamedTuple):
    """A number of a result; not a number where a run diverged before it could be measured."""

    read: Callable[[Result], float]
    unit: str


def accuracy(result: Result) -> float:
    """Accuracy on the test set at the end, in percent."""
    return 100 * float(result["accuracy"])


def _ensemble_gain(result: Result) -> float:
    """Give what the last three snapshots together have over the last alone, in points."""
    last = result["measures"]["snapshots"]["last"]
    if not last:
        return math.nan  # the run diverged before its first stopping point
    return 100 * float(last[min(3, len(last)) - 1] - last[0])


def _max_lr(result: Result) -> float:
    return _bounds(result)[1]


def _base_lr(result: Result) -> float:
    return _bounds(result)[0]


def _bounds(result: Result) -> tuple[float, float]:
    try:
        reading = record_of(result).read()
    except RecordError:
        if result["outcome"] != "diverged":
            raise
        return math.nan, math.nan
    return reading.base_lr, reading.max_lr


def _early(result: Result) -> float:
    """Median of the Hessian-free estimates over the first 300 updates."""
    return _estimates(result, "hessian_free_each_step", slice(None))


def _late(result: Result) -> float:
    """Median of the Hessian-free estimates over the last tenth of the run."""
    rows = result["measures"]["hessian_free"]["rows"]
    return _estimates(result, "hessian_free", slice(-max(1, len(rows) // 10), None))


def _estimates(result: Result, measure: str, part: slice) -> float:
    rows = [float(row[2]) for row in result["measures"][measure]["rows"][part]]
    finite = [value for value in rows if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


QUANTITIES: dict[str, Quantity] = {
    "accuracy": Quantity(accuracy, " %"),
    "ensemble_gain": Quantity(_ensemble_gain, " %"),
    "max_lr": Quantity(_max_lr, ""),
    "base_lr": Quantity(_base_lr, ""),
    "early_estimate": Quantity(_early, ""),
    "late_estimate": Quantity(_late, ""),
}
"""By name in a claim."""
