"""A second sweep in torch that confirms what the first one read; nothing of it remains."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch

from cyclr.errors import InputError, complaint
from cyclr.integrations.torch.range_test import Models, Optimizers, Validate, range_test
from cyclr.integrations.torch.steps import Loss, TrainStep
from cyclr.rangetest import RangeTest
from cyclr.rangetest.confirm import SHARE, second_sweep, settle
from cyclr.rangetest.reading import Reading


def confirm(
    reading: Reading,
    model: Models,
    optimizer: Optimizers,
    batches: Iterable[Any],
    loss_fn: Loss | None = None,
    *,
    total_steps: int,
    share: float = SHARE,
    train_step: TrainStep | None = None,
    validate: Validate | None = None,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    snapshot_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
) -> Reading:
    """Sweep again, slowly, about max_lr; give the middle between the two readings.

    Afterwards everything is as it was, as after
    :func:`~cyclr.integrations.torch.range_test`. A group that was swept alone is swept alone again.

    Args:
        reading: Read off the record of a range test on this model, optimizer and data.
        model: As for range_test.
        optimizer: As for range_test.
        batches: As for range_test.
        loss_fn: As for range_test.
        total_steps: The budget of the training to come, in updates.
        share: What both sweeps may cost together, of that budget, in (0, 1).
        train_step: As for range_test.
        validate: As for range_test, called before every update; for a reading of one of its
            metrics, by which the second sweep is read as well.
        accumulate: As for range_test.
        max_grad_norm: As for range_test.
        autocast: As for range_test.
        scaler: As for range_test.
        snapshot_dir: As for range_test.
        on_step: Called after every update with the running test, for progress.

    Returns:
        What :func:`cyclr.rangetest.confirm.settle` concludes.

    Raises:
        InputError: The budget is too small for a second sweep, or arguments do not go together; or
            the reading is by a metric, and validate is missing or does not give it.
        DataError: ``batches`` is empty, or an iterator that cannot be started again.
    """
    _check(reading, measured=validate is not None or train_step is not None)
    sweep = second_sweep(reading, total_steps, share)

    def watch(test: RangeTest) -> None:
        if test.step == 1:  # not after a whole sweep in vain
            _check_metric(reading, test)
        if on_step is not None:
            on_step(test)

    record = range_test(
        model,
        optimizer,
        batches,
        loss_fn,
        sweep=sweep,
        train_step=train_step,
        validate=validate,
        validate_every=None if validate is None else 1,
        accumulate=accumulate,
        max_grad_norm=max_grad_norm,
        autocast=autocast,
        scaler=scaler,
        group=reading.optimizer.get("group"),
        snapshot_dir=snapshot_dir,
        on_step=watch,
    )
    return settle(reading, record)


def _check(reading: Any, *, measured: bool) -> None:
    if not isinstance(reading, Reading):
        remedy = "read the record first: record.read()"
        raise InputError(complaint("reading", "a cyclr reading", reading, remedy))
    if reading.metric is not None and not measured:
        raise InputError(
            f"validate is missing: the reading is by {reading.metric}, and so must the second be; "
            'pass what range_test had, or confirm record.read(metric="loss")'
        )


def _check_metric(reading: Reading, test: RangeTest) -> None:
    given = test.record.metrics
    if reading.metric is not None and reading.metric not in given:
        raise InputError(
            f"validate must give {reading.metric}, which the reading is by, got "
            f"{', '.join(sorted(given)) or 'none'}; pass what range_test had, or confirm "
            'record.read(metric="loss")'
        )
