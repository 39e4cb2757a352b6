"""Batches: their form, and moving them to a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cyclr.errors import DataError


def pair(batch: Any, *, remedy: str) -> Any:
    """Take a batch apart into inputs and targets.

    Args:
        batch: What a loader gave.
        remedy: What to tell the user to do about a batch of another form.

    Raises:
        DataError: It is not a pair.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    of = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    raise DataError(
        f"batches must give (inputs, targets) pairs, got {type(batch).__name__}{of}; {remedy}"
    )


def to_device(value: Any, device: torch.device) -> Any:
    """Move tensors, however nested in mappings, tuples and lists, to a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, nn.utils.rnn.PackedSequence):
        return value.to(device=device)  # type: ignore[call-arg] # whose parts are not all moved
    if isinstance(value, Mapping):
        return {key: to_device(entry, device) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(entry, device) for entry in value))
    if isinstance(value, tuple | list):
        moved = [to_device(entry, device) for entry in value]
        if all(new is old for new, old in zip(moved, value, strict=True)):
            return value  # a type of one's own may not be made from a list
        return type(value)(moved)
    return value
