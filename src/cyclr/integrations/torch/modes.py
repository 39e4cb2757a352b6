"""Train and eval mode, put back module by module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode without gradients; afterwards each part is in its own mode again.

    A part that was frozen in eval mode while the rest trained stays so.
    """
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def to_training(model: nn.Module) -> None:
    """Put a model into training mode; if it is in it, parts frozen in eval mode stay so."""
    if not model.training:
        model.train()
