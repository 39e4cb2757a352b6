"""A trial, a range test and a short training at given settings, and its result: plain data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cyclr import jsonfile
from cyclr.errors import RecordError
from cyclr.rangetest import RangeRecord

Momentum = float | tuple[float, float] | None


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return {
            "completed": "trained to its end",
            "diverged": "the loss became NaN or infinite",
            "unreadable": "the range test gave no bounds",
            "too_large": "does not fit in memory",
        }[self.value]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one trial does. Everything that decides what comes out, besides the task.

    Attributes:
        seed: Of the initial weights and the order of the data.
        updates: Length of the training, ≥ 3.
        sweep_steps: Length of the range test, ≥ 2; see :func:`cyclr.experiments.pipeline.find`.
        batch_size: Examples per update, ≥ 1.
        weight_decay: ≥ 0; None leaves the optimizer's own.
        momentum: A constant in [0, 1), or (low, high) of one opposite to the rate (beta1 for the
            Adam family); None leaves the optimizer's own.
        policy: See :func:`~cyclr.planning.plan`.
        bounds: (base_lr, max_lr) to train at; None to find them by a range test.
        reference: What a range test read as max_lr before the weight decay was changed, > 0. With
            it and bounds, the trial has a range test of its own, and trains at the bounds unless
            its max_lr is less than a third of the reference; then the bounds come down as much.
        start: File of the weights to start from; None for fresh ones from the seed.
        examples: How many of the training examples it has, ≥ batch_size, drawn from the seed; None
            for all of them.
    """

    seed: int
    updates: int
    sweep_steps: int
    batch_size: int
    weight_decay: float | None = None
    momentum: Momentum = None
    policy: str = "one_cycle"
    bounds: tuple[float, float] | None = None
    reference: float | None = None
    start: str | None = None
    examples: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write the trial as plain data."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        if self.examples is None:
            del plain["examples"]  # earlier versions wrote, and named, trials without it
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        """Read a trial from plain data, as :meth:`to_dict` wrote it."""
        pairs = {
            name: tuple(data[name])
            for name in ("momentum", "bounds")
            if isinstance(data.get(name), list)
        }
        return cls(**{**data, **pairs})

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that change with anything that matters to the result."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What came out of a trial.

    Attributes:
        trial: What it did.
        stage: What it was run for.
        outcome: How it ended.
        why: Why it did not train to its end, in words; empty if it did.
        bounds: (base_lr, max_lr) it trained at; None if there were none.
        read: (base_lr, max_lr) read off its range test; None without one.
        caveats: Of the range test's reading.
        record: Of the range test, raw; None without one.
        curve: Evaluations along the training: ``step``, ``loss`` (mean of the training batches
            since the evaluation before), ``val_loss`` and the task's metrics, ``val_…``.
        sweep_updates: Updates of the range test.
        updates: Updates of the training.
        seconds: What both took, with evaluations.
    """

    trial: Trial
    stage: str = ""
    outcome: Outcome
    why: str = ""
    bounds: tuple[float, float] | None = None
    read: tuple[float, float] | None = None
    caveats: tuple[str, ...] = ()
    record: RangeRecord | None = field(default=None, repr=False)
    curve: tuple[Mapping[str, float], ...] = ()
    sweep_updates: int = 0
    updates: int = 0
    seconds: float = 0.0

    @property
    def max_lr(self) -> float:
        """The peak rate; NaN if none was found."""
        return math.nan if self.bounds is None else self.bounds[1]

    @property
    def val_loss(self) -> float:
        """Validation loss at the end; infinite if the training did not get there."""
        found = self.metrics.get("val_loss", math.inf)
        return found if self.outcome is Outcome.COMPLETED and math.isfinite(found) else math.inf

    @property
    def metrics(self) -> dict[str, float]:
        """The last evaluation, by name."""
        last = self.curve[-1] if self.curve else {}
        return {name: value for name, value in last.items() if name.startswith("val_")}

    @property
    def cost(self) -> int:
        """Updates altogether."""
        return self.sweep_updates + self.updates

    def to_dict(self) -> dict[str, Any]:
        """Write the result as plain data."""
        return {
            "cyclr_trial": 1,
            "key": self.trial.key,
            "stage": self.stage,
            "outcome": self.outcome.value,
            "why": self.why,
            "trial": self.trial.to_dict(),
            "bounds": None if self.bounds is None else list(self.bounds),
            "read": None if self.read is None else list(self.read),
            "caveats": list(self.caveats),
            "record": None if self.record is None else self.record.to_dict(),
            "curve": [dict(point) for point in self.curve],
            "sweep_updates": self.sweep_updates,
            "updates": self.updates,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, data: Any) -> TrialResult:
        """Read a result from plain data, as :meth:`to_dict` wrote it.

        Raises:
            RecordError: It is not a trial's result.
        """
        try:
            if data["cyclr_trial"] != 1:
                raise ValueError(f"format {data['cyclr_trial']} is unknown")
            return cls(
                trial=Trial.from_dict(data["trial"]),
                stage=data["stage"],
                outcome=Outcome(data["outcome"]),
                why=data["why"],
                bounds=None if data["bounds"] is None else tuple(data["bounds"]),
                read=None if data["read"] is None else tuple(data["read"]),
                caveats=tuple(data["caveats"]),
                record=_record(data["record"]),
                curve=tuple(_point(point) for point in data["curve"]),
                sweep_updates=int(data["sweep_updates"]),
                updates=int(data["updates"]),
                seconds=float(data["seconds"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"it is not a trial's result: {error!r}") from error


def _record(data: Any) -> RangeRecord | None:
    return None if data is None else RangeRecord.from_dict(data)


def _point(data: Mapping[str, Any]) -> dict[str, float]:
    numbers = jsonfile.unpack(data.values())
    return {**dict(zip(data, numbers, strict=True)), "step": int(data["step"])}
