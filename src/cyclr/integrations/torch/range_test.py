"""The torch driver of the range test: trains for a few steps and puts everything back."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import DataError, InputError, complaint
from cyclr.integrations.torch.batches import pair, to_device
from cyclr.integrations.torch.groups import describe, ratios, set_value
from cyclr.integrations.torch.modes import evaluating
from cyclr.integrations.torch.nonfinite import blames_values, each_warning_once
from cyclr.integrations.torch.snapshot import Snapshot
from cyclr.rangetest import RangeRecord, RangeTest
from cyclr.schedules.fields import Constraint
from cyclr.schedules.spec import Schedule

_FORM = "pass train_step=… to handle batches of your own form"

Loss = Callable[[Any, Any], torch.Tensor]
TrainStep = Callable[[nn.Module, Optimizer, Any], Any]
Validate = Callable[[nn.Module], Mapping[str, float]]


def range_test(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Any],
    loss_fn: Loss | None = None,
    *,
    sweep: Schedule | RangeTest | None = None,
    steps: int | None = None,
    train_step: TrainStep | None = None,
    validate: Validate | None = None,
    validate_every: int | None = None,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
) -> RangeRecord:
    """Run a learning rate range test, and leave no trace of it.

    Afterwards, and after an exception or Ctrl-C as well, everything is as it was: parameters,
    buffers, gradients, optimizer state and settings, train/eval mode, the scaler, the random
    generators, and the position of the data. Training that follows is bit-identical to training
    that never saw a range test. The loader itself is not iterated over, a shallow copy of it is, so
    an iterator that is in use elsewhere goes on undisturbed.

    With several parameter groups, the sweep is the rate of the group whose rate is largest, and the
    ratios between the groups' rates are kept.

    Args:
        model: A module with parameters. Its device is where batches are moved to.
        optimizer: Its optimizer. The rates it has do not matter, only their ratios.
        batches: A re-iterable (a data loader, a list) of ``(inputs, targets)`` pairs, or of
            whatever train_step understands. Iterated over as often as the sweep needs.
        loss_fn: ``loss_fn(model(inputs), targets)`` gives a scalar tensor. Not with train_step.
        sweep: Schedule of the rate, or a :class:`~cyclr.rangetest.sweep.RangeTest` whose progress
            you want to watch or whose record you want even after an interruption. By default the
            test finds its range by itself: see :class:`~cyclr.rangetest.sweep.RangeTest`.
        steps: Without a sweep, how many steps lead from 1e-7 to 10, ≥ 2; 100 if None.
        train_step: ``train_step(model, optimizer, batch)`` makes one whole update (zero the
            gradients, forward, backward, step) and gives the loss.
        validate: ``validate(model)`` gives metrics by name, such as ``{"val_accuracy": 0.9}``;
            called in eval mode without gradients, before an update.
        validate_every: Updates between validations, ≥ 1; a twentieth of the sweep if None.
        accumulate: Micro-batches per update, ≥ 1. Not with train_step.
        max_grad_norm: Clip the gradient's norm to this, > 0. Not with train_step.
        autocast: Run the forward pass under autocast in this type, such as ``torch.bfloat16``.
        scaler: A gradient scaler for float16; used for the updates, and restored like the rest.
        on_step: Called after every update with the running test, for progress.

    Raises:
        InputError: The model has no parameters, or arguments do not go together.
        DataError: ``batches`` is empty, or an iterator that cannot be started again.

    Reference: arXiv 1506.01186, section 3.3.
    """
    _check(model, optimizer, batches, loss_fn, train_step, accumulate, max_grad_norm)
    test = _make_test(sweep, steps, optimizer, batches, accumulate)
    if validate_every is None:
        validate_every = max(1, test.steps // 20)
    Constraint(kind="integer", ge=1).check("validate_every", validate_every)
    if train_step is None:
        assert loss_fn is not None
        train_step = _default_step(loss_fn, max_grad_norm, autocast, scaler)
    factors = ratios(optimizer, "lr")
    with (
        each_warning_once(),
        Snapshot(model, optimizer, batches, *([] if scaler is None else [scaler])) as memory,
    ):
        stream = _stream(batches, accumulate if loss_fn is not None else None)
        while True:
            model.train()
            for lr in test:
                for group, factor in zip(optimizer.param_groups, factors, strict=True):
                    set_value(group, "lr", lr * factor)
                batch = next(stream)
                try:
                    metrics = {}
                    if validate is not None and test.step % validate_every == 0:
                        with evaluating(model):
                            metrics = dict(validate(model))
                    loss = train_step(model, optimizer, batch)
                except Exception as error:
                    if test.step == 0 or not blames_values(error, [model]):
                        raise
                    test.fail(_story(test, error))
                else:
                    test.tell(loss=loss, **metrics)
                if on_step is not None:
                    on_step(test)
            if not test.restart_lower():
                break
            memory.restore()
    return test.record


def _story(test: RangeTest, error: Exception) -> str:
    words = " ".join(str(error).split())
    return (
        f"Step {test.step} raised {type(error).__name__} ({words[:200]}), taken as a sign of "
        "values that are not finite; the sweep ended there."
    )


def _check(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Any,
    loss_fn: Loss | None,
    train_step: TrainStep | None,
    accumulate: int,
    max_grad_norm: float | None,
) -> None:
    if next(model.parameters(), None) is None:
        raise InputError("the model has no parameters, so there is nothing to train; pass another")
    if not isinstance(optimizer, Optimizer):
        raise InputError(complaint("optimizer", "a torch Optimizer", optimizer, "pass yours"))
    if (loss_fn is None) == (train_step is None):
        raise InputError(
            "range_test needs either loss_fn (with batches of (inputs, targets)) or train_step; "
            "pass exactly one of them"
        )
    Constraint(kind="integer", ge=1).check("accumulate", accumulate)
    Constraint(kind="real", gt=0, optional=True).check("max_grad_norm", max_grad_norm)
    if train_step is not None and (accumulate != 1 or max_grad_norm is not None):
        raise InputError(
            "accumulate and max_grad_norm belong to the built-in step; do both in your train_step"
        )
    if hasattr(batches, "__next__"):
        raise DataError(
            "batches is an iterator, which cannot be put back to where it was; "
            "pass what it was made from, such as the data loader"
        )
    if not hasattr(batches, "__iter__"):
        raise DataError(complaint("batches", "re-iterable", batches, "pass a data loader or list"))


def _make_test(
    sweep: Schedule | RangeTest | None,
    steps: int | None,
    optimizer: Optimizer,
    batches: Any,
    accumulate: int,
) -> RangeTest:
    if sweep is not None and steps is not None:
        raise InputError("steps is the length of the default sweep; set it in your sweep instead")
    if isinstance(sweep, RangeTest):
        return sweep
    per_epoch = None
    with contextlib.suppress(TypeError):  # iterable data sets have no length
        per_epoch = max(1, len(batches) // accumulate)
    facts = describe(optimizer)
    return RangeTest(sweep, steps=steps, optimizer=facts, steps_per_epoch=per_epoch)


def _default_step(
    loss_fn: Loss,
    max_grad_norm: float | None,
    autocast: torch.dtype | None,
    scaler: torch.amp.GradScaler | None,
) -> TrainStep:
    """Make the usual update, over a list of micro-batches."""

    def step(model: nn.Module, optimizer: Optimizer, batches: Any) -> torch.Tensor:
        device = next(model.parameters()).device
        total = torch.zeros((), device=device)
        optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            inputs, targets = to_device(pair(batch, remedy=_FORM), device)
            with _autocast(device, autocast):
                loss = loss_fn(model(inputs), targets) / len(batches)
            torch.autograd.backward(loss if scaler is None else scaler.scale(loss))
            total += loss.detach()
        if max_grad_norm is not None:
            if scaler is not None:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        return total

    return step


def _autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def _stream(batches: Any, group: int | None) -> Iterator[Any]:
    """Go round and round the data; with a group size, give lists of that many batches."""
    source = _private(batches)

    def endless() -> Iterator[Any]:
        while True:
            count = 0
            for batch in source:
                count += 1
                yield batch
            if count == 0:
                raise DataError("batches is empty: there is not a single batch to train on")

    stream = endless()
    while True:
        yield next(stream) if group is None else [next(stream) for _ in range(group)]


def _private(batches: Any) -> Any:
    """Copy a data loader shallowly, so that its own live iterator is not reset."""
    if not isinstance(batches, torch.utils.data.DataLoader):
        return batches
    twin = copy.copy(batches)
    for name in ("_iterator", "next_iter_state"):  # the second is torchdata's
        if name in twin.__dict__:
            object.__setattr__(twin, name, None)
    return twin
