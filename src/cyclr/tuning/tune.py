"""``tune``: weight decay, momentum, batch size and rate, within a budget, into a recipe."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyclr.errors import InputError, Interrupted
from cyclr.experiments.task import Task
from cyclr.experiments.tasks import load_task
from cyclr.recipe import Recipe
from cyclr.schedules import Constant
from cyclr.schedules.fields import Constraint
from cyclr.tuning.budget import (
    BISECTIONS,
    Plan,
    Wishes,
    budget_updates,
    divide,
    refuse,
    smallest_budget,
)
from cyclr.tuning.fanout import FanOut, Watch
from cyclr.tuning.request import Request, make_request, parse_budget
from cyclr.tuning.speed import UPDATES, seconds_per_update
from cyclr.tuning.stages import Desk, Stages
from cyclr.tuning.store import TuneStore
from cyclr.tuning.table import markdown
from cyclr.tuning.trial import TrialResult, make_recipe
from cyclr.tuning.words import describe

Speeds = dict[int, float]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A finished tune.

    Attributes:
        recipe: What to train by.
        trials: Every trial, in order.
        winner: The trial whose settings the recipe has.
        words: What was found, in a paragraph.
        plan: How the budget was divided.
        request: What was asked for.
        noise: Relative difference of two losses that differ in the seed alone; None if it was not
            measured.
        remarks: What was left out, and why.
        timed: Updates that were timed before the plan was made.
        folder: Where it is kept, or None.
    """

    recipe: Recipe
    trials: tuple[TrialResult, ...]
    winner: TrialResult
    words: str
    plan: Plan
    request: Request
    noise: float | None
    remarks: tuple[str, ...]
    timed: int
    folder: Path | None

    @property
    def updates(self) -> int:
        """Updates that were made: of range tests, of trainings, and the few that were timed."""
        return self.timed + sum(result.cost for result in self.trials)

    @property
    def seconds(self) -> float:
        """What the trials took, added up."""
        return sum(result.seconds for result in self.trials)

    def table(self) -> str:
        """Make a Markdown table of what was tried."""
        return markdown(self.trials, self.winner)

    def to_dict(self) -> dict[str, Any]:
        """Write the result as plain data."""
        return {
            "cyclr_tuning": 1,
            "words": self.words,
            "winner": self.winner.trial.key,
            "noise": self.noise,
            "remarks": list(self.remarks),
            "updates": self.updates,
            "seconds": round(self.seconds, 3),
            "folder": None if self.folder is None else str(self.folder),
            "plan": self.plan.to_dict(),
            "trials": [result.to_dict() for result in self.trials],
            "recipe": self.recipe.to_dict(),
        }


def tune(
    task: Task | str,
    *,
    budget: int | str = "2run",
    epochs: int | None = None,
    policy: str = "one_cycle",
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    weight_decay: str | Iterable[float] | None = None,
    momentum: Iterable[float | str] | None = None,
    batch_size: Iterable[int] | None = None,
    stages: Iterable[str] | None = None,
    start: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    ray: str | None = None,
    threads: int | None = None,
    storage: str | None = None,
    study: str | None = None,
    source: Mapping[str, Any] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_trial: Callable[[TrialResult], None] | None = None,
    on_read: Callable[[TrialResult], None] | None = None,
    on_update: Watch | None = None,
) -> Tuning:
    """Tune weight decay, momentum, batch size and rate by short runs, the disciplined way.

    Every short run is a range test and a training by the bounds read off it, judged by its
    validation loss. See :doc:`tuning`.

    Args:
        task: The task, or its name.
        budget: What all of it may cost: updates, or ``"10ep"``, ``"2run"`` (lengths of the training
            the recipe is for), ``"20min"``.
        epochs: Length of the training the recipe is for, ≥ 1; the task's own if None.
        policy: Of the recipe; see :func:`cyclr.plan`.
        seed: Seed of everything random.
        folder: Where to keep it, new or of the same request: finished trials are read, and not run
            again. None to keep nothing.
        weight_decay: The grid, each in [0, 1]; ``"shallow"`` (1e-2, 1e-3, 1e-4) or ``"deep"``
            (1e-3, 1e-4, 1e-5, 0). None for shallow with fewer than 10 weight layers, otherwise
            deep.
        momentum: Values to try in [0, 1), and ``"cyclical"`` for .95 to .85 opposite to the rate;
            None for .99, .97, .95, .9 and cyclical. For the Adam family, beta1.
        batch_size: Sizes to compare with the task's own at equal time; None for no comparison.
        stages: Which of ``"batch-size"``, ``"weight-decay"``, ``"momentum"`` and ``"rate"``; None
            for all there is something to compare in.
        start: Weights that every trial starts from: a safetensors file, or a run's folder.
        jobs: Trials at a time on this machine, ≥ 1.
        ray: Address of a Ray cluster to run on instead, or ``"local"`` for one of its own.
        threads: Threads of each trial, ≥ 1; None for the cores over the jobs.
        storage: An Optuna storage, such as ``"sqlite:///x.db"``, to put finished trials in as well.
        study: The study's name there; the task's name if None.
        source: How the task is loaded elsewhere, as ``{"task": name, "data_dir": …}``; None for a
            task made in Python, which is sent to workers as it is.
        on_plan: Called with the plan before anything is trained.
        on_trial: Called with every new result.
        on_read: Called with every result that was read from the folder.
        on_update: Called with a trial, the updates it has made and a few words, while it runs in
            this process.

    Raises:
        TaskError: The task has no validation data, or cannot be built.
        InputError: An argument breaks its constraint, the budget is too small, or the folder is of
            another request.
        TrainingError: Not one trial trained to its end.
        Interrupted: A signal came; finished trials are kept.

    Reference: arXiv 1803.09820.
    """
    if isinstance(task, str):
        source = {"task": task, "data_dir": None}
        task = load_task(task)
    _check(jobs=jobs, threads=threads, ray=ray, storage=storage, study=study)
    request = make_request(
        task,
        budget=budget,
        epochs=epochs,
        policy=policy,
        seed=seed,
        weight_decay=weight_decay,
        momentum=momentum,
        batch_size=batch_size,
        stages=stages,
        start=start,
        source=source,
    )
    fan = FanOut(task=task, source=source, jobs=jobs, ray=ray, threads=threads, watch=on_update)
    with TuneStore(folder).open(request.to_dict()) as store:
        speeds = _speeds(task, request, store)
        plan = make_plan(request, speeds)
        store.write("plan.json", plan.to_dict())
        if on_plan is not None:
            on_plan(plan)
        costs = {s: seconds / speeds[request.facts.batch_size] for s, seconds in speeds.items()}
        desk = Desk(fan, store, costs, on_trial or _ignore, on_read or _ignore)
        try:
            return _run(request, desk, store, plan, costs)
        except KeyboardInterrupt as stopped:
            raise _interrupted(stopped, store, desk) from stopped


