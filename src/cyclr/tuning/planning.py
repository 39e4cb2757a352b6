"""From a request to a plan: what there is to run, what an update costs, what the budget allows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyclr.errors import InputError
from cyclr.experiments.task import Task
from cyclr.tuning.budget import (
    BISECTIONS,
    RATES,
    Plan,
    Wishes,
    budget_updates,
    divide,
    refuse,
    smallest_budget,
)
from cyclr.tuning.request import Request, make_request, parse_budget
from cyclr.tuning.speed import UPDATES, seconds_per_update
from cyclr.tuning.store import TuneStore

Speeds = dict[int, float]

_SPEEDS = "speeds.json"


def plan_only(task: Task, *, source: Mapping[str, Any] | None = None, **wanted: Any) -> Plan:
    """Say how a tune would divide its budget, and what it would cost, without running it.

    Args:
        task: The task.
        source: As for :func:`cyclr.tuning.tune`.
        **wanted: As for :func:`cyclr.tuning.tune`: what to tune and how, but not where.

    Raises:
        InputError: As for :func:`cyclr.tuning.tune`.
    """
    request = make_request(task, source=source, **wanted)
    return make_plan(request, measure(task, request))


def measure(task: Task, request: Request) -> Speeds:
    """Time a few updates at each batch size that is compared, the task's own first."""
    own = request.facts.batch_size
    sizes = dict.fromkeys([own, *(request.batch_size if "batch-size" in request.stages else ())])
    speeds = seconds_per_update(task, sizes, request.seed)
    if not math.isfinite(speeds[own]):
        raise InputError(
            f"the task's own batch size {own} does not fit in memory; set Task.batch_size lower"
        )
    return speeds


def recall_or_measure(task: Task, request: Request, store: TuneStore) -> Speeds:
    """Measure, or read what was measured when the tune was begun."""
    saved = store.recall(_SPEEDS)
    if saved is None:
        return measure(task, request)
    return {int(size): float(seconds) for size, seconds in saved.items()}


def keep(speeds: Speeds, store: TuneStore) -> None:
    """Keep what was measured, so that a tune that is gone on with has the same plan."""
    store.write(_SPEEDS, {str(size): seconds for size, seconds in speeds.items()})


def make_plan(request: Request, speeds: Speeds) -> Plan:
    """Divide a request's budget.

    Args:
        request: What was asked for.
        speeds: Seconds of an update by batch size.

    Raises:
        InputError: The budget is too small.
    """
    own = request.facts.batch_size
    per_epoch = request.facts.updates_per_epoch(own)
    amount, unit = parse_budget(request.budget)
    budget = budget_updates(
        amount, unit, run=request.run, per_epoch=per_epoch, seconds_per_update=speeds[own]
    )
    sweep = min(100, max(60, request.run // 10))
    wishes = _wishes(request, speeds)
    timed = UPDATES * len(speeds)
    plan = divide(budget - timed, wishes, sweep=sweep, run=request.run)
    if plan is None:
        least = smallest_budget(wishes, sweep=sweep, run=request.run) + timed
        raise refuse(budget, least, per_epoch)
    return replace(plan, seconds_per_update=speeds[own], left_out=request.left_out)


def _longer_runs(stages: Sequence[str]) -> int:
    """Count the longer runs: at each rate, and of the task's own settings if others may win."""
    if "rate" not in stages:
        return 0
    return RATES + (len(stages) > 1)


def _wishes(request: Request, speeds: Speeds) -> Wishes:
    """List everything there is to run."""
    own = request.facts.batch_size
    others = [s for s in speeds if s != own and math.isfinite(speeds[s])]
    asked = request.weight_decay if "weight-decay" in request.stages else ()
    decays = sum(value != request.facts.weight_decay for value in asked)
    return Wishes(
        own=True,
        noise=True,
        batch_sizes=tuple(speeds[size] / speeds[own] for size in others),
        decays=decays,
        bisections=BISECTIONS if decays else 0,
        momenta=len(request.momenta()) if "momentum" in request.stages else 0,
        rates=_longer_runs(request.stages),
    )
