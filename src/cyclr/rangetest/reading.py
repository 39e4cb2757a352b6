"""What a rule concludes from a record: the bounds, how the sweep ended, and the doubts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from cyclr import jsonfile
from cyclr.errors import RecordError
from cyclr.rangetest.record import Outcome, RangeRecord
from cyclr.rangetest.repeats import extent, median
from cyclr.rangetest.resample import middle, resampled
from cyclr.rangetest.rules import RULES, Bounds
from cyclr.rangetest.rules.accuracy import LEAST
from cyclr.schedules import LinearSweep

Rule = Callable[[RangeRecord], Bounds]

_DENSE = 4.0  # steps to a decade of rates below which a record is too coarse
_LEAST = 20  # steps below which it is in any case


class Trial(NamedTuple):
    """A short training under one-cycle.

    Attributes:
        max_lr: Its peak rate.
        loss: Loss of each update's batch; it may end early, at one that is not finite.
    """

    max_lr: float
    loss: tuple[float, ...]


class Intervals(NamedTuple):
    """How far the bounds can be trusted: the lowest and highest of each."""

    base_lr: tuple[float, float]
    max_lr: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The bounds read off a record.

    With repeats, the bounds are the geometric medians of what the rule reads off each sweep, and
    the intervals go from the lowest to the highest. Of a single sweep, an interval is the middle
    80 % of what the rule reads off a hundred copies of the record whose noise has been drawn anew
    (:func:`~cyclr.rangetest.resample.resampled`), widened to what it read off the record itself;
    it is computed when asked for.

    Attributes:
        base_lr: Lower bound for a cyclical policy, > 0.
        max_lr: Upper bound; also the peak for one-cycle.
        rule: The rule's name.
        outcome: How the sweep ended; with repeats, how most of them did.
        caveats: What makes the conclusion doubtful, in words; empty if nothing does.
        optimizer: What the sweep ran with, from the record.
        steps_per_epoch: From the record; None if unknown.
        metric: Name of the metric that was asked for in place of the loss; None if none was. The
            accuracy rule finds the accuracy by itself.
        sweeps: What the rule read off each sweep.
        record: What it was read off; None for a reading that was made by hand.
        trials: The short trainings that confirmed it; see :mod:`cyclr.rangetest.confirm`.
        updates: What the range test cost, way back and repeats included; 0 of a reading that was
            made by hand.
    """

    base_lr: float
    max_lr: float
    rule: str
    outcome: Outcome
    caveats: tuple[str, ...] = ()
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    steps_per_epoch: int | None = None
    metric: str | None = None
    sweeps: tuple[Bounds, ...] = ()
    record: RangeRecord | None = field(default=None, repr=False, compare=False)
    trials: tuple[Trial, ...] = ()
    updates: int = 0

    @property
    def base_lr_interval(self) -> tuple[float, float] | None:
        """Between which rates base_lr may as well be; None if that cannot be told."""
        return None if self._intervals is None else self._intervals.base_lr

    @property
    def max_lr_interval(self) -> tuple[float, float] | None:
        """Between which rates max_lr may as well be; None if that cannot be told."""
        return None if self._intervals is None else self._intervals.max_lr

    @cached_property
    def _intervals(self) -> Intervals | None:
        if len(self.sweeps) > 1:
            return _intervals(self.sweeps, extent)
        if self.record is None:
            return None
        found = resampled(self.record, RULES[self.rule])
        if not found:
            return None
        around = _intervals(found, middle)
        # What was read is possible too, whatever the copies say.
        return Intervals(
            extent([*around.base_lr, self.base_lr]), extent([*around.max_lr, self.max_lr])
        )

    def to_dict(self) -> dict[str, Any]:
        """Write the reading as plain data."""
        return {
            "base_lr": self.base_lr,
            "max_lr": self.max_lr,
            "base_lr_interval": _listed(self.base_lr_interval),
            "max_lr_interval": _listed(self.max_lr_interval),
            "rule": self.rule,
            "metric": self.metric,
            "outcome": self.outcome.value,
            "caveats": list(self.caveats),
            "trials": [{"max_lr": t.max_lr, "loss": jsonfile.pack(t.loss)} for t in self.trials],
        }


