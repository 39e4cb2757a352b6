"""What a task consists of, and what several tasks share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.finders import data

ADAPTIVE = (-5, 0)  # decades of rates for optimizers that divide by the gradient's size
adam, adamw = torch.optim.Adam, functools.partial(torch.optim.AdamW, weight_decay=0.05)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A task, and the budget it is given.

    Attributes:
        name: Of the task.
        split: Gives its data.
        model: Makes a net from torch's random generator.
        optimizer: Makes an optimizer; its rate is the optimizer's own default where it has one.
        loss_fn: Of outputs and targets.
        measure: ``"accuracy"`` (share of the oracle's) or ``"loss"`` (share of the oracle's fall in
            log validation loss).
        batch_size: Examples per update.
        steps: The training budget in updates.
        clip: Largest norm of the gradient, or None.
        seeds: How many everything is repeated with: nine where three leave the oracle's best
            uncertain by more than a hundredth of it, or what our readings reach by more than three.
        lr_range: Decades of peak rates that the oracle tries.
    """

    name: str
    split: Callable[[], data.Split]
    model: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer]
    loss_fn: Callable[[Any, Any], torch.Tensor] = functional.cross_entropy
    measure: str = "accuracy"
    batch_size: int = 64
    steps: int = 1000
    clip: float | None = None
    seeds: int = 3
    lr_range: tuple[int, int] = (-4, 1)


def sgd(momentum: float = 0.0, decay: float = 0.0, nesterov: bool = False) -> Any:
    """Make a maker of SGD at torch's default rate."""
    return lambda p: torch.optim.SGD(p, momentum=momentum, weight_decay=decay, nesterov=nesterov)


def next_symbol(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy at every symbol."""
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())
