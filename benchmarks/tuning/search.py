"""An Optuna search, set up as its documentation advises, that spends a budget of updates.

The tree-structured Parzen estimator with its defaults, and a pruner. Hyperband is the pruner that
Optuna's documentation names for it; the median rule is what a study has if none is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import optuna

import cyclr
from benchmarks.tuning.tasks import Case
from cyclr.experiments import pipeline
from cyclr.integrations.torch import Scheduler
from cyclr.rangetest import Outcome, Reading
from cyclr.training.evaluation import evaluate, without_trace

Row = dict[str, Any]

LR, DECAY, MOMENTUM = (1e-4, 10.0), (1e-6, 1e-1), (0.8, 0.99)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How Optuna searches.

    Attributes:
        share: Length of a trial, as a share of the full training.
        looks: When a trial's loss is reported, in units of the pruner; the last is its end.
        pruner: Makes the pruner.
        words: What it is.
    """

    share: float
    looks: tuple[int, ...]
    pruner: Callable[[], optuna.pruners.BasePruner]
    words: str


SETUPS = {
    "optuna": Setup(
        share=1 / 8,
        looks=(1, 3),
        pruner=lambda: optuna.pruners.HyperbandPruner(1, 3, 3),
        words="TPE and Hyperband, trials of an eighth of the full training",
    ),
    "optuna-median": Setup(
        share=1 / 8,
        looks=(1, 3),
        pruner=optuna.pruners.MedianPruner,
        words="TPE and the median pruner, trials of an eighth of the full training",
    ),
    "optuna-full": Setup(
        share=1.0,
        looks=(1, 3, 9),
        pruner=lambda: optuna.pruners.HyperbandPruner(1, 9, 3),
        words="TPE and Hyperband, trials as long as the full training",
    ),
}


def recipe_of(row: Row, steps: int) -> cyclr.Recipe:
    """Make ``plan``'s one-cycle at a rate, with momentum and weight decay constant."""
    reading = Reading(
        base_lr=row["lr"] / 10, max_lr=row["lr"], rule="given", outcome=Outcome.COMPLETED
    )
    return cyclr.plan(reading, total_steps=steps, momentum=None).replace(
        momentum=cyclr.Constant(value=row["momentum"]),
        weight_decay=cyclr.Constant(value=row["weight_decay"]),
    )


def losses(task: cyclr.Task, seed: int, recipe: cyclr.Recipe, at: list[int]) -> Iterator[float]:
    """Train by a recipe and give the validation loss after so many updates each.

    It ends early, without the rest, when a loss is not finite.
    """
    parts = pipeline.build(task, seed=seed)
    scheduler = Scheduler(parts.optimizer, recipe)
    parts.model.train()
    stream = (batch for _ in iter(int, 1) for batch in parts.batches)
    for step, (inputs, targets) in zip(range(1, at[-1] + 1), stream, strict=False):
        loss = task.loss_fn(parts.model(inputs), targets)
        if not math.isfinite(float(loss.detach())):
            return
        loss.backward()
        parts.optimizer.step()
        parts.optimizer.zero_grad()
        scheduler.step()
        if step in at:
            look = lambda it: evaluate(parts.model, it, task.loss_fn, {})  # noqa: E731 -- a moment
            found = without_trace(parts.validation, look)["val_loss"]
            if not math.isfinite(found):
                return
            yield found


def search(
    case: Case, setup: Setup, seed: int, budget: int, say: Callable[[str], None]
) -> list[Row]:
    """Begin trials until the budget of updates is spent; the last may run over it.

    Args:
        case: The task.
        setup: How to search.
        seed: Of the sampler, and of every trial's training.
        budget: In updates, those of pruned trials as far as they went.
        say: Called with a line for every trial.

    Returns:
        What each trial was and came to: ``lr``, ``weight_decay``, ``momentum``, ``outcome``,
        ``updates``, ``val_loss`` at its end or None, and ``before``, the updates spent when it
        began.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=f"{case.name}-{seed}",  # Hyperband deals trials to its brackets by name
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=setup.pruner(),
    )
    length = max(setup.looks[-1], round(setup.share * case.size.steps))
    at = [length * look // setup.looks[-1] for look in setup.looks]
    task, rows, spent = case.task(), [], 0
    while spent < budget:
        row = _trial(study, task, seed, setup.looks, at)
        rows.append(row | {"before": spent})
        spent += row["updates"]
        values = ", ".join(f"{k} {row[k]:.3g}" for k in ("lr", "weight_decay", "momentum"))
        say(f"{spent}/{budget} updates, {values}: {row['outcome']}, loss {row['val_loss']}")
    return rows


def _trial(
    study: optuna.Study, task: cyclr.Task, seed: int, looks: tuple[int, ...], at: list[int]
) -> Row:
    """Run one trial and tell the study."""
    trial = study.ask()
    row: Row = {
        "lr": trial.suggest_float("lr", *LR, log=True),
        "weight_decay": trial.suggest_float("weight_decay", *DECAY, log=True),
        "momentum": trial.suggest_float("momentum", *MOMENTUM),
    }
    curve = losses(task, seed, recipe_of(row, at[-1]), at)
    for look, updates in zip(looks, at, strict=True):
        row |= {"updates": updates, "val_loss": next(curve, None)}
        if row["val_loss"] is None:
            return _ended(study, trial, row, "diverged")
        trial.report(row["val_loss"], look)
        if updates < at[-1] and trial.should_prune():
            return _ended(study, trial, row, "pruned")
    study.tell(trial, row["val_loss"])
    return row | {"outcome": "completed"}


def _ended(study: optuna.Study, trial: optuna.Trial, row: Row, outcome: str) -> Row:
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return row | {"outcome": outcome}


def best(rows: list[Row], budget: int) -> Row:
    """Give the best finished trial of those begun before a budget was spent.

    A study with a smaller budget is the beginning of one with a larger, so one search serves both.

    Raises:
        ValueError: No trial has finished.
    """
    finished = [r for r in rows if r["before"] < budget and r["outcome"] == "completed"]
    if not finished:
        raise ValueError(f"none of {len(rows)} trials has finished within {budget} updates")
    return min(finished, key=lambda row: float(row["val_loss"]))
