"""Parameter groups: their settings, and the ratios between them."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import Optimizer


def set_value(group: dict[str, Any], key: str, value: Any) -> None:
    """Set a group's value, in place where it is a tensor: captured optimizers keep a reference."""
    current = group[key]
    if isinstance(current, torch.Tensor):
        current.fill_(value)
    elif key == "betas" and isinstance(current[0], torch.Tensor):
        current[0].fill_(value[0])
    else:
        group[key] = value


def is_tensor(group: dict[str, Any], key: str) -> bool:
    """Say whether a group keeps a value, or its first beta, as a tensor."""
    value = group[key][0] if key == "betas" else group[key]
    return isinstance(value, torch.Tensor)


def remember(group: dict[str, Any], key: str) -> None:
    """Keep what a group was made with beside the value, as torch does with ``initial_lr``."""
    value = group[key]
    if isinstance(value, torch.Tensor):
        value = value.clone()
    elif key == "betas":
        value = tuple(beta.clone() if isinstance(beta, torch.Tensor) else beta for beta in value)
    group.setdefault(f"initial_{key}", value)


def original(group: dict[str, Any], key: str) -> Any:
    """Give what a group was made with, whatever schedulers have since made of it."""
    return group.get(f"initial_{key}", group.get(key))


def ratios(optimizer: Optimizer, key: str) -> list[float]:
    """Divide each group's original value by the largest; 1 for all if they have none or it is 0."""
    values = [float(original(group, key) or 0.0) for group in optimizer.param_groups]
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
