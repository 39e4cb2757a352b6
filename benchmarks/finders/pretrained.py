"""Nets trained on other data first, for tasks that fine-tune."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.finders import data


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
