"""A trial: a range test and a short training at given settings, as plain data in and out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from cyclr import jsonfile
from cyclr.errors import DataError, RecordError, TrainingError
from cyclr.experiments.pipeline import Parts, build, find, train
from cyclr.experiments.task import Task
from cyclr.integrations.torch.groups import ratios, set_value
from cyclr.integrations.torch.nonfinite import blames_values
from cyclr.rangetest import Outcome as SweepOutcome
from cyclr.rangetest import Reading
from cyclr.recipe import Recipe, plan
from cyclr.schedules import Constant
from cyclr.training.checkpoints import load_weights

Tell = Callable[[int, str], None]
Momentum = float | tuple[float, float] | None

_POINTS = 5  # evaluations along a training
_SURE = 0.8  # a sweep with less momentum says little about momenta of .85 to .95


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
        policy: See :func:`cyclr.plan`.
        bounds: (base_lr, max_lr) to train at; None to find them by a range test.
        start: File of the weights to start from; None for fresh ones from the seed.
    """

    seed: int
    updates: int
    sweep_steps: int
    batch_size: int
    weight_decay: float | None = None
    momentum: Momentum = None
    policy: str = "one_cycle"
    bounds: tuple[float, float] | None = None
    start: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write the trial as plain data."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
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
        caveats: Of the range test's reading.
        optimizer: What the range test ran with.
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
    caveats: tuple[str, ...] = ()
    optimizer: Mapping[str, Any] = field(default_factory=dict)
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

    @property
    def reading(self) -> Reading:
        """The bounds it trained at, as a reading to plan from."""
        assert self.bounds is not None
        given = self.trial.bounds is not None
        return Reading(
            base_lr=self.bounds[0],
            max_lr=self.bounds[1],
            rule="given" if given else "basin",
            outcome=SweepOutcome.COMPLETED,
            caveats=self.caveats,
            optimizer=self.optimizer,
        )

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
            "caveats": list(self.caveats),
            "optimizer": dict(self.optimizer),
            "curve": [dict(point) for point in self.curve],
            "sweep_updates": self.sweep_updates,
            "updates": self.updates,
            "seconds": round(self.seconds, 3),
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
                caveats=tuple(data["caveats"]),
                optimizer=data["optimizer"],
                curve=tuple(_point(point) for point in data["curve"]),
                sweep_updates=int(data["sweep_updates"]),
                updates=int(data["updates"]),
                seconds=float(data["seconds"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"it is not a trial's result: {error!r}") from error


def _point(data: Mapping[str, Any]) -> dict[str, float]:
    numbers = jsonfile.unpack(data.values())
    return {**dict(zip(data, numbers, strict=True)), "step": int(data["step"])}


def run_trial(task: Task, trial: Trial, *, tell: Tell | None = None) -> TrialResult:
    """Run a trial.

    A training whose loss becomes NaN or infinite, a range test that cannot be read and a batch
    that does not fit in memory are results; any other exception comes through.

    Args:
        task: The task; it must have validation data.
        trial: What to do.
        tell: Called with the updates made so far and a few words, as the trial goes on.

    Raises:
        TrainingError: The loss is not finite from the range test's first step.
    """
    tell = tell or _ignore
    begun = time.perf_counter()
    found = _Findings(tell=tell)
    try:
        outcome, why = _run(task, trial, found)
    except Exception as error:
        if not out_of_memory(error):
            raise
        outcome, why = Outcome.TOO_LARGE, " ".join(str(error).split())[:120]
    return TrialResult(
        trial=trial,
        outcome=outcome,
        why=why,
        bounds=found.bounds,
        caveats=found.caveats,
        optimizer=found.optimizer,
        curve=tuple(found.curve),
        sweep_updates=found.sweep_updates,
        updates=found.updates,
        seconds=time.perf_counter() - begun,
    )


@dataclass
class _Findings:
    """What a trial has found so far."""

    tell: Tell
    bounds: tuple[float, float] | None = None
    caveats: tuple[str, ...] = ()
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    sweep_updates: int = 0
    updates: int = 0

    def swept(self, test: Any) -> None:
        """Take note of an update of the range test."""
        self.sweep_updates += 1
        self.tell(self.sweep_updates, f"range test, lr {test.record.lr[-1]:.1e}")

    def stepped(self, line: Mapping[str, Any]) -> None:
        """Take note of an update of the training."""
        self.updates = line["step"] + 1
        self.losses.append(line["loss"])
        self.tell(self.sweep_updates + self.updates, f"loss {line['loss']:.4g}")

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take note of an evaluation."""
        mean = sum(self.losses) / max(1, len(self.losses))
        self.losses.clear()
        self.curve.append({"step": step, "loss": mean, **metrics})


def _run(task: Task, trial: Trial, found: _Findings) -> tuple[Outcome, str]:
    parts = prepare(task, trial)
    if trial.bounds is None:
        record = find(parts, steps=trial.sweep_steps, on_step=found.swept)
        found.optimizer = dict(record.optimizer)
        try:
            reading = record.read()
        except RecordError as error:
            return Outcome.UNREADABLE, str(error)
        found.bounds, found.caveats = (reading.base_lr, reading.max_lr), reading.caveats
    else:
        found.bounds = trial.bounds
    recipe = make_recipe(trial, found.bounds, trial.updates, parts.steps_per_epoch)
    return _train(parts, recipe, found)


def _train(parts: Parts, recipe: Recipe, found: _Findings) -> tuple[Outcome, str]:
    every = -(-recipe.total_steps // _POINTS)
    try:
        train(
            parts,
            recipe,
            validate_every=every,
            probe_every=None,
            on_step=found.stepped,
            on_evaluation=found.evaluated,
        )
    except TrainingError as error:
        return Outcome.DIVERGED, str(error)
    except Exception as error:
        if out_of_memory(error) or not blames_values(error, [parts.model]):
            raise
        return Outcome.DIVERGED, f"{type(error).__name__}: {error}"
    last = found.curve[-1]["val_loss"]
    if not math.isfinite(last):
        return Outcome.DIVERGED, f"the validation loss is {last} at the end"
    return Outcome.COMPLETED, ""


def prepare(task: Task, trial: Trial) -> Parts:
    """Build a task for a trial: its batch size, its weights, its weight decay and momentum.

    Raises:
        CheckpointError: The weights to start from do not fit the model.
    """
    parts = build(task, seed=trial.seed, batch_size=trial.batch_size)
    if parts.validation is None:
        raise DataError(f"task {task.name!r} has no validation data to judge trials by")
    if trial.start is not None:
        load_weights(parts.model, Path(trial.start))
    factors = ratios(parts.optimizer, "weight_decay")
    for group, factor in zip(parts.optimizer.param_groups, factors, strict=True):
        if trial.weight_decay is not None:
            set_value(group, "weight_decay", trial.weight_decay * factor)
        momentum = _during_sweep(trial.momentum, group)
        if momentum is not None:
            set_value(group, "betas" if "betas" in group else "momentum", momentum)
    return parts


def _during_sweep(momentum: Momentum, group: Mapping[str, Any]) -> float | None:
    """Say which momentum the range test runs with; None for the one that is set."""
    if not isinstance(momentum, tuple):
        return momentum
    own = group["betas"][0] if "betas" in group else group["momentum"]
    return None if float(own) >= _SURE else sum(momentum) / 2


def make_recipe(
    trial: Trial, bounds: tuple[float, float], total_steps: int, steps_per_epoch: int | None
) -> Recipe:
    """Plan a training at a trial's settings and given bounds, of any length."""
    reading = Reading(
        base_lr=bounds[0],
        max_lr=bounds[1],
        rule="given",
        outcome=SweepOutcome.COMPLETED,
        steps_per_epoch=steps_per_epoch,
    )
    cycle = trial.momentum if isinstance(trial.momentum, tuple) else None
    recipe = plan(reading, total_steps=total_steps, policy=trial.policy, momentum=cycle)
    changes: dict[str, Any] = {}
    if trial.weight_decay is not None:
        changes["weight_decay"] = Constant(value=trial.weight_decay)
    if isinstance(trial.momentum, float):
        changes["momentum"] = Constant(value=trial.momentum)
    return recipe.replace(**changes)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an exception is about memory, of a GPU or of this machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator" in words or "out of memory" in words
    )


def _ignore(_updates: int, _words: str) -> None:
    """Show nothing."""
