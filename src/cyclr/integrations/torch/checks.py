"""What the drivers that train for a while demand of their arguments."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import DataError, InputError, complaint
from cyclr.integrations.torch.steps import Loss, TrainStep
from cyclr.schedules.fields import Constraint


def check_training(models: list[Any], optimizers: list[Any]) -> None:
    """Refuse what cannot be trained.

    Raises:
        InputError: A model is none or has no parameters, or an optimizer is none.
    """
    for model in models:
        if not isinstance(model, nn.Module):
            raise InputError(complaint("model", "a torch module", model, "pass yours"))
        if next(model.parameters(), None) is None:
            raise InputError(
                "the model has no parameters, so there is nothing to train; pass another"
            )
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise InputError(complaint("optimizer", "a torch Optimizer", optimizer, "pass yours"))
    if not models or not optimizers:
        raise InputError("range_test needs at least one model and one optimizer, got an empty list")


def check_step(
    optimizers: list[Optimizer],
    loss_fn: Loss | None,
    train_step: TrainStep | None,
    accumulate: int,
    max_grad_norm: float | None,
) -> None:
    """Refuse arguments of an update that do not go together.

    Raises:
        InputError: They contradict each other, or one breaks its constraint.
    """
    Constraint(kind="integer", ge=1).check("accumulate", accumulate)
    Constraint(kind="real", gt=0, optional=True).check("max_grad_norm", max_grad_norm)
    if train_step is None:
        if len(optimizers) > 1:
            raise InputError(
                "with several optimizers range_test cannot know the update; pass train_step=…, "
                "which makes one of all of them"
            )
        return
    if loss_fn is not None:
        raise InputError(
            "range_test needs either loss_fn (with batches of (inputs, targets)) or train_step; "
            "pass exactly one of them"
        )
    if accumulate != 1 or max_grad_norm is not None:
        raise InputError(
            "accumulate and max_grad_norm belong to the built-in step; do both in your train_step"
        )


def check_batches(batches: Any) -> None:
    """Refuse data that cannot be gone through again.

    Raises:
        DataError: It is an iterator, or nothing to iterate over.
    """
    if hasattr(batches, "__next__"):
        raise DataError(
            "batches is an iterator, which cannot be put back to where it was; "
            "pass what it was made from, such as the data loader"
        )
    if not hasattr(batches, "__iter__"):
        raise DataError(complaint("batches", "re-iterable", batches, "pass a data loader or list"))
