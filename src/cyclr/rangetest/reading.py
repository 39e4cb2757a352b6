"""What a rule concludes from a record: the bounds, how the sweep ended, and the doubts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from cyclr import jsonfile
from cyclr.errors import InputError, RecordError
from cyclr.rangetest.record import MOMENTUM, PER_EPOCH, Outcome, RangeRecord
from cyclr.rangetest.repeats import extent
from cyclr.rangetest.resample import middle, resampled
from cyclr.rangetest.rules import RULES, Bounds
from cyclr.schedules.fields import Constraint

_FORMAT = 1
_COUNT = Constraint(kind="integer", ge=0)


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
        metric: Name of the metric that was read in place of the training loss; None if none was.
            The accuracy rule finds the accuracy by itself.
        sweeps: What the rule read off each sweep.
        record: What it was read off; None for a reading that was made by hand.
        second: The record of the sweep that confirmed it, if one did; see
            :mod:`cyclr.rangetest.confirm`.
        updates: What the range test cost, with all that belongs to it; 0 of a reading that was made
            by hand.
        stated: Intervals of the bounds that a saved reading states, whose record is elsewhere.
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
    second: RangeRecord | None = field(default=None, repr=False, compare=False)
    updates: int = 0
    stated: Intervals | None = field(default=None, repr=False, compare=False)

    @property
    def read_by(self) -> str:
        """The rule, and the metric if it is not the loss, such as ``"edge, of val_loss"``."""
        return self.rule if self.metric is None else f"{self.rule}, of {self.metric}"

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
            return self.stated
        found = resampled(self.record, RULES[self.rule])
        if not found:
            return None
        around = _intervals(found, middle)
        # What was read is possible too, whatever the copies say.
        return Intervals(
            extent([*around.base_lr, self.base_lr]), extent([*around.max_lr, self.max_lr])
        )

    def to_dict(self) -> dict[str, Any]:
        """Write the reading as plain data that strict JSON can hold, without its record."""
        return {
            "cyclr_reading": _FORMAT,
            "base_lr": self.base_lr,
            "max_lr": self.max_lr,
            "base_lr_interval": _listed(self.base_lr_interval),
            "max_lr_interval": _listed(self.max_lr_interval),
            "rule": self.rule,
            "metric": self.metric,
            "outcome": self.outcome.value,
            "caveats": list(self.caveats),
            "optimizer": dict(self.optimizer),
            "steps_per_epoch": self.steps_per_epoch,
            "updates": self.updates,
            "second": None if self.second is None else self.second.to_dict(),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the reading to a JSON file, for :func:`~cyclr.planning.plan` at another time.

        Raises:
            InputError: The file cannot be written.
        """
        jsonfile.write(path, self.to_dict())

    @classmethod
    def from_dict(cls, data: Any) -> Reading:
        """Make a reading from plain data, as :meth:`to_dict` wrote it.

        It is equal to the one that was written, but for ``record`` and ``sweeps``: these are not
        written, and come back empty. The intervals are those that were written.

        Raises:
            RecordError: The data is not a reading, is damaged, or of another format.
        """
        if not isinstance(data, dict) or data.get("cyclr_reading") != _FORMAT:
            raise RecordError(
                f'it must be an object whose "cyclr_reading" is {_FORMAT}, as reading.save(path) '
                "writes it; off a range test's record, read the bounds with record.read()"
            )
        try:
            return cls(**_fields(data))
        except KeyError as error:
            raise RecordError(f"it lacks {error}; it is damaged, read the record again") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"it is damaged ({error}); read the record again") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Reading:
        """Read what :meth:`save` wrote, or the ``reading.json`` of a run.

        Raises:
            RecordError: The file cannot be read, or is not a reading.
        """
        try:
            return cls.from_dict(jsonfile.read(path, what="a range test's reading"))
        except RecordError as error:
            raise RecordError(f"{path} is not a range test's reading: {error}") from error
        except InputError as error:
            raise RecordError(str(error)) from error


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    low, high = (_unlisted(data[f"{name}_lr_interval"]) for name in ("base", "max"))
    if not isinstance(data["caveats"], list):
        raise TypeError(f"caveats must be a list, got {data['caveats']!r}")
    base_lr, max_lr = _rate(data["base_lr"]), _rate(data["max_lr"])
    if base_lr > max_lr:
        raise ValueError(f"base_lr must be ≤ max_lr ({max_lr:g}), got {base_lr:g}")
    optimizer = dict(data["optimizer"])
    MOMENTUM.check("optimizer.momentum", optimizer.get("momentum"))
    return {
        "base_lr": base_lr,
        "max_lr": max_lr,
        "rule": str(data["rule"]),
        "outcome": Outcome(data["outcome"]),
        "caveats": tuple(map(str, data["caveats"])),
        "optimizer": optimizer,
        "steps_per_epoch": PER_EPOCH.check("steps_per_epoch", data["steps_per_epoch"]),
        "metric": None if data["metric"] is None else str(data["metric"]),
        "updates": _COUNT.check("updates", data["updates"]),
        # Earlier versions wrote readings without it.
        "second": RangeRecord.from_dict(data["second"]) if data.get("second") else None,
        "stated": None if low is None or high is None else Intervals(low, high),
    }


def _intervals(
    found: tuple[Bounds, ...] | list[Bounds],
    spread: Callable[[list[float]], tuple[float, float]],
) -> Intervals:
    return Intervals(
        spread([bounds.base_lr for bounds in found]), spread([bounds.max_lr for bounds in found])
    )


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _unlisted(ends: Any) -> tuple[float, float] | None:
    if ends is None:
        return None
    low, high = map(_rate, ends)
    if low > high:
        raise ValueError(f"an interval must rise, got {low:g} to {high:g}")
    return low, high


def _rate(value: Any) -> float:
    (rate,) = jsonfile.unpack([value])
    if 0 < rate < math.inf:
        return rate
    raise ValueError(f"a rate must be > 0 and finite, got {rate:g}")
