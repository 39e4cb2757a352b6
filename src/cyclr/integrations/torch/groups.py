"""Parameter groups: their settings, and the ratios between them."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import Optimizer


def set_value(group: dict[str, Any], key: str, value: float) -> None:
    """Set a group's value, in place if it is a tensor: captured optimizers keep a reference."""
    if isinstance(group[key], torch.Tensor):
        group[key].fill_(value)
    else:
        group[key] = value


def set_momentum(group: dict[str, Any], value: float) -> None:
    """Set a group's momentum, or its first beta if it has betas."""
    if "betas" not in group:
        set_value(group, "momentum", value)
    elif isinstance(group["betas"][0], torch.Tensor):
        group["betas"][0].fill_(value)
    else:
        group["betas"] = (value, *group["betas"][1:])


def ratios(optimizer: Optimizer, key: str) -> list[float]:
    """Divide each group's value by the largest; 1 for all if they have none or it is zero.

    For the rate, what counts is the one the optimizer was made with, not what a scheduler has
    since made of it.
    """
    values = [
        float(group.get("initial_lr", group["lr"]) if key == "lr" else group.get(key, 0.0))
        for group in optimizer.param_groups
    ]
    largest = max(values)
    return [value / largest for value in values] if largest > 0 else [1.0] * len(values)


def describe(optimizer: Optimizer) -> dict[str, Any]:
    """Say what a sweep runs with: the optimizer's name, momentum (or beta1) and weight decay."""
    group = optimizer.param_groups[0]
    momentum = group["betas"][0] if "betas" in group else group.get("momentum")
    facts: dict[str, Any] = {"name": type(optimizer).__name__}
    if momentum is not None:
        facts["momentum"] = float(momentum)
    if "weight_decay" in group:
        facts["weight_decay"] = float(group["weight_decay"])
    return facts
