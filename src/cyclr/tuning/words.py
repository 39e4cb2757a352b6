"""What a tune found, in words."""

from __future__ import annotations

from cyclr.tuning.trial import TrialResult


def describe(winner: TrialResult) -> str:
    """Word it."""
    return f"The winner's validation loss is {winner.val_loss:.4f}."
