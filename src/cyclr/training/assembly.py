"""The pieces of a training, put together from what the user gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.optim.optimizer import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cyclr.errors import InputError
from cyclr.integrations.torch import Scheduler
from cyclr.recipe import Recipe
from cyclr.training.decisions import Judge
from cyclr.training.distributed import Processes, on_cpus
from cyclr.training.evaluation import Evaluator, Metrics
from cyclr.training.loop import Keeper, Loop
from cyclr.training.probes import Probes
from cyclr.training.settings import Settings
from cyclr.training.signals import StopRequest
from cyclr.training.state import sharded
from cyclr.training.stream import Stream
from cyclr.training.updates import make_backward, make_update


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to train.

    Attributes:
        model: The model, not wrapped in anything.
        optimizer: Its optimizer.
        batches: Training data.
        loss_fn: ``loss_fn(outputs, targets)``.
        recipe: What to run.
        validation: Data to evaluate on, or None.
        metrics: By name; None for those that suit the data.
    """

    model: nn.Module
    optimizer: Optimizer
    batches: Any
    loss_fn: Callable[[Any, Any], torch.Tensor]
    recipe: Recipe
    validation: Any
    metrics: Metrics | None


def make_accelerator(settings: Settings) -> Accelerator:
    """Make an Accelerator for some settings."""
    shared = AcceleratorState._shared_state
    if shared and shared.get("_mixed_precision") != settings.mixed_precision:
        # Accelerate fixes the precision for the life of a process; a second fit may want another.
        AcceleratorState._reset_state()
    return Accelerator(
        gradient_accumulation_steps=settings.accumulate,
        mixed_precision=settings.mixed_precision,
        cpu=on_cpus(),
    )


@contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """Give a model its own forward back at the end: Accelerate puts one under autocast there."""
    names = ("forward", "_original_forward")
    before = {name: vars(model)[name] for name in names if name in vars(model)}
    try:
        yield
    finally:
        for name in names:
            vars(model).pop(name, None)
        vars(model).update(before)


def assemble(
    work: Work, settings: Settings, accelerator: Accelerator, keeper: Keeper, stop: StopRequest
) -> Loop:
    """Make the loop that does the work, at its first step.

    Raises:
        InputError: Something that was asked for does not go with a sharded model.
    """
    processes = Processes(accelerator, split_batches=settings.split_batches)
    # On the optimizer itself, not on Accelerate's wrapper: it counts the updates really made.
    scheduler = Scheduler(work.optimizer, work.recipe, allow_change=True)
    model = work.model
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's own docs do
    if sharded(model):  # by the user, with torch's fully_shard; there is nothing to wrap it in
        prepared, optimizer = model, accelerator.prepare(work.optimizer)
    else:
        prepared, optimizer = accelerator.prepare(model, work.optimizer)
    spread = sharded(model)
    if spread and (settings.ema_decay is not None or settings.snapshots):
        raise InputError("ema_decay and snapshots need whole models; leave them out with FSDP")
    ema = None
    if settings.ema_decay is not None:
        update: Any = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call] # torch's own
        ema = (AveragedModel(model, multi_avg_fn=update), model)
    trained: Any = torch.compile(prepared) if settings.compile else prepared
    probes = None
    if settings.probe_every is not None:
        together = processes if spread else None
        probes = Probes(model.parameters(), settings.probe_every, together)
    prepare = _channels_last if settings.channels_last else None
    return Loop(
        accelerator=accelerator,
        processes=processes,
        model=trained,
        backward=make_backward(accelerator, settings.accumulate),
        update=make_update(accelerator, optimizer, work.optimizer, model),
        scheduler=scheduler,
        stream=Stream(work.batches, accelerator.device, processes, prepare),
        loss_fn=work.loss_fn,
        recipe=work.recipe,
        settings=settings,
        keeper=keeper,
        judge=Judge(settings),
        stop=stop,
        probes=probes,
        ema=ema,
        evaluate=_evaluator(work, processes, trained if spread else model, ema, prepare),
    )


def _channels_last(inputs: Any) -> Any:
    if isinstance(inputs, torch.Tensor) and inputs.dim() == 4:
        return inputs.to(memory_format=torch.channels_last)
    return inputs


def _evaluator(
    work: Work,
    processes: Processes,
    model: nn.Module,
    ema: tuple[AveragedModel, nn.Module] | None,
    prepare: Callable[[Any], Any] | None,
) -> Evaluator | None:
    """Make what evaluates the model, and its moving average if there is one."""
    if work.validation is None:
        return None
    return Evaluator(
        models={"": model} if ema is None else {"": model, "ema_": ema[0]},
        validation=work.validation,
        loss_fn=work.loss_fn,
        metrics=work.metrics,
        processes=processes,
        prepare=prepare,
    )
