"""A task: a model, its data, its loss and its optimizer, and nothing about the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cyclr.errors import TaskError, complaint
from cyclr.schedules.fields import Constraint


@dataclass(frozen=True, kw_only=True)
class Task:
    """What cyclr needs to know to find a rate, plan and train.

    ::

        def digits() -> cyclr.Task:
            return cyclr.Task(
                name="mine",
                model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
                train=(inputs, targets),
                validation=(val_inputs, val_targets),
                loss_fn=nn.functional.cross_entropy,
                optimizer=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
            )

    Attributes:
        name: What to call it; also the beginning of its run folders' names.
        model: Makes a fresh model, from torch's random generator.
        train: ``(inputs, targets)`` tensors of equal length, or a map-style torch data set whose
            items are ``(input, target)``.
        validation: The same, for evaluation at cycle ends; None for none.
        loss_fn: ``loss_fn(model(inputs), targets)`` gives a scalar tensor.
        optimizer: Makes the optimizer from an iterable of parameters. Its rate does not matter.
        batch_size: Examples per update, ≥ 1.
        epochs: Budget when the user gives none, ≥ 1.
        metrics: By name, ``metric(outputs, targets)`` per example or as a mean. None means
            ``accuracy`` if targets are whole numbers and outputs have a column for each class,
            otherwise nothing but the loss. A metric's values are averaged over the examples, so
            one such as recall, which a batch alone does not have, comes out otherwise.
        prepare: Applied to every batch's inputs, in training and evaluation; for in-memory data,
            such as scaling bytes.
        augment: ``augment(inputs, generator)`` changes a training batch at random, drawing only
            from that generator; for in-memory data.

    Raises:
        TaskError: A field breaks its constraint.
    """

    name: str
    model: Callable[[], Any]
    train: Any
    validation: Any = None
    loss_fn: Callable[[Any, Any], Any]
    optimizer: Callable[[Any], Any]
    batch_size: int = 128
    epochs: int = 10
    metrics: dict[str, Callable[[Any, Any], Any]] | None = None
    prepare: Callable[[Any], Any] | None = None
    augment: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs"):
            try:
                Constraint(kind="integer", ge=1, is_duration=False).check(
                    f"Task.{name}", getattr(self, name)
                )
            except ValueError as error:
                raise TaskError(str(error)) from error
        name, sound = self.name, isinstance(self.name, str) and self.name.strip()
        if not sound or any(mark in name for mark in "/\\\0"):
            constraint, remedy = "a name without slashes", "run folders' names begin with it"
            raise TaskError(complaint("Task.name", constraint, name, remedy))
        if isinstance(self.loss_fn, type):
            kind = self.loss_fn.__name__
            raise TaskError(
                f"Task.loss_fn must be called as loss_fn(outputs, targets), got the class {kind}; "
                f"make one of it: {kind}()"
            )
        for name in ("model", "loss_fn", "optimizer"):
            if not callable(getattr(self, name)):
                remedy = "pass a function that makes or computes it"
                raise TaskError(complaint(f"Task.{name}", "callable", getattr(self, name), remedy))
