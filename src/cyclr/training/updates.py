"""Backward passes and updates: torch's own where nothing more is needed, Accelerate's elsewhere.

Accelerate's wrappers look for optional packages and inspect signatures at every call, which costs
as much as a small update does. They are needed for gradient scalers, DeepSpeed, Megatron and XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import InputError

_PLAIN = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.FSDP,
)

Backward = Callable[[torch.Tensor], Any]
Update = Callable[[], bool]


def make_backward(accelerator: Accelerator, micro_batches: int) -> Backward:
    """Make the function that adds the gradients of a micro-batch's loss to those there are."""
    if not _is_plain(accelerator):
        backward: Backward = accelerator.backward  # divides by the micro-batches itself
        return backward
    if micro_batches == 1:
        return torch.Tensor.backward
    return lambda loss: (loss / micro_batches).backward()  # type: ignore[no-untyped-call] # torch's


def make_update(
    accelerator: Accelerator, prepared: Any, optimizer: Optimizer, model: nn.Module
) -> Update:
    """Make the function that makes an update and clears the gradients.

    Args:
        accelerator: What is trained with.
        prepared: Accelerate's wrapper of the optimizer.
        optimizer: The optimizer itself.
        model: The model, of which the optimizer may hold a part only.

    Returns:
        A function that says whether the update was made; mixed precision may skip one.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    others = [p for p in model.parameters() if id(p) not in held and p.requires_grad]

    def clear_others() -> None:
        for parameter in others:
            parameter.grad = None

    if _is_plain(accelerator):

        def update() -> bool:
            optimizer.step()
            optimizer.zero_grad()
            clear_others()
            return True

    else:

        def update() -> bool:
            prepared.step()
            prepared.zero_grad()
            clear_others()
            return not prepared.step_was_skipped

    return update


def clear_gradients(model: nn.Module, optimizer: Optimizer) -> None:
    """Begin without gradients: a check before training, or an update broken off, may leave some."""
    model.zero_grad()
    optimizer.zero_grad()


def _is_plain(accelerator: Accelerator) -> bool:
    return accelerator.scaler is None and accelerator.distributed_type in _PLAIN


def check_loss(loss: Any, *, training: bool = True) -> None:
    """Refuse a loss that no gradient can be taken of.

    Args:
        loss: What loss_fn gave.
        training: Whether it was given in training, with gradients.

    Raises:
        InputError: It is not one number, or depends on no parameter.
    """
    if isinstance(loss, torch.Tensor) and loss.numel() != 1:
        raise InputError(
            f"loss_fn gave a loss of shape {tuple(loss.shape)}; make it one number, a mean over "
            'the batch, such as by .mean() or reduction="mean"'
        )
    if not training:
        return
    if not isinstance(loss, torch.Tensor):
        raise InputError(
            f"loss_fn gave {type(loss).__name__} instead of a tensor, and no gradient can be taken "
            "of it; give the tensor itself, without float() or .item()"
        )
    if not loss.requires_grad:
        raise InputError(
            "the loss does not depend on any parameter that requires a gradient, so there is "
            "nothing to train; unfreeze some, and do not detach the loss"
        )
