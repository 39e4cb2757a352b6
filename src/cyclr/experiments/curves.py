"""A run's curves: the training loss averaged over short stretches, and the evaluations."""

from __future__ import annotations

import math
from typing import Any

import torch

_POINTS = 400


class Curves:
    """Losses and evaluations as they come, thinned to at most 400 points of loss.

    Args:
        steps: Length of the run in updates, ≥ 1.

    Attributes:
        diverged: Whether a stretch of the loss was not finite.
        evaluations: ``step`` (updates made before it), ``accuracy`` in [0, 1] and ``loss``.
    """

    def __init__(self, steps: int) -> None:
        self.stretch = max(1, math.ceil(steps / _POINTS))
        self.diverged = False
        self.evaluations: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._sum = torch.zeros((), dtype=torch.float64)
        self._last = steps - 1
        self._count = 0

    def add_loss(self, step: int, loss: torch.Tensor) -> None:
        """Take update ``step``'s loss."""
        self._sum += loss
        self._count += 1
        if self._count == self.stretch or step == self._last:
            mean = float(self._sum) / self._count
            self._losses.append(mean)
            self.diverged = not math.isfinite(mean)
            self._sum.zero_()
            self._count = 0

    def add_evaluation(self, step: int, *, accuracy: float, loss: float) -> None:
        """Take an evaluation made after ``step`` updates."""
        self.evaluations.append({"step": step, "accuracy": accuracy, "loss": loss})

    def state(self) -> dict[str, Any]:
        """Give everything needed to go on later."""
        return {
            "evaluations": self.evaluations,
            "losses": self._losses,
            "sum": self._sum,
            "count": self._count,
            "diverged": self.diverged,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.evaluations = [dict(entry) for entry in state["evaluations"]]
        self._losses = list(state["losses"])
        self._sum = state["sum"].clone()
        self._count, self.diverged = state["count"], state["diverged"]

    def result(self) -> dict[str, Any]:
        """Give the curves as plain data."""
        return {
            "stretch": self.stretch,
            "loss": [float(f"{loss:.5g}") for loss in self._losses],
            "evaluations": self.evaluations,
        }
