"""Parameter groups that are added to an optimizer while a recipe drives it."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from cyclr.errors import StateError
from cyclr.integrations.torch.groups import original
from cyclr.integrations.torch.scheduler import Scheduler


def with_new_groups(scheduler: Scheduler, *, allow_change: bool) -> Scheduler:
    """Make a scheduler that goes on where the other is, with the groups added since.

    An added group keeps the ratio that its rate has to the recipe's of the moment. The ratio is
    kept in the group, as its ``initial_lr``, so a checkpoint of the optimizer holds it. A weight
    decay keeps its ratio to those that the other groups were made with.

    Args:
        scheduler: Of one recipe for all groups.
        allow_change: As the scheduler has it.

    Raises:
        StateError: The rate or the weight decay of an added group is above all others, or the
            recipe's rate is 0, so that there is no ratio.
    """
    optimizer, position, recipe = scheduler.optimizer, scheduler.last_epoch, scheduler.recipes[0]
    count = len(scheduler.recipes)
    old, new = optimizer.param_groups[:count], optimizer.param_groups[count:]
    due = float(recipe.lr(position))
    for group in new:
        ratio = float(group["lr"]) / due if due > 0 else float("inf")
        if ratio > 1 + 1e-6:
            raise _too_large(optimizer, "rate", float(group["lr"]), due, position)
        group["initial_lr"] = min(1.0, ratio) * max(original(g, "lr") for g in old)
        decay = original(group, "weight_decay")
        largest = max(original(g, "weight_decay") for g in old)
        if recipe.weight_decay is not None and decay > largest:
            raise _too_large(optimizer, "weight decay", decay, largest, position)
    made = Scheduler(optimizer, recipe, allow_change=allow_change)
    made.step(position)
    return made


def _too_large(
    optimizer: Optimizer, what: str, value: float, limit: float, position: int
) -> StateError:
    return StateError(
        f"a parameter group was added to {type(optimizer).__name__} before update {position} "
        f"with a {what} of {value:g}, and would follow the recipe at its ratio to {limit:g}, "
        "which must be > 0 and at least as large; add it with a smaller one, or give it to the "
        "optimizer from the start (parameters without a gradient are not updated)"
    )


def numbers(optimizer: Optimizer) -> list[Any]:
    """Give the rates that are numbers; to look at a tensor's might wait for a device."""
    rates = [group["lr"] for group in optimizer.param_groups]
    return [None if isinstance(rate, torch.Tensor) else rate for rate in rates]