def plan_only(task: Task, *, source: Mapping[str, Any] | None = None, **wanted: Any) -> Plan:
    """Say how a tune would divide its budget, and what it would cost, without running it.

    Args:
        task: The task.
        source: As for :func:`tune`.
        **wanted: As for :func:`tune`: what to tune and how, but not where.

    Raises:
        InputError: As for :func:`tune`.
    """
    request = make_request(task, source=source, **wanted)
    return make_plan(request, measure(task, request))


def _check(
    *, jobs: int, threads: int | None, ray: str | None, storage: str | None, study: str | None
) -> None:
    Constraint(kind="integer", ge=1).check("jobs", jobs)
    Constraint(kind="integer", ge=1, optional=True).check("threads", threads)
    if ray is not None and jobs > 1:
        raise InputError("trials run on the Ray cluster or in jobs here; pass either ray or jobs")
    if study is not None and storage is None:
        raise InputError("study names a study in a storage; pass storage as well")


def _ignore(_: TrialResult) -> None:
    """Show nothing."""


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


def _speeds(task: Task, request: Request, store: TuneStore) -> Speeds:
    """Measure, or read what was measured when the tune was begun."""
    saved = store.recall("speeds.json")
    if saved is None:
        speeds = measure(task, request)
        store.write("speeds.json", {str(size): seconds for size, seconds in speeds.items()})
        return speeds
    return {int(size): float(seconds) for size, seconds in saved.items()}


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
    return replace(plan, seconds_per_update=speeds[own])


def _wishes(request: Request, speeds: Speeds) -> Wishes:
    """List everything there is to run."""
    own = request.facts.batch_size
    others = [s for s in speeds if s != own and math.isfinite(speeds[s])]
    decays = "weight-decay" in request.stages
    own_decay = request.facts.weight_decay
    return Wishes(
        own=True,
        noise=True,
        batch_sizes=tuple(speeds[size] / speeds[own] for size in others),
        decays=sum(value != own_decay for value in request.weight_decay) if decays else 0,
        bisections=BISECTIONS if decays else 0,
        momenta=len(request.momenta()) if "momentum" in request.stages else 0,
        rates=2 if "rate" in request.stages else 0,
    )


def _interrupted(stopped: KeyboardInterrupt, store: TuneStore, desk: Desk) -> Interrupted:
    number = stopped.signal if isinstance(stopped, Interrupted) else signal.SIGINT
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    if store.folder is None:
        how = "there is no folder, so nothing has been kept"
    else:
        how = f"{store.count} finished trials are kept in {store.folder}; the same again goes on"
    made = sum(result.cost for result in desk.results)
    return Interrupted(f"stopped by {name}; {how}", signal=int(number), step=made)


def _run(
    request: Request, desk: Desk, store: TuneStore, plan: Plan, costs: Mapping[int, float]
) -> Tuning:
    """Run the stages, and conclude."""
    stages = Stages(request, desk, plan, costs)
    winner = stages.run()
    words = describe(winner)
    tuning = Tuning(
        recipe=_recipe(request, winner, costs),
        trials=tuple(desk.results),
        winner=winner,
        words=words,
        plan=plan,
        request=request,
        noise=stages.noise,
        remarks=(*request.left_out, *stages.remarks),
        timed=UPDATES * len(costs),
        folder=store.folder,
    )
    store.write("table.md", tuning.table())
    store.write("recipe.json", tuning.recipe.to_dict())
    store.write("result.json", tuning.to_dict())
    return tuning


def _recipe(request: Request, winner: TrialResult, costs: Mapping[int, float]) -> Recipe:
    """Plan the training at the winner's settings, as long as one at the task's own batch size."""
    assert winner.bounds is not None
    size = winner.trial.batch_size
    per_epoch = request.facts.updates_per_epoch(size)
    epochs = max(1, round(request.run / costs[size] / per_epoch))
    recipe = make_recipe(winner.trial, winner.bounds, epochs * per_epoch, per_epoch)
    if "batch-size" in request.stages:
        recipe = recipe.replace(batch_size=Constant(value=float(size)))
    return recipe
