"""Train and eval mode, put back module by module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    """Put a model into training mode; if it is in it, parts frozen in eval mode stay so.

    What counts is the mode of the model itself: a wrapper has one of its own.
    """
    if not bare(model).training:
        model.train()


def bare(model: nn.Module) -> nn.Module:
    """Give the model within wrappers: torch.compile's, and those of data parallelism."""
    inner: Any = model
    while hasattr(inner, "_orig_mod") or type(inner).__module__.startswith("torch.nn.parallel"):
        inner = getattr(inner, "_orig_mod", None) or inner.module
    found: nn.Module = inner
    return found
