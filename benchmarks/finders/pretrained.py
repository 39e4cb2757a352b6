"""Nets trained on other data first, for tasks that fine-tune."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.finders import data, nets


def pretrained(make: Callable[[], nn.Module], split: data.Split, loss_fn: Any) -> Any:
    """Train a net on other data first, once per process; give makers of copies of it."""

    @functools.cache
    def state() -> dict[str, torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(12345)
            model = make()
            optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
            for step in range(600):
                for group in optimizer.param_groups:
                    group["lr"] = 2e-3 * (1 - step / 600)
                pick = torch.randint(len(split.inputs), (64,))
                optimizer.zero_grad()
                loss_fn(model(split.inputs[pick]), split.targets[pick]).backward()
                optimizer.step()
        return model.state_dict()

    def copy() -> nn.Module:
        model = make()
        model.load_state_dict(state())
        return model

    return copy


def tuned_conv(width: int = 16) -> nn.Module:
    """Make a net trained on five kinds of clothes, with a new last layer for the other five."""
    model = _clothes(width)()
    model[-1] = nn.Linear(model[-1].in_features, 5)
    return model


@functools.cache
def _clothes(width: int) -> Any:
    make = lambda: nets.conv(1, 5, width, norm=True, size=28)  # noqa: E731 -- named where it is used
    return pretrained(make, data.fashion_half(False), functional.cross_entropy)
