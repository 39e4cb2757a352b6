"""Parameter groups: their settings, and the ratios between them."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import Optimizer


def set_value(group: dict[str, Any], key: str, value: float) -> None:
    """Set a group's value (of ``betas``, the first).

    Tensors are filled in place, because captured and compiled optimizers keep a reference.
    """
    current, *rest = group[key] if key == "betas" else (group[key],)
    if isinstance(current, torch.Tensor):
        current.fill_(value)
    else:
        group[key] = (value, *rest) if key == "betas" else value


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


def original(group: dict[str, Any], key: str) -> float:
    """Give what a group was made with (of ``betas``, the first), whatever became of it since."""
    value = group.get(f"initial_{key}", group.get(key, 0.0))
    return float((value[0] if key == "betas" else value) or 0.0)


def ratios(optimizer: Optimizer, key: str) -> list[float]:
    """Divide each group's original value by the largest; 1 for all if they have none or it is 0."""
    values = [original(group, key) for group in optimizer.param_groups]
    largest = max(values)
    return [value / largest for value in values] if largest > 0 else [1.0] * len(values)


def wrapped(optimizer: Any) -> Any:
    """Give the optimizer within a wrapper, such as Accelerate's."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def family(optimizer: Any) -> list[Optimizer]:
    """List an optimizer and those it holds, as sharpness-aware and lookahead ones do, each once."""
    found: list[Optimizer] = []
    waiting = [optimizer]
    while waiting:
        one = waiting.pop(0)
        if any(one is known for known in found):
            continue
        found.append(one)
        for value in vars(one).values():
            held = value if isinstance(value, list | tuple) else [value]
            waiting += [thing for thing in held if isinstance(thing, Optimizer)]
    return found


def describe(optimizer: Optimizer, index: int = 0) -> dict[str, Any]:
    """Say what a sweep runs with: the optimizer's name, a group's momentum (or beta1) and decay."""
    optimizer = wrapped(optimizer)
    group = optimizer.param_groups[index]
    momentum = group["betas"][0] if "betas" in group else group.get("momentum")
    facts: dict[str, Any] = {"name": type(optimizer).__name__}
    if momentum is not None:
        facts["momentum"] = float(momentum)
    if group.get("weight_decay") is not None:
        facts["weight_decay"] = float(group["weight_decay"])
    return facts
