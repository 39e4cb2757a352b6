"""Trial trainings in torch: short one-cycle runs from the same weights, nothing of them remains."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import InputError, complaint
from cyclr.integrations.torch.checks import (
    check_batches,
    check_precision,
    check_step,
    check_training,
)
from cyclr.integrations.torch.groups import wrapped
from cyclr.integrations.torch.modes import to_training
from cyclr.integrations.torch.nonfinite import blames_values, each_warning_once
from cyclr.integrations.torch.own_warmup import divided_out
from cyclr.integrations.torch.processes import Processes
from cyclr.integrations.torch.scheduler import Scheduler
from cyclr.integrations.torch.snapshot import Snapshot
from cyclr.integrations.torch.steps import Loss, TrainStep, default_step
from cyclr.integrations.torch.surroundings import owners_of
from cyclr.integrations.torch.sweeping import endless, loss_of, unheard
from cyclr.planning import auto_momentum, plan
from cyclr.rangetest.confirm import CONFIRMED, SHARE, next_rate, settle, trial_steps
from cyclr.rangetest.reading import Reading, Trial
from cyclr.recipe import Recipe
from cyclr.schedules.fields import Constraint


def confirm(
    reading: Reading,
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Any],
    loss_fn: Loss | None = None,
    *,
    total_steps: int,
    share: float = SHARE,
    train_step: TrainStep | None = None,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    snapshot_dir: str | os.PathLike[str] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Reading:
    """Train shortly at max_lr and at rates beside it; move the bounds to what does better.

    Each trial starts from the weights the model has, sees the same batches with the same random
    numbers, and runs :func:`~cyclr.planning.plan`'s one-cycle, momentum included, over its few
    steps. Afterwards
    everything is as it was, as after
    :func:`~cyclr.integrations.torch.range_test`.

    Args:
        reading: Read off the record of a range test on this model, optimizer and data.
        model: As for range_test.
        optimizer: As for range_test; one.
        batches: As for range_test.
        loss_fn: As for range_test.
        total_steps: The budget of the training to come, in updates.
        share: What the sweep and the trials may cost together, of that budget, in (0, 1).
        train_step: As for range_test.
        accumulate: As for range_test.
        max_grad_norm: As for range_test.
        autocast: As for range_test.
        scaler: As for range_test.
        snapshot_dir: As for range_test.
        on_trial: Called after every trial, for progress.

    Returns:
        What :func:`cyclr.rangetest.confirm.settle` concludes.

    Raises:
        InputError: The budget is too small for trials, or arguments do not go together.
        DataError: ``batches`` is empty, or an iterator that cannot be started again.
    """
    _check_reading(reading)
    check_training([model], [optimizer])
    check_step([model], [optimizer], loss_fn, train_step, accumulate, max_grad_norm)
    check_precision([optimizer], train_step, autocast, scaler)
    check_batches(batches)
    Constraint(kind="integer", ge=1).check("total_steps", total_steps)
    Constraint(kind="real", gt=0, lt=1).check("share", share)
    steps = trial_steps(reading.updates, total_steps, share)
    options: dict[str, Any] = {
        "max_grad_norm": max_grad_norm, "autocast": autocast, "scaler": scaler
    }  # fmt: skip
    own = train_step is None
    step = default_step(loss_fn, **options) if train_step is None else train_step
    trials: list[Trial] = []
    momentum = auto_momentum(reading.optimizer)
    with (
        each_warning_once(),
        Snapshot(
            model,
            optimizer,
            batches,
            *owners_of(train_step),
            called=(loss_fn, scaler),
            folder=snapshot_dir,
        ) as memory,
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        while (max_lr := next_rate(reading, trials)) is not None:
            recipe = plan(_at(reading, max_lr), total_steps=steps, momentum=momentum)
            # Closed before all is put back: what cleans up after itself changes things once more.
            with (
                unheard([optimizer]),
                contextlib.closing(endless(batches, accumulate if own else None)) as stream,
            ):
                loss = _train(model, optimizer, recipe, lambda b: step(model, optimizer, b), stream)
            memory.restore()
            trials.append(Trial(max_lr, loss))
            if on_trial is not None:
                on_trial(trials[-1])
    return settle(reading, trials)


def _check_reading(reading: Any) -> None:
    if not isinstance(reading, Reading):
        remedy = "read the record first: record.read()"
        raise InputError(complaint("reading", "a cyclr reading", reading, remedy))
    if reading.rule.endswith(CONFIRMED):
        remedy = "confirm what record.read() gives"
        raise InputError(complaint("reading", "one that was not confirmed yet", reading, remedy))
    if "group" in reading.optimizer:
        raise InputError(
            f"reading must be of all parameter groups, got one of group "
            f"{reading.optimizer['group']} alone; trials move them all, so compare rates for one "
            "group by trainings of your own"
        )


def _at(reading: Reading, max_lr: float) -> Reading:
    return dataclasses.replace(reading, base_lr=max_lr / 10, max_lr=max_lr, caveats=())


def _train(
    model: nn.Module,
    optimizer: Optimizer,
    recipe: Recipe,
    update: Callable[[Any], Any],
    stream: Any,
) -> tuple[float, ...]:
    """Train by a recipe, and give the losses, up to the first that is not finite."""
    processes = Processes(next(model.parameters()).device)
    scheduler = Scheduler(wrapped(optimizer), recipe)
    to_training(model)
    losses: list[float] = []
    for _ in range(recipe.total_steps):
        batch = next(stream)
        try:
            with divided_out(optimizer):
                told = update(batch)
        except Exception as error:
            if not losses or not blames_values(error, [model]):
                raise
            told = math.nan
        losses.append(processes.mean({"loss": loss_of(told)})["loss"])
        if not math.isfinite(losses[-1]):
            break
        scheduler.step()
    return tuple(losses)
