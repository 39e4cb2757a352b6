"""All that a training consists of, as plain data, and back: what an exact resumption needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.optimizer import Optimizer

from cyclr.errors import CheckpointError
from cyclr.integrations.torch import Scheduler
from cyclr.recipe import Recipe
from cyclr.training.checkpoints import Checkpoint, load_state, load_weights, read_weights
from cyclr.training.loop import Loop
from cyclr.training.randomness import random_state, set_random_state

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def sharded(model: nn.Module) -> bool:
    """Whether a model's parameters are spread over the processes, as FSDP does."""
    return any(hasattr(parameter, "to_local") for parameter in model.parameters())


def gather(loop: Loop, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Collect the state of a training; to be called on every process.

    Args:
        loop: The training.
        model: The model that was given to it.
        optimizer: The optimizer that was given to it.

    Returns:
        Plain data for ``torch.load(weights_only=True)``; the model's own values apart from it.
    """
    scaler = loop.accelerator.scaler
    spread = sharded(model)
    mine = {"random": random_state(), "stream": loop.stream.state_dict()}
    return {
        "step": loop.step,
        "skipped": loop.skipped,
        "ended": loop.ended,
        "metrics": dict(loop.metrics),
        "recipe": loop.recipe.to_dict(),
        "scheduler": loop.scheduler.state_dict(),
        "optimizer_name": type(optimizer).__name__,
        "loose": [p.detach() for p in _loose(model, optimizer)],
        "optimizer": (
            get_optimizer_state_dict(model, optimizer, options=_WHOLE)
            if spread
            else optimizer.state_dict()
        ),
        "scaler": None if scaler is None else scaler.state_dict(),
        "judge": loop.judge.state_dict(),
        "probes": None if loop.probes is None else loop.probes.state_dict(),
        "processes": loop.processes.gather(mine),
    }


def weights(model: nn.Module) -> nn.Module | dict[str, torch.Tensor]:
    """Give what to save of a model; a sharded one is put together, on every process."""
    if not sharded(model):
        return model
    named: dict[str, Any] = get_model_state_dict(model, options=_WHOLE)
    return named


def restore(
    loop: Loop, model: nn.Module, optimizer: Optimizer, checkpoint: Checkpoint
) -> dict[str, Any]:
    """Put a training where a checkpoint left it.

    Random generators are put back last: building the data's iterator draws from them.

    Args:
        loop: The training, built as it was.
        model: The model that was given to it.
        optimizer: The optimizer that was given to it.
        checkpoint: Where to go on from.

    Returns:
        The checkpoint's state.

    Raises:
        CheckpointError: Model or optimizer are not those that were trained.
    """
    state = load_state(checkpoint)
    name = type(optimizer).__name__
    if state["optimizer_name"] != name:
        raise CheckpointError(
            f"{checkpoint.path} was trained with {state['optimizer_name']}, and the optimizer is "
            f"{name}; build the one that was used"
        )
    _restore_parameters(model, optimizer, state, checkpoint)
    if loop.ema is not None:
        load_weights(loop.ema[0], checkpoint.path / "ema.safetensors")
    loop.step, loop.skipped, loop.ended = state["step"], state["skipped"], state["ended"]
    loop.metrics = dict(state["metrics"])
    loop.recipe = Recipe.from_dict(state["recipe"])
    loop.scheduler = Scheduler(optimizer, loop.recipe, allow_change=True)
    loop.scheduler.load_state_dict(state["scheduler"])
    if loop.accelerator.scaler is not None and state["scaler"] is not None:
        loop.accelerator.scaler.load_state_dict(state["scaler"])
    loop.judge.load_state_dict(state["judge"])
    if loop.probes is not None and state["probes"] is not None:
        loop.probes.load_state_dict(state["probes"])
    saved = state["processes"]
    # Another number of processes splits the same batches; their generators are the first one's.
    mine = saved[loop.processes.index if len(saved) == loop.processes.count else 0]
    loop.stream.load_state_dict(mine["stream"])
    set_random_state(mine["random"])
    return state


def load_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights into a model, a sharded one on every process.

    Raises:
        CheckpointError: They do not fit.
    """
    path = checkpoint.path / "model.safetensors"
    if sharded(model):
        named: dict[str, Any] = {**read_weights(path)}
        set_model_state_dict(model, named, options=_WHOLE)
    else:
        load_weights(model, path)


def load_end_of(model: nn.Module, optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Put the weights that training ended with in place, and leave the optimizer's state.

    Raises:
        CheckpointError: They do not fit.
    """
    load_model(model, checkpoint)
    if _loose(model, optimizer):
        _restore_loose(model, optimizer, load_state(checkpoint), checkpoint)


def _loose(model: nn.Module, optimizer: Optimizer) -> list[torch.Tensor]:
    """List the parameters that only the optimizer has, such as those of a loss."""
    known = {id(p) for p in model.parameters()}
    return [p for g in optimizer.param_groups for p in g["params"] if id(p) not in known]


def _restore_loose(
    model: nn.Module, optimizer: Optimizer, state: dict[str, Any], checkpoint: Checkpoint
) -> None:
    found, saved = _loose(model, optimizer), state.get("loose", [])
    if [p.shape for p in found] != [tensor.shape for tensor in saved]:
        raise CheckpointError(
            f"{checkpoint.path} has {len(saved)} parameters beside the model's, and the optimizer "
            f"{len(found)}, or of other shapes; build those that were trained"
        )
    with torch.no_grad():
        for parameter, tensor in zip(found, saved, strict=True):
            parameter.copy_(tensor)


def _restore_parameters(
    model: nn.Module, optimizer: Optimizer, state: dict[str, Any], checkpoint: Checkpoint
) -> None:
    try:
        load_model(model, checkpoint)
        _restore_loose(model, optimizer, state, checkpoint)
        if sharded(model):
            set_optimizer_state_dict(
                model, optimizer, optim_state_dict=state["optimizer"], options=_WHOLE
            )
        else:
            optimizer.load_state_dict(state["optimizer"])
    except (ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{checkpoint.path} does not fit the model or the optimizer: {error}; build those that "
            "were trained"
        ) from error
