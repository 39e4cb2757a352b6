"""``tune``: batch size, rate, momentum and weight decay, within a budget, into a recipe."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cyclr.errors import InputError, Interrupted
from cyclr.experiments.task import Task
from cyclr.experiments.tasks import load_task
from cyclr.schedules.fields import Constraint
from cyclr.training.distributed import together
from cyclr.tuning.budget import Plan
from cyclr.tuning.desk import Desk
from cyclr.tuning.fanout import FanOut, Watch
from cyclr.tuning.planning import keep, make_plan, recall_or_measure
from cyclr.tuning.request import Request, make_request
from cyclr.tuning.result import Tuning, final_recipe
from cyclr.tuning.speed import UPDATES
from cyclr.tuning.stages import Stages
from cyclr.tuning.store import TuneStore
from cyclr.tuning.study import Study
from cyclr.tuning.trial import TrialResult
from cyclr.tuning.words import paragraph


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
    """Tune batch size, rate, momentum and weight decay by short runs, the disciplined way.

    Every short run is a training, judged by its validation loss. The rate is read off a range
    test; momenta m are compared at equal lr / (1 − m), weight decays at the same rate, beside a
    range test each. Half of the budget goes into copies of the training in small, all its epochs
    on a share of the examples: of the settings that were chosen, at their rate and at three and
    nine times of it. See :doc:`tuning`.

    Args:
        task: The task, or its name.
        budget: What all of it may cost: updates, or ``"10ep"``, ``"2run"`` (lengths of the training
            the recipe is for), ``"20min"``.
        epochs: Length of the training the recipe is for, ≥ 1; the task's own if None.
        policy: Of the recipe; see :func:`~cyclr.planning.plan`.
        seed: Seed of everything random.
        folder: Where to keep it, new or of the same request: finished trials are read, and not run
            again. None to keep nothing.
        weight_decay: The grid, each in [0, 1]; ``"shallow"`` (1e-2, 1e-3, 1e-4) or ``"deep"``
            (1e-3, 1e-4, 1e-5, 0). None for shallow with fewer than 10 weight layers, otherwise
            deep.
        momentum: Values to try in [0, 1), and ``"cyclical"`` for .95 to .85 opposite to the rate;
            None for .99, .97, .95, .9 and cyclical. For the Adam family, beta1.
        batch_size: Sizes to compare with the task's own at equal time; None for no comparison.
        stages: Which of ``"batch-size"``, ``"rate"``, ``"momentum"`` and ``"weight-decay"``; None
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
    kept = None if storage is None else Study(storage, study or request.facts.name, task.name)
    fan = FanOut(task=task, source=source, jobs=jobs, ray=ray, threads=threads, watch=on_update)
    store = TuneStore(folder)
    store.check(request.to_dict())
    speeds = recall_or_measure(task, request, store)
    plan = make_plan(request, speeds)  # what is refused leaves no trace in the folder
    with store.open(request.to_dict()):
        keep(speeds, store)
        store.write("plan.json", plan.to_dict())
        if on_plan is not None:
            on_plan(plan)
        costs = {s: seconds / speeds[request.facts.batch_size] for s, seconds in speeds.items()}
        desk = Desk(fan, store, costs, _each(kept, on_trial), _each(kept, on_read))
        try:
            return _run(request, desk, store, plan, costs)
        except KeyboardInterrupt as stopped:
            raise _interrupted(stopped, store, desk) from stopped


def _check(
    *, jobs: int, threads: int | None, ray: str | None, storage: str | None, study: str | None
) -> None:
    if together().count > 1:
        raise InputError(
            "a tune is begun in one process and shares its trials out itself; run it without "
            "torchrun or accelerate launch, with jobs or ray"
        )
    Constraint(kind="integer", ge=1, is_duration=False).check("jobs", jobs)
    Constraint(kind="integer", ge=1, is_duration=False, optional=True).check("threads", threads)
    if ray is not None and jobs > 1:
        raise InputError("trials run on the Ray cluster or in jobs here; pass either ray or jobs")
    if study is not None and storage is None:
        raise InputError("study names a study in a storage; pass storage as well")


def _each(
    study: Study | None, also: Callable[[TrialResult], None] | None
) -> Callable[[TrialResult], None]:
    """Make what is called with every result."""

    def take(result: TrialResult) -> None:
        if study is not None:
            study.add(result)
        if also is not None:
            also(result)

    return take


def _interrupted(stopped: KeyboardInterrupt, store: TuneStore, desk: Desk) -> Interrupted:
    number = stopped.signal if isinstance(stopped, Interrupted) else signal.SIGINT
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    if store.folder is None:
        how = "there is no folder, so nothing has been kept"
    else:
        count = f"{store.count} finished trial{'' if store.count == 1 else 's'}"
        folder = store.folder
        how = f"{count} kept in {folder}; the same with --out {folder} (folder=…) goes on"
    made = sum(result.cost for result in desk.results)
    return Interrupted(f"stopped by {name}; {how}", signal=int(number), step=made)


def _run(
    request: Request, desk: Desk, store: TuneStore, plan: Plan, costs: Mapping[int, float]
) -> Tuning:
    """Run the stages, and conclude."""
    stages = Stages(request, desk, plan, costs)
    winner = stages.run()
    beside = stages.beside(winner)
    tuning = Tuning(
        recipe=final_recipe(request, winner, stages.choices, stages.caveats, costs),
        trials=tuple(desk.results),
        winner=winner,
        words=paragraph(request, beside, winner, stages.choices, stages.noise, stages.within),
        plan=plan,
        request=request,
        noise=stages.noise,
        within=stages.within,
        remarks=(*request.left_out, *stages.remarks),
        timed=UPDATES * len(costs),
        folder=store.folder,
    )
    store.write("table.md", tuning.table())
    store.write("recipe.json", tuning.recipe.to_dict())
    store.write("result.json", tuning.to_dict())
    return tuning
