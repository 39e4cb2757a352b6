"""A task's parts, all made from one seed at one batch size: model, optimizer, loaders."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import set_seed

from cyclr import jsonfile
from cyclr.errors import DataError, InputError, SpecError, TaskError, complaint
from cyclr.experiments.task import Task
from cyclr.recipe import Recipe
from cyclr.schedules import Constant, Units
from cyclr.training import make_loader

_MADE: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()  # by tasks, in this process


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A task, built: everything made from one seed, at one batch size."""

    task: Task
    seed: int
    model: Any
    optimizer: Any
    batches: Any
    validation: Any
    batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch."""
        return len(self.batches)


def batch_size_of(recipe: Recipe) -> int | None:
    """Give the batch size a recipe says to train at; None if it says nothing.

    Raises:
        SpecError: It changes along the way, or is not a whole number ≥ 1.
    """
    schedule = recipe.batch_size
    if schedule is None:
        return None
    remedy = "drop it with recipe.replace(batch_size=None), or let a loader of your own follow it"
    if not isinstance(schedule, Constant):
        constraint = "a Constant, since a task is trained at one batch size"
        raise SpecError(complaint("recipe.batch_size", constraint, schedule, remedy))
    if schedule.value != int(schedule.value) or schedule.value < 1:
        constraint = "a whole number ≥ 1"
        raise SpecError(complaint("recipe.batch_size.value", constraint, schedule.value, remedy))
    return int(schedule.value)


def build_for(
    task: Task, path: str | os.PathLike[str], *, seed: int = 0, accumulate: int = 1
) -> tuple[Parts, Recipe]:
    """Make a task's parts for a recipe in a file, at the batch size the recipe says.

    Durations in it such as ``"4ep"`` are turned into steps: 4 epochs at that batch size. What the
    recipe says itself of its length or its epochs counts.

    Args:
        task: The task.
        path: The recipe's file.
        seed: As for :func:`build`.
        accumulate: Micro-batches per update, ≥ 1, that an epoch's updates are counted by.

    Raises:
        SpecError: The file cannot be read or is not a recipe, or its batch size changes.
        TaskError: See :func:`build`.
    """
    jsonfile.read(path, what="a recipe")  # before the data is touched
    parts = build(task, seed=seed)
    recipe = _load(path, parts, accumulate)
    size = batch_size_of(recipe)
    if size is not None and size != parts.batch_size:
        parts = build(task, seed=seed, batch_size=size)
        recipe = _load(path, parts, accumulate)
    return parts, recipe


def _load(path: str | os.PathLike[str], parts: Parts, accumulate: int) -> Recipe:
    per_epoch = max(1, parts.steps_per_epoch // accumulate)
    return Recipe.load(path, units=Units(steps_per_epoch=per_epoch))


def build(task: Task, *, seed: int = 0, batch_size: int | None = None) -> Parts:
    """Make a task's model, optimizer and loaders.

    Args:
        task: The task.
        seed: Seed of Python's, NumPy's and torch's random generators, and of the data's order.
        batch_size: In place of the task's own, ≥ 1.

    Raises:
        TaskError: One of the task's functions fails; the message carries its words.
        DataError: There is no data.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be in [0, 2**32), got {seed}; NumPy takes no other")
    set_seed(seed)
    size = task.batch_size if batch_size is None else batch_size
    try:
        if isinstance(task.model, torch.nn.Module):
            raise TaskError("Task.model must be a function that makes a model, not a model itself")
        model = task.model()
        if next(model.parameters(), None) is None:
            raise TaskError("the model has no parameters, so there is nothing to train")
        if model in _MADE:
            raise TaskError(
                "Task.model gave a model that it had given before, perhaps trained since; make a "
                "new one in every call"
            )
        _MADE.add(model)
        optimizer = task.optimizer(model.parameters())
    except Exception as error:
        what = str(error) if isinstance(error, TaskError) else f"{type(error).__name__}: {error}"
        raise TaskError(f"task {task.name!r} cannot be built: {what}") from error
    options: dict[str, Any] = {"prepare": task.prepare, "augment": task.augment}
    validation = None
    if task.validation is not None:
        with _named("validation"):
            validation = make_loader(task.validation, 4 * size, seed=seed, train=False, **options)
    with _named("train"):
        batches = make_loader(task.train, size, seed=seed, **options)
    return Parts(
        task=task,
        seed=seed,
        model=model,
        optimizer=optimizer,
        batches=batches,
        validation=validation,
        batch_size=size,
    )


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Have an error about data say which of the task's it is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"Task.{field}: {error}") from error
