"""Caffe's multipliers of rate and weight decay, as parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

Rates = Mapping[str, tuple[float, float]]
"""By parameter name: what its rate (``lr_mult``) and decay (``decay_mult``) are multiplied by."""


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group a net's parameters by their multipliers.

    Args:
        net: A net; without an attribute ``rates`` every parameter has the multipliers 1 and 1.
        weight_decay: The solver's weight decay, ≥ 0.

    Returns:
        Parameter groups for a torch optimizer, each with ``params``, ``weight_decay`` (multiplied)
        and ``lr_mult``.
    """
    rates: Rates = getattr(net, "rates", {})
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        groups.setdefault(rates.get(name, (1, 1)), []).append(parameter)
    return [
        {"params": members, "weight_decay": weight_decay * decay, "lr_mult": float(rate)}
        for (rate, decay), members in groups.items()
    ]
