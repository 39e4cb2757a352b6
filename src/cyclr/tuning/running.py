"""Running a trial."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cyclr.errors import DataError, RecordError, TrainingError
from cyclr.experiments.pipeline import Parts, build, find, train
from cyclr.experiments.task import Task
from cyclr.integrations.torch.groups import ratios, set_value
from cyclr.integrations.torch.nonfinite import blames_values
from cyclr.planning import plan
from cyclr.rangetest import Outcome as SweepOutcome
from cyclr.rangetest import RangeRecord, RangeTest, Reading
from cyclr.rangetest.repeats import DISAGREE
from cyclr.recipe import Recipe
from cyclr.schedules import Constant
from cyclr.training.checkpoints import load_weights
from cyclr.tuning.trial import Momentum, Outcome, Trial, TrialResult

Tell = Callable[[int, str], None]

_POINTS = 5  # evaluations along a training
_BELOW = 1000.0  # how far below the rate that was read before another range test begins
_SURE = 0.8  # a sweep with less momentum says little about momenta of .85 to .95


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
        read=found.read,
        caveats=found.caveats,
        record=found.record,
        curve=tuple(found.curve),
        sweep_updates=found.sweep_updates,
        updates=found.updates,
        seconds=round(time.perf_counter() - begun, 3),
    )


@dataclass
class _Findings:
    """What a trial has found so far."""

    tell: Tell
    bounds: tuple[float, float] | None = None
    read: tuple[float, float] | None = None
    caveats: tuple[str, ...] = ()
    record: RangeRecord | None = None
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
    found.bounds = trial.bounds
    if trial.bounds is None or trial.reference is not None:
        record = find(parts, sweep=_range_test(trial), validate=False, on_step=found.swept)
        found.record = record
        try:
            reading = record.read()
        except RecordError as error:
            return Outcome.UNREADABLE, str(error)
        found.read, found.caveats = (reading.base_lr, reading.max_lr), reading.caveats
        found.bounds = found.read if trial.bounds is None else moved(trial, reading.max_lr)
    assert found.bounds is not None
    recipe = make_recipe(trial, found.bounds, trial.updates, parts.steps_per_epoch)
    return _train(parts, recipe, found)


def _range_test(trial: Trial) -> RangeTest:
    if trial.reference is None:
        return RangeTest(steps=trial.sweep_steps, scout=False)
    # Where the rate must be is known about; nothing is gained by beginning at 1e-7.
    start_lr = min(trial.reference / _BELOW, 1.0)
    return RangeTest(steps=trial.sweep_steps, start_lr=start_lr, scout=False)


def moved(trial: Trial, read: float) -> tuple[float, float]:
    """Give the bounds to train at where a range test has read another max_lr than the reference.

    A range test that reads less than a third says that the rate may no longer be stable, and the
    bounds come down by as much. What lies within that is chance, and a higher reading says that a
    higher rate may be stable, not that it is better.
    """
    assert trial.bounds is not None
    assert trial.reference is not None
    ratio = read / trial.reference
    if ratio >= 1 / DISAGREE:
        return trial.bounds
    return trial.bounds[0] * ratio, trial.bounds[1] * ratio


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
    if trial.examples is not None:
        task = replace(task, train=some_of(task.train, trial.examples, trial.seed))
    parts = build(task, seed=trial.seed, batch_size=trial.batch_size)
    if parts.validation is None:
        raise DataError(f"task {task.name!r} has no validation data to judge trials by")
    if trial.start is not None:
        load_weights(parts.model, Path(trial.start))
    factors = ratios(parts.optimizer, "weight_decay")
    for group, factor in zip(parts.optimizer.param_groups, factors, strict=True):
        if trial.weight_decay is not None:
            set_value(group, "weight_decay", trial.weight_decay * factor)
        own = group["betas"][0] if "betas" in group else group.get("momentum")
        momentum = during_sweep(trial.momentum, own)
        if momentum is not None:
            set_value(group, "betas" if "betas" in group else "momentum", momentum)
    return parts


def some_of(data: Any, count: int, seed: int) -> Any:
    """Draw some of a task's training examples, without replacement.

    Args:
        data: ``(inputs, targets)`` tensors, or a map-style data set.
        count: How many, at most all.
        seed: Of the draw.
    """
    pairs = isinstance(data, tuple)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data[0]) if pairs else len(data), generator=generator)[:count]
    if pairs:
        return tuple(tensor[chosen] for tensor in data)
    return torch.utils.data.Subset(data, chosen.tolist())


def during_sweep(momentum: Momentum, own: float | None) -> float | None:
    """Say which momentum a range test runs with.

    Args:
        momentum: Of the training.
        own: The optimizer's own, which a cyclical training's range test keeps if it is at least
            .8; otherwise it runs with the middle of the cycle.
    """
    if not isinstance(momentum, tuple):
        return momentum
    return own if own is not None and float(own) >= _SURE else sum(momentum) / 2


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
