"""What the drivers that train for a while demand of their arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import DataError, InputError, complaint
from cyclr.integrations.torch.steps import Loss, TrainStep, needs_closure
from cyclr.integrations.validation import check_callable
from cyclr.schedules.fields import Constraint


def check_training(models: list[Any], optimizers: list[Any]) -> None:
    """Refuse what cannot be trained.

    Raises:
        InputError: A model is none or has no parameters, or an optimizer is none or of others'.
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
    held = {id(parameter) for model in models for parameter in model.parameters()}
    for optimizer in optimizers:
        if not any(id(p) in held for group in optimizer.param_groups for p in group["params"]):
            raise InputError(
                "none of the optimizer's parameters belongs to the model, so training would not "
                "change it; make the optimizer from this model's parameters"
            )


def check_step(
    models: list[nn.Module],
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
    Constraint(kind="integer", ge=1, is_duration=False).check("accumulate", accumulate)
    Constraint(kind="real", gt=0, optional=True).check("max_grad_norm", max_grad_norm)
    if train_step is None:
        for what, things in (("optimizers", optimizers), ("models", models)):
            if len(things) > 1:
                raise InputError(
                    f"with several {what} range_test cannot know the update; pass train_step=…, "
                    "which makes one of all of them"
                )
        check_callable("loss_fn", loss_fn)
        return
    check_callable("train_step", train_step)
    if loss_fn is not None:
        raise InputError(
            "range_test needs either loss_fn (with batches of (inputs, targets)) or train_step; "
            "pass exactly one of them"
        )
    if accumulate != 1 or max_grad_norm is not None:
        raise InputError(
            "accumulate and max_grad_norm belong to the built-in step; do both in your train_step"
        )


def check_precision(
    optimizers: list[Optimizer],
    train_step: TrainStep | None,
    autocast: Any,
    scaler: Any,
) -> None:
    """Refuse a type or a scaler that cannot be used.

    Raises:
        InputError: They are none, or the optimizer makes its own evaluations.
    """
    if autocast is not None and not isinstance(autocast, torch.dtype):
        raise InputError(
            complaint("autocast", "a torch.dtype", autocast, "pass such as torch.bfloat16")
        )
    if scaler is None:
        return
    if not isinstance(scaler, torch.amp.GradScaler):
        raise InputError(complaint("scaler", "a torch.amp.GradScaler", scaler, "pass yours"))
    if train_step is None and any(map(needs_closure, optimizers)):
        raise InputError(
            f"{type(optimizers[0]).__name__} evaluates the loss itself, and its gradients would "
            "never be unscaled; leave out scaler"
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