def read(record: RangeRecord, rule: str | None = None, metric: str | None = None) -> Reading:
    """Apply a rule to a record.

    Args:
        record: What the sweep saw.
        rule: The rule's name; see :meth:`RangeRecord.read` for the default.
        metric: Name of a metric to read in place of the loss.

    Raises:
        RecordError: The rule or the metric is unknown, or the record does not hold what the rule
            needs.
    """
    seen = record if metric is None else record.seen_by(metric)
    name = _default_rule(seen) if rule is None else rule
    if name not in RULES:
        known = ", ".join(sorted(RULES))
        raise RecordError(f"rule must be one of {known}, got {name!r}; pick one")
    found, failures = _read_each(seen, RULES[name], metric)
    if rule is None and name == "basin" and _is_for_accuracy(seen):
        failures.append(
            f"The accuracy was measured too seldom for its rule, which needs {LEAST} values; the "
            "loss was read instead. Measure it more often (validate_every)."
        )
    together = found[0] if len(found) == 1 else median(found)
    outcomes = Counter(sweep.outcome for sweep in record.sweeps)
    return Reading(
        base_lr=together.base_lr,
        max_lr=together.max_lr,
        rule=name,
        outcome=outcomes.most_common(1)[0][0],
        caveats=(*together.caveats, *failures),
        optimizer=record.optimizer,
        steps_per_epoch=record.steps_per_epoch,
        metric=metric,
        sweeps=tuple(found),
        record=seen,
        updates=record.updates,
    )


def _read_each(
    record: RangeRecord, rule: Rule, metric: str | None
) -> tuple[list[Bounds], list[str]]:
    """Read every sweep; those that cannot be read become caveats, unless none can."""
    found, failures = [], []
    errors: list[RecordError] = []
    for sweep in record.sweeps:
        try:
            bounds = _positive(rule(sweep))
        except RecordError as error:
            errors.append(error)
            failures.append(f"One of {len(record.sweeps)} sweeps could not be read: {error}")
        else:
            found.append(bounds._replace(caveats=(*bounds.caveats, *_doubts(sweep, metric))))
    if not found:
        raise errors[0]
    return found, failures


def _positive(bounds: Bounds) -> Bounds:
    """Refuse bounds that no training can use: a sweep from 0 may find nothing above it."""
    if bounds.max_lr > 0 and math.isfinite(bounds.max_lr):
        return bounds
    raise RecordError(
        "the loss was lowest before the rate rose above 0, so there is no rate to read; sweep more "
        "slowly: lower end_lr, or take more steps"
    )


def _doubts(record: RangeRecord, metric: str | None) -> list[str]:
    """Say what makes any rule's conclusion from a sweep doubtful."""
    found = []
    if record.outcome is Outcome.INTERRUPTED:
        found.append("The sweep was interrupted; higher rates were not tried.")
    low, high = record.lr[0], record.lr[-1]
    decades = math.log10(high / low) if low > 0 and not isinstance(record.sweep, LinearSweep) else 0
    if len(record) < _LEAST or len(record) < _DENSE * decades:
        seen = "The sweep has" if metric is None else f"{metric} was measured at"
        remedy = "Take more steps" if metric is None else "Measure it more often (validate_every)"
        found.append(
            f"{seen} only {len(record)} points from {low:.3g} to {high:.3g}: too few to be "
            f"precise. {remedy}."
        )
    return found


def _default_rule(record: RangeRecord) -> str:
    enough = any(
        sum(map(math.isfinite, series.values)) >= LEAST
        for name, series in record.metrics.items()
        if name.endswith("accuracy")
    )
    return "accuracy" if _is_for_accuracy(record) and enough else "basin"


def _is_for_accuracy(record: RangeRecord) -> bool:
    has_accuracy = any(name.endswith("accuracy") for name in record.metrics)
    return has_accuracy and isinstance(record.sweep, LinearSweep)


def _intervals(
    found: tuple[Bounds, ...] | list[Bounds],
    spread: Callable[[list[float]], tuple[float, float]],
) -> Intervals:
    return Intervals(
        spread([bounds.base_lr for bounds in found]), spread([bounds.max_lr for bounds in found])
    )


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
