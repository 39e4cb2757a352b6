"""From a task to a finished run: find, plan, train."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from cyclr.errors import InputError, TaskError, TrainingError
from cyclr.experiments.parts import Parts, batch_size_of, build, build_for
from cyclr.experiments.task import Task
from cyclr.integrations.torch import confirm, range_test
from cyclr.integrations.torch.batches import pair, to_device
from cyclr.planning import plan
from cyclr.rangetest import Outcome, RangeRecord, RangeTest, Reading
from cyclr.rangetest.record import LITTLE
from cyclr.recipe import Recipe
from cyclr.training import Run, RunFolder, fit
from cyclr.training.checks import check_optimizer
from cyclr.training.distributed import Processes, together
from cyclr.training.evaluation import evaluate

__all__ = ["Parts", "batch_size_of", "build", "build_for", "challenge", "find", "run_task", "train"]


def find(
    parts: Parts,
    *,
    sweep: Any = None,
    steps: int | None = None,
    repeats: int = 1,
    validate: bool | None = None,
    validate_every: int | None = None,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    mixed_precision: str = "no",
    on_step: Callable[[RangeTest], None] | None = None,
) -> RangeRecord:
    """Run a range test on a task's parts; they are left as they were.

    Several processes, as torchrun starts them, share each batch and come to the same record.

    Args:
        parts: From :func:`~cyclr.experiments.parts.build`.
        sweep: Schedule of the rate, or a range test; by default it finds its range by itself.
        steps: Without a sweep, how dense its rates are.
        repeats: How often to sweep, ≥ 1.
        validate: Measure the validation metrics along the way (slower; Smith's figure). None does
            so where an epoch has twenty updates or fewer, if there is validation data and not more
            of it: there the validation loss is what is read. And if validate_every is given.
        validate_every: As for :func:`cyclr.integrations.torch.range_test`.
        accumulate: Micro-batches per update, ≥ 1, as the training will have.
        max_grad_norm: Clip the gradient's norm to this, > 0, as the training will.
        mixed_precision: As the training will have.
        on_step: Called after every update.

    Raises:
        TaskError: Validation is asked for and the task has no validation data.
        TrainingError: The loss is not finite from the first step.
    """
    by_itself = validate is None and validate_every is None
    if validate is None:
        validate = _has_little_data(parts, accumulate) if by_itself else True
    if validate and parts.validation is None:
        raise TaskError(f"task {parts.task.name!r} has no validation data to validate on")
    options: dict[str, Any] = {"sweep": sweep, "steps": steps, "repeats": repeats}
    options["on_step"] = on_step
    # Of what is measured only to be read, the loss is enough.
    metrics = {} if by_itself else parts.task.metrics
    options["validate"] = _measure(parts, metrics) if validate else None
    options["validate_every"] = validate_every
    processes = together()
    if processes.count > 1:
        if accumulate != 1 or mixed_precision != "no":
            raise InputError(
                "the range test of several processes takes whole batches in full precision; run "
                "cyclr find in one process, and train with --recipe"
            )
        step = _shared_step(processes, parts.task.loss_fn, max_grad_norm)
        record = range_test(parts.model, parts.optimizer, parts.batches, train_step=step, **options)
    else:
        options |= _update_options(accumulate, max_grad_norm, mixed_precision)
        record = range_test(
            parts.model, parts.optimizer, parts.batches, parts.task.loss_fn, **options
        )
    if not math.isfinite(record.loss[0]) and record.outcome is Outcome.NON_FINITE:
        raise TrainingError(
            f"the loss is {record.loss[0]} from the first step, at a rate of {record.lr[0]:g}; "
            "no rate can mend that: check the model, the inputs and the loss function"
        )
    return record


def _has_little_data(parts: Parts, accumulate: int) -> bool:
    """Say whether the validation loss is what will be read, if there is validation data.

    With more of it than training data it would take too long to measure.
    """
    if parts.validation is None or max(1, len(parts.batches) // accumulate) > LITTLE:
        return False
    return len(parts.validation.dataset) <= len(parts.batches.dataset)


def challenge(
    parts: Parts,
    reading: Reading,
    *,
    total_steps: int,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    mixed_precision: str = "no",
) -> Reading:
    """Confirm a reading by a second sweep; see :func:`cyclr.integrations.torch.confirm`.

    Args:
        parts: From :func:`~cyclr.experiments.parts.build`; they are left as they were.
        reading: Of a record of :func:`find`.
        total_steps: The budget in updates.
        accumulate: As for find.
        max_grad_norm: As for find.
        mixed_precision: As for find.

    Raises:
        InputError: The budget is too small for it, or there are several processes.
    """
    if together().count > 1:
        raise InputError(
            "confirming takes one process; do it there with cyclr fit, and train with its recipe"
        )
    metrics = {} if reading.metric == "val_loss" else parts.task.metrics
    return confirm(
        reading,
        parts.model,
        parts.optimizer,
        parts.batches,
        parts.task.loss_fn,
        total_steps=total_steps,
        validate=None if reading.metric is None else _measure(parts, metrics),
        **_update_options(accumulate, max_grad_norm, mixed_precision),
    )


def _update_options(
    accumulate: int, max_grad_norm: float | None, mixed_precision: str
) -> dict[str, Any]:
    """Say how the torch drivers make an update."""
    return {
        "accumulate": accumulate,
        "max_grad_norm": max_grad_norm,
        "autocast": {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mixed_precision),
        "scaler": torch.amp.GradScaler() if mixed_precision == "fp16" else None,
    }


def _shared_step(
    processes: Processes, loss_fn: Callable[[Any, Any], Any], max_grad_norm: float | None
) -> Callable[[Any, Any, Any], Any]:
    """Make one update of a range test that several processes run together."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        part, weight = processes.share(pair(batch, remedy="make the loader give pairs"))
        inputs, targets = to_device(part, next(model.parameters()).device)
        loss = loss_fn(model(inputs), targets) * weight
        loss.backward()
        processes.average_gradients(model)
        if max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        return processes.mean(loss.detach())

    return step


def _measure(parts: Parts, metrics: Any) -> Callable[[Any], Mapping[str, float]]:
    return lambda model: evaluate(model, parts.validation, parts.task.loss_fn, metrics)


def train(
    parts: Parts,
    recipe: Recipe,
    *,
    folder: str | os.PathLike[str] | None = None,
    record: RangeRecord | None = None,
    reading: Mapping[str, Any] | None = None,
    resume: bool = False,
    source: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Train a task's parts by a recipe, in a run folder that also keeps how it came about.

    Args:
        parts: From :func:`~cyclr.experiments.parts.build`; its model is trained in place.
        recipe: What to run.
        folder: Where to keep the run; must not exist yet, unless it is resumed. None to keep
            nothing.
        record: The range test's record, to be kept with the run.
        reading: What was read off it, as plain data.
        resume: Go on with the run in the folder; see :func:`cyclr.training.fit`.
        source: How the task was found, to be kept with the run.
        **options: Passed to :func:`cyclr.training.fit`.

    Raises:
        SpecError: The recipe's batch size changes.
        InputError: The recipe is for another batch size than the parts were built with.
        CheckpointError: The run to go on with was of another task or seed.
    """
    size = batch_size_of(recipe)
    if size is not None and size != parts.batch_size:
        raise InputError(
            f"the recipe is for batches of {size}, and these are of {parts.batch_size}; build with "
            f"batch_size={size}, or drop it with recipe.replace(batch_size=None)"
        )
    home: Any = folder
    facts: dict[str, Any] = {"task": parts.task.name, "seed": parts.seed}
    if folder is not None and resume:
        home = RunFolder.existing(folder, **facts)
    elif folder is not None and together().main:
        facts |= {} if source is None else {"source": dict(source)}
        home = RunFolder(folder, record=record, reading=reading, **facts)
    return fit(
        parts.model,
        parts.optimizer,
        parts.batches,
        parts.task.loss_fn,
        recipe,
        validation=parts.validation,
        metrics=parts.task.metrics,
        folder=home,
        resume=resume,
        **options,
    )


def run_task(
    task: Task,
    *,
    epochs: int | None = None,
    policy: str = "one_cycle",
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Run:
    """Find, plan and train in one call.

    Args:
        task: The task.
        epochs: Budget, ≥ 1; the task's own if None.
        policy: See :func:`~cyclr.planning.plan`.
        seed: Seed of everything random.
        folder: Where to keep the run; must not exist yet. None to keep nothing.

    Raises:
        InputError: The task's optimizer cannot be trained with; nothing has been run.
    """
    parts = build(task, seed=seed)
    check_optimizer(parts.optimizer)
    record = find(parts)
    reading = record.read()
    budget = (task.epochs if epochs is None else epochs) * parts.steps_per_epoch
    recipe = plan(reading, total_steps=budget, policy=policy)
    return train(parts, recipe, folder=folder, record=record, reading=reading.to_dict())
