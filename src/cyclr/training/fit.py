"""``fit``: run a recipe to its end, on Accelerate, and keep what matters in a run folder."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import InputError, complaint
from cyclr.recipe import Recipe
from cyclr.training.assembly import Work, assemble, make_accelerator, own_forward
from cyclr.training.checks import check_extra_state, check_monitor, check_work, try_evaluation
from cyclr.training.folder import RunFolder
from cyclr.training.keeper import FolderKeeper, Step
from cyclr.training.loop import Loop
from cyclr.training.resumption import begin, take_up, train
from cyclr.training.run import Run
from cyclr.training.settings import Settings, SettingsFields
from cyclr.training.signals import StopRequest
from cyclr.training.snapshots import summarize
from cyclr.training.tracking import check_trackers, tracking

COMPLETED = "completed: the recipe's last cycle has ended"


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Any,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    recipe: Recipe,
    *,
    validation: Any = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    folder: RunFolder | str | os.PathLike[str] | None = None,
    resume: bool = False,
    extend: int | None = None,
    accelerator: Accelerator | None = None,
    trackers: Sequence[str] = (),
    on_step: Callable[[Step], None] | None = None,
    on_stopping_point: Callable[[int, Mapping[str, float]], None] | None = None,
    on_evaluation: Callable[[int, Mapping[str, float]], None] | None = None,
    on_recipe: Callable[[Recipe], None] | None = None,
    on_remark: Callable[[str], None] | None = None,
    **settings: Unpack[SettingsFields],
) -> Run:
    """Train a model for exactly the steps of a recipe, which end where a cycle ends.

    At every stopping point (each cycle's end, and the end) the model is evaluated and, with a
    folder, a checkpoint is written. Before the first update one batch of the validation data is
    tried, and what it gives thrown away, so that a metric that fails does so at once. Training is
    in place: afterwards ``model`` is trained.

    A run that was cut off, by whatever, is gone on with by the same call and ``resume=True``;
    model, optimizer and data are to be built as they were. What comes out is bit-identical to a run
    that was never cut off, on the same machine and number of processes.

    Ctrl-C and SIGTERM let the update in progress end, write a checkpoint and raise
    :class:`~cyclr.errors.Interrupted`. A second Ctrl-C interrupts at once.

    Args:
        model: A module with parameters.
        optimizer: Its optimizer; rate, momentum and weight decay are set by the recipe.
        batches: A re-iterable of ``(inputs, targets)`` pairs of tensors, one pass an epoch. Several
            processes each take their part of every batch.
        loss_fn: ``loss_fn(model(inputs), targets)`` gives a scalar tensor, a mean over the batch.
        recipe: What to run; see :func:`~cyclr.planning.plan`.
        validation: A re-iterable like batches, evaluated at the stopping points; None for none.
        metrics: ``metric(outputs, targets)`` by name; ``{"accuracy": …}`` when targets are whole
            numbers and this is None.
        folder: Where to keep the run, a folder that does not exist yet; None to keep nothing. With
            ``resume``, the folder of the run to go on with.
        resume: Go on with the run in the folder, from its last good checkpoint, or from the
            beginning if it has none yet. A run that has finished is given back as it is.
        extend: Cycles to add to the finished run in the folder, ≥ 1; with ``resume``.
        accelerator: An Accelerator of your own, such as one with an FSDP plugin; then precision and
            accumulation are its own.
        trackers: Names of Accelerate's trackers, such as ``"tensorboard"``; needs a folder.
        on_step: Called with ``{"step": k, "loss": …, "lr": …}`` for every update, a few steps late.
        on_stopping_point: Called with the count of updates and the metrics.
        on_evaluation: The same for every evaluation, between stopping points too.
        on_recipe: Called with the recipe at the start, and whenever a decision changes it.
        on_remark: Called with a sentence about a decision, about what a resumption found, or about
            a metric that is NaN, at first; by default the latter two are warnings.
        **settings: The fields of :class:`~cyclr.training.Settings`.

    Raises:
        InputError: An argument breaks its constraint; nothing has been trained.
        CheckpointError: There is no run to go on with, it was another task, recipe, seed or
            setting, or its checkpoints are damaged; nothing has been changed.
        DataError: There is no batch, or the data can be gone through only once.
        TrainingError: The loss became NaN or infinite, a checkpoint could not be written, or
            another process is training in the folder.
        Interrupted: A signal came.
    """
    how = _settings(settings, accelerator)
    work = Work(
        model=model,
        optimizer=optimizer,
        batches=batches,
        loss_fn=loss_fn,
        recipe=recipe,
        validation=validation,
        metrics=metrics,
    )
    check_work(work)
    if not resume:  # a run may have been begun when that was not looked at
        check_monitor(work, how)
    _check_folder(folder, how, resume=resume, extend=extend)
    place = folder.path if isinstance(folder, RunFolder) else folder
    if place is not None:
        check_extra_state(model)
    check_trackers(trackers, place)
    accelerator = make_accelerator(how) if accelerator is None else accelerator
    main = accelerator.is_main_process
    warn = _warn if on_remark is None else on_remark
    home = _home(folder, resume=resume) if main or resume else None
    if home is not None and resume:
        done = take_up(home, work, how, extend, main=main)
        if done is not None:
            return done
    keeper = FolderKeeper(
        home if main else None,
        kept=place is not None,
        model=model,
        optimizer=optimizer,
        on_step=on_step if main else None,
        on_stopping_point=on_stopping_point if main else None,
        on_evaluation=on_evaluation if main else None,
        on_recipe=on_recipe if main else None,
        tell=on_remark if main and on_remark is not None else _ignore,
        warn=warn if main else _ignore,
    )
    with own_forward(model):
        loop = assemble(work, how, accelerator, keeper, StopRequest())
        if not resume:
            try_evaluation(loop.evaluate, how)
        with keeper, loop.stop, tracking(accelerator, trackers, place) as start:
            begin(home, loop, keeper, work, warn)
            keeper.track = start(loop.step, loop.metrics if loop.evaluated_here else {})
            train(home, loop, keeper)
            run = _summary(loop, keeper, None if place is None else Path(place))
            if how.snapshots:
                run = _with_snapshots(run, loop, work)
            keeper.finish(run)
            loop.processes.first_says(run.steps)  # for nobody the run has ended before it is whole
    return run


def _settings(given: Mapping[str, Any], accelerator: Accelerator | None) -> Settings:
    known = [field.name for field in dataclasses.fields(Settings)]
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"fit() has no argument {unknown[0]!r}; its settings are {known}")
    if accelerator is None:
        return Settings(**given)
    own = {
        "accumulate": accelerator.gradient_accumulation_steps,
        "mixed_precision": accelerator.mixed_precision,
    }
    for name, value in own.items():
        if given.get(name, value) != value:
            remedy = "set it in the Accelerator alone"
            raise InputError(complaint(name, f"the accelerator's ({value})", given[name], remedy))
    return Settings(**{**given, **own})


def _check_folder(folder: object, how: Settings, *, resume: bool, extend: int | None) -> None:
    if how.snapshots and folder is None:
        raise InputError("snapshots are kept in a run folder; pass folder=… as well")
    if resume and folder is None:
        raise InputError("resume goes on with a run in its folder; pass folder=… as well")
    if extend is not None and not resume:
        raise InputError("extend adds cycles to a run in its folder; pass resume=True as well")


def _home(folder: Any, *, resume: bool) -> RunFolder | None:
    if folder is None or isinstance(folder, RunFolder):
        return folder
    return RunFolder.existing(folder) if resume else RunFolder(folder)


def _warn(remark: str) -> None:
    warnings.warn(remark, stacklevel=3)


def _ignore(_: str) -> None:
    """Say nothing of a decision: the log and the run's summary have it."""


def _summary(loop: Loop, keeper: FolderKeeper, place: Path | None) -> Run:
    ends = loop.recipe.lr.cycle_ends(loop.step)
    return Run(
        recipe=loop.recipe,
        steps=loop.step,
        outcome=f"stopped at a cycle's end: {loop.ended}" if loop.ended else COMPLETED,
        metrics=dict(loop.metrics),
        folder=place,
        recommended=ends[-1] if ends else None,
        best=loop.judge.best_step,
        skipped=loop.skipped,
        decisions=tuple(keeper.decisions),
        extensions=keeper.extensions,
    )


def _with_snapshots(run: Run, loop: Loop, work: Work) -> Run:
    """Measure what the cycle ends' models give together; one process does."""
    assert run.folder is not None
    found: dict[str, Any] = {}
    if loop.processes.main and run.recommended is not None:
        found = summarize(
            run.folder,
            work.model,
            work.batches,
            work.validation,
            work.loss_fn,
            work.metrics,
        )
    return dataclasses.replace(run, snapshots=loop.processes.first_says(found))
