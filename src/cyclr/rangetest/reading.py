"""What a rule concludes from a record: the bounds, how the sweep ended, and the doubts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cyclr.errors import RecordError
from cyclr.rangetest.record import Outcome, RangeRecord
from cyclr.rangetest.rules import RULES, Bounds
from cyclr.schedules import LinearSweep


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The bounds read off a record.

    Attributes:
        base_lr: Lower bound for a cyclical policy, > 0.
        max_lr: Upper bound; also the peak for one-cycle.
        rule: The rule's name.
        outcome: How the sweep ended.
        caveats: What makes the conclusion doubtful, in words; empty if nothing does.
        optimizer: What the sweep ran with, from the record.
        steps_per_epoch: From the record; None if unknown.
    """

    base_lr: float
    max_lr: float
    rule: str
    outcome: Outcome
    caveats: tuple[str, ...] = ()
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    steps_per_epoch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write the reading as plain data."""
        return {
            "base_lr": self.base_lr,
            "max_lr": self.max_lr,
            "rule": self.rule,
            "outcome": self.outcome.value,
            "caveats": list(self.caveats),
        }


def read(record: RangeRecord, rule: str | None = None) -> Reading:
    """Apply a rule to a record.

    Args:
        record: What the sweep saw.
        rule: The rule's name; see :meth:`RangeRecord.read` for the default.

    Raises:
        RecordError: The rule is unknown, or the record does not hold what it needs.
    """
    name = _default_rule(record) if rule is None else rule
    if name not in RULES:
        known = ", ".join(sorted(RULES))
        raise RecordError(f"rule must be one of {known}, got {name!r}; pick one")
    bounds: Bounds = RULES[name](record)
    caveats = bounds.caveats
    if record.outcome is Outcome.INTERRUPTED:
        caveats = (*caveats, "The sweep was interrupted; higher rates were not tried.")
    return Reading(
        base_lr=bounds.base_lr,
        max_lr=bounds.max_lr,
        rule=name,
        outcome=record.outcome,
        caveats=caveats,
        optimizer=record.optimizer,
        steps_per_epoch=record.steps_per_epoch,
    )


def _default_rule(record: RangeRecord) -> str:
    has_accuracy = any(name.endswith("accuracy") for name in record.metrics)
    return "accuracy" if has_accuracy and isinstance(record.sweep, LinearSweep) else "basin"
