"""The update that a range test makes when it is not given one."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import DataError, InputError
from cyclr.integrations.torch.batches import pair, to_device
from cyclr.integrations.torch.groups import wrapped
from cyclr.integrations.torch.modes import bare

Loss = Callable[[Any, Any], torch.Tensor]
TrainStep = Callable[[Any, Any, Any], Any]

_FORM = "pass train_step=… to handle batches of your own form"


def default_step(
    loss_fn: Loss | None,
    *,
    max_grad_norm: float | None,
    autocast: torch.dtype | None,
    scaler: torch.amp.GradScaler | None,
) -> TrainStep:
    """Make the usual update, over a list of micro-batches."""
    forward = _Forward(loss_fn)

    def gradients(model: nn.Module, optimizer: Optimizer, batches: Any) -> torch.Tensor:
        device = next(model.parameters()).device
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for batch in batches:
            with _autocast(device, autocast):
                loss = _scalar(forward(model, to_device(batch, device))) / len(batches)
            torch.autograd.backward(loss if scaler is None else scaler.scale(loss))
            losses.append(loss.detach())
        if max_grad_norm is not None:
            if scaler is not None:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        return sum(losses[1:], losses[0])

    def step(model: nn.Module, optimizer: Optimizer, batches: Any) -> Any:
        if needs_closure(optimizer):
            seen: list[torch.Tensor] = []

            def evaluate() -> Any:
                seen.append(gradients(model, optimizer, batches))
                return seen[-1]

            optimizer.step(evaluate)  # what it gives may be lost in a wrapper
            return seen[0]  # at the weights before the update
        loss = gradients(model, optimizer, batches)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        return loss

    return step


class _Forward:
    """A batch's loss, whatever the form of the batch."""

    def __init__(self, loss_fn: Loss | None) -> None:
        self._loss_fn = loss_fn
        self._known: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def __call__(self, model: nn.Module, batch: Any) -> torch.Tensor:
        if isinstance(batch, Mapping):
            outputs = self._apply(model, batch)
            return _own_loss(outputs) if self._loss_fn is None else self._loss_fn(outputs, batch)
        if self._loss_fn is None:
            raise InputError(
                "range_test needs either loss_fn (with batches of (inputs, targets)) or "
                "train_step; pass exactly one of them. Only for dict batches whose outputs have a "
                f"loss neither is needed, and these are of type {type(batch).__name__}"
            )
        inputs, targets = pair(batch, remedy=_FORM)
        return self._loss_fn(model(inputs), targets)

    def _apply(self, model: nn.Module, batch: Mapping[Any, Any]) -> Any:
        """Call a model with the entries that its forward names, or else with the dict."""
        key = tuple(batch)
        if key not in self._known:
            self._known[key] = _named_by(model, key)
        names = self._known[key]
        return model(**{name: batch[name] for name in names}) if names else model(batch)


def _named_by(model: nn.Module, keys: tuple[Any, ...]) -> tuple[str, ...]:
    # Under torch.compile and data parallelism it is the module inside that knows.
    parameters = inspect.signature(bare(model).forward).parameters
    words = tuple(key for key in keys if isinstance(key, str))
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return words
    return tuple(key for key in words if key in parameters)


def _scalar(loss: Any) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        form = f"of shape {tuple(loss.shape)}" if hasattr(loss, "shape") else "that is no tensor"
        raise InputError(
            f"loss_fn gave a loss {form}; make it a tensor with one element, such as by .mean()"
        )
    if not loss.requires_grad:
        raise InputError(
            "the loss does not depend on any parameter that requires a gradient, so there is "
            "nothing to train; unfreeze some, and do not detach the loss"
        )
    return loss


def _own_loss(outputs: Any) -> torch.Tensor:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if loss is None:
        raise DataError(
            "the model's outputs have no loss, so the batches need a loss_fn(outputs, batch); "
            "pass one, or put the labels into the batches where the model computes its own loss"
        )
    return loss  # type: ignore[no-any-return] # whatever the model gives


def needs_closure(optimizer: Optimizer) -> bool:
    """Say whether the optimizer evaluates the loss itself, as LBFGS does."""
    step = type(wrapped(optimizer)).step
    closure = inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
