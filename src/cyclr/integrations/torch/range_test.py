"""The torch driver of the range test: trains for a few steps and puts everything back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import InputError
from cyclr.integrations.driver import new_test
from cyclr.integrations.torch.checks import (
    check_batches,
    check_precision,
    check_step,
    check_training,
)
from cyclr.integrations.torch.groups import describe, wrapped
from cyclr.integrations.torch.nonfinite import each_warning_once
from cyclr.integrations.torch.processes import Processes
from cyclr.integrations.torch.snapshot import Snapshot
from cyclr.integrations.torch.steps import Loss, TrainStep, default_step
from cyclr.integrations.torch.sweeping import Rates, Sweeper, endless, unheard
from cyclr.integrations.validation import check_callable, check_validation
from cyclr.rangetest import RangeRecord, RangeTest, combine
from cyclr.schedules.fields import Constraint
from cyclr.schedules.spec import Schedule

Validate = Callable[[Any], Mapping[str, float]]
Models = nn.Module | Sequence[nn.Module]
Optimizers = Optimizer | Sequence[Optimizer]

_COUNT = Constraint(kind="integer", ge=1, is_duration=False)


def range_test(
    model: Models,
    optimizer: Optimizers,
    batches: Iterable[Any],
    loss_fn: Loss | None = None,
    *,
    sweep: Schedule | RangeTest | None = None,
    steps: int | None = None,
    repeats: int = 1,
    train_step: TrainStep | None = None,
    validate: Validate | None = None,
    validate_every: int | None = None,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    group: int | None = None,
    snapshot_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
) -> RangeRecord:
    """Run a learning rate range test, and leave no trace of it.

    Afterwards, and after an exception or Ctrl-C as well, everything is as it was: parameters,
    buffers, gradients and plain attributes of modules, optimizer state and settings, train/eval
    mode, the scaler, the random generators, and the position of the data
    (:class:`~cyclr.integrations.torch.snapshot.Snapshot` lists it all). Training that follows is
    bit-identical to training that never saw a range test. The loader itself is not iterated over, a
    shallow copy of it is, so an iterator that is in use elsewhere goes on undisturbed. Hooks that
    hear of an optimizer's updates, as schedulers have them, are set aside meanwhile.

    With several parameter groups or optimizers, the sweep is the rate of the group whose rate is
    largest, and the ratios between the groups' rates are kept. RAdam, which warms itself up for
    thousands of updates, moves at the sweep's rates as it later does
    (:mod:`cyclr.integrations.torch.own_warmup`).

    An exploding model ends the sweep and raises nothing: an exception that code of yours raises
    because of NaN or infinity, after at least one step, ends the sweep as ``non_finite`` and stands
    in the record's notes. Any other exception comes through.

    In several processes of ``torch.distributed`` (all must call), loss and metrics are averaged
    over them, so that all see the same record and stop at the same step.

    Args:
        model: A module with parameters, or several, as a GAN has. The first one's device is where
            batches are moved to.
        optimizer: Its optimizer, or several (then train_step makes the update). The rates they have
            do not matter, only their ratios.
        batches: A re-iterable (a data loader, a list) of ``(inputs, targets)`` pairs, of dicts, or
            of whatever train_step understands. Iterated over as often as the sweep needs.
        loss_fn: ``loss_fn(model(inputs), targets)`` gives a scalar tensor; for dicts
            ``loss_fn(outputs, batch)``, where the model is called with the entries that its
            ``forward`` names, or else with the whole dict. Left out, dict batches need outputs with
            a ``loss``, as Transformers' models give. Not with train_step.
        sweep: Schedule of the rate, or a :class:`~cyclr.rangetest.sweep.RangeTest` whose progress
            you want to watch or whose record you want even after an interruption. By default the
            test finds its range by itself: see :class:`~cyclr.rangetest.sweep.RangeTest`; if it
            began too high, it is begun again lower.
        steps: Without a sweep, how dense its rates are, ≥ 2; 100 if None.
        repeats: How often to sweep, ≥ 1, each time from the same weights and with the batches and
            random numbers that come next. The record holds all; its reading is the median, with an
            interval.
        train_step: ``train_step(model, optimizer, batch)`` makes one whole update (zero the
            gradients, forward, backward, step) and gives the loss, or a mapping of numbers with a
            ``"loss"`` among them.
        validate: ``validate(model)`` gives metrics by name, such as ``{"val_accuracy": 0.9}``;
            called in eval mode without gradients, before an update.
        validate_every: Updates between validations, ≥ 1. If None, a twentieth of the sweep; or 1
            where an epoch has twenty updates or fewer, since there the validation loss is what is
            read (:meth:`~cyclr.rangetest.RangeRecord.read`).
        accumulate: Micro-batches per update, ≥ 1. Not with train_step.
        max_grad_norm: Clip the gradient's norm to this, > 0. Not with train_step.
        autocast: Run the forward pass under autocast in this type, such as ``torch.bfloat16``.
        scaler: A gradient scaler for float16; used for the updates, and restored like the rest.
        group: Sweep one parameter group alone, while the others keep the rates they have: its
            index, counted through all optimizers. None sweeps all.
        snapshot_dir: Keep the copy of everything in a file in this folder, for models that fill the
            memory. It is deleted at the end; after a crash it says how to get the weights back.
        on_step: Called after every update with the running test, for progress.

    Raises:
        InputError: The model has no parameters, or arguments do not go together.
        DataError: ``batches`` is empty, or an iterator that cannot be started again.

    Reference: arXiv 1506.01186, section 3.3.
    """
    models, optimizers = _several(model), _several(optimizer)
    check_training(models, optimizers)
    check_step(models, optimizers, loss_fn, train_step, accumulate, max_grad_norm)
    check_precision(optimizers, train_step, autocast, scaler)
    check_batches(batches)
    check_validation(validate, validate_every)
    check_callable("on_step", on_step)
    _COUNT.check("repeats", repeats)
    rates = Rates(optimizers, group)
    facts = _facts(optimizers, group, accumulate=accumulate, max_grad_norm=max_grad_norm)
    test = _make_test(sweep, steps)
    own = train_step is None
    options = {"max_grad_norm": max_grad_norm, "autocast": autocast, "scaler": scaler}
    step = default_step(loss_fn, **options) if train_step is None else train_step  # type: ignore[arg-type]
    # A train_step of the user's own knows in what form they were given.
    given: Any = (models[0], optimizers[0]) if own else (model, optimizer)
    with (
        each_warning_once(),
        Snapshot(
            *models,
            *optimizers,
            batches,
            called=(loss_fn, scaler, train_step, validate),
            folder=snapshot_dir,
        ) as memory,
        unheard(optimizers),
        torch.inference_mode(False),
        torch.enable_grad(),
        contextlib.closing(endless(batches, accumulate if own else None)) as stream,
    ):
        length = _steps_per_epoch(batches, accumulate)
        test.fill_in(optimizer=facts, steps_per_epoch=length, rewinds=True)
        sweeper = Sweeper(
            models=models,
            rates=rates,
            update=lambda batch: step(given[0], given[1], batch),
            stream=stream,
            validate=None if validate is None else lambda: validate(model),
            validate_every=validate_every,
            processes=Processes(next(models[0].parameters()).device),
            on_step=on_step,
        )
        records = [sweeper.run(test, memory.rewind)]
        for _ in range(repeats - 1):
            memory.rewind()
            records.append(sweeper.run(test.again(), memory.rewind))
    return combine(records)


def _several(things: Any) -> list[Any]:
    """Make a list of one thing or several; a module that is itself a list is one."""
    return list(things) if isinstance(things, list | tuple) else [things]


def _facts(
    optimizers: list[Optimizer], group: int | None, *, accumulate: int, max_grad_norm: float | None
) -> dict[str, Any]:
    """Say what the sweep runs with: all optimizers' names, and a parameter group's settings.

    The group is the one that is swept alone, or the first. How updates are made stands there too,
    where it is not the usual way.
    """
    names = " + ".join(dict.fromkeys(type(wrapped(o)).__name__ for o in optimizers))
    alone = {} if group is None else {"group": group}
    places = [(o, i) for o in optimizers for i in range(len(wrapped(o).param_groups))]
    settings = describe(*places[group or 0])
    updates: dict[str, Any] = {} if accumulate == 1 else {"accumulate": accumulate}
    if max_grad_norm is not None:
        updates["max_grad_norm"] = float(max_grad_norm)
    return {**settings, "name": names, **alone, **updates}


def _make_test(sweep: Schedule | RangeTest | None, steps: int | None) -> RangeTest:
    if sweep is not None and steps is not None:
        raise InputError("steps is the length of the default sweep; set it in your sweep instead")
    return new_test(sweep) if isinstance(sweep, RangeTest) else RangeTest(sweep, steps=steps)


def _steps_per_epoch(batches: Any, accumulate: int) -> int | None:
    """Count the updates of an epoch; None where the data does not know its length."""
    # Iterable data sets have no length, and say so in either way.
    with contextlib.suppress(TypeError, NotImplementedError):
        return max(1, len(batches) // accumulate)
    return None
