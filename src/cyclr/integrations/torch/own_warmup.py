"""Optimizers that warm themselves up: RAdam moves at a share of its rate that grows for long.

A sweep of a hundred updates would see rates as harmless that are several times too high once the
optimizer has warmed up. So it divides the share out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch.optim.optimizer import Optimizer

from cyclr.integrations.torch.groups import wrapped

_TRACTABLE = 5.0  # ρ up to which RAdam makes plain steps of momentum, whose size is another


def share_of_rate(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """Say at which share of a group's rate its next update will move.

    For RAdam, whatever package it comes from, the rectification of update t::

        ρ_∞ = 2 / (1 - β₂) - 1
        ρ_t = ρ_∞ - 2 t β₂ᵗ / (1 - β₂ᵗ)
        r_t = √((ρ_t - 4)(ρ_t - 2) ρ_∞ / ((ρ_∞ - 4)(ρ_∞ - 2) ρ_t))     where ρ_t > 5, else 1

    With β₂ = .999 that is .05 at the tenth update, .22 at the hundredth, .65 at the thousandth.
    For all other optimizers it is 1.

    Args:
        optimizer: The optimizer; its state says how many updates it has made.
        group: One of its parameter groups.

    Returns:
        A number in (0, 1].

    Reference: arXiv 1908.03265, algorithm 2.
    """
    optimizer = wrapped(optimizer)
    if type(optimizer).__name__ != "RAdam" or "betas" not in group:
        return 1.0
    return _rectification(float(group["betas"][1]), _updates(optimizer, group) + 1)


def _updates(optimizer: Optimizer, group: dict[str, Any]) -> int:
    parameters: Iterable[Any] = group["params"]
    return max((int(optimizer.state.get(p, {}).get("step", 0)) for p in parameters), default=0)


def _rectification(beta2: float, update: int) -> float:
    limit = 2 / (1 - beta2) - 1
    rho = limit - 2 * update * beta2**update / (1 - beta2**update)
    if rho <= _TRACTABLE:
        return 1.0
    over = (rho - 4) * (rho - 2) * limit
    return min(1.0, math.sqrt(over / ((limit - 4) * (limit - 2) * rho)))
