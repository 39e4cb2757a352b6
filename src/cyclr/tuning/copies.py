"""How large copies of a training in small are: all its epochs on a share of its examples."""

from __future__ import annotations

_ROUNDING = 1e-9  # batches: what a share times their number may be off by


def examples_for(share: float, of: int, batch_size: int) -> int | None:
    """Say how many examples a copy has: a whole number of batches.

    Args:
        share: Of the training's updates that the copy may cost, > 0.
        of: Examples of the training, ≥ 1.
        batch_size: The largest of those that are compared, ≥ 1.

    Returns:
        None if it can have all of them, or if the share is less than one batch: then a training can
        only be cut short.
    """
    batches = int(share * (of // batch_size) + _ROUNDING)
    return None if share >= 1 or batches < 1 else batches * batch_size


def updates_for(examples: int, of: int, batch_size: int, whole: int) -> int:
    """Say how many updates a copy has: as many epochs as the training.

    Args:
        examples: Of the copy, at least a batch.
        of: Examples of the training.
        batch_size: Examples per update of both.
        whole: Updates of the training.
    """
    return max(3, whole * (examples // batch_size) // (of // batch_size))
