"""What an experiment measures beside the curves, by name; each can be cut off and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import nn

from cyclr.errors import InputError, complaint


class Measure(Protocol):
    """Something measured along a run. Its state is plain data and tensors."""

    def after_step(self, step: int, lr: float, net: nn.Module) -> None:
        """Look at the net after update ``step``, which used the rate ``lr``."""

    def at_stop(self, step: int, probabilities: torch.Tensor, labels: torch.Tensor) -> None:
        """Look at the test set's probabilities at a stopping point, after ``step`` updates."""

    def state(self) -> dict[str, Any]:
        """Give everything needed to go on later."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""

    def result(self) -> dict[str, Any]:
        """Give what was measured, as plain data."""


class HessianFree:
    """The Hessian-free estimate of the best rate, from three weights in a row.

    With θ every ``every`` updates apart and sums over all parameters::

        ε* = ε · Σ|θ₁ − θ₀| / Σ|2θ₁ − θ₀ − θ₂|
        average ← 0.1 · ε* + 0.9 · average

    Weights only: running statistics of BatchNorm are not part of θ.

    Args:
        every: Updates between the weights compared, ≥ 1.
        until: Look at the first so many updates, or None for all.

    Reference: Smith & Topin, arXiv 1708.07120, equations 7 and 8.
    """

    def __init__(self, every: int, until: int | None = None) -> None:
        self.every, self.until = every, until
        self._thetas: list[torch.Tensor] = []
        self._average = 0.1  # where the authors' script starts
        self._series: list[list[float]] = []

    def after_step(self, step: int, lr: float, net: nn.Module) -> None:
        """Keep the weights, and estimate once there are three of them."""
        if step % self.every or (self.until is not None and step >= self.until):
            return
        weights = [p.detach().flatten() for p in net.parameters()]
        self._thetas = [*self._thetas[-2:], torch.cat(weights).clone()]
        if len(self._thetas) < 3:
            return
        a, b, c = self._thetas
        slope = float((b - a).abs().sum(dtype=torch.float64))
        bend = float((2 * b - a - c).abs().sum(dtype=torch.float64))
        estimate = lr * slope / bend if bend > 0 else float("nan")
        self._average = 0.1 * estimate + 0.9 * self._average
        self._series.append([step, lr, estimate, self._average])

    def at_stop(self, step: int, probabilities: torch.Tensor, labels: torch.Tensor) -> None:
        """Take no notice of the test set."""

    def state(self) -> dict[str, Any]:
        """Give the last weights, the average and the series."""
        return {"thetas": self._thetas, "average": self._average, "series": self._series}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._thetas, self._average = list(state["thetas"]), state["average"]
        self._series = [list(row) for row in state["series"]]

    def result(self) -> dict[str, Any]:
        """Give the series, at most 400 rows of it: step, rate, estimate, average."""
        stride = max(1, -(-len(self._series) // 400))
        return {"columns": ["step", "lr", "estimate", "average"], "rows": self._series[::stride]}


class Snapshots:
    """The accuracy of the last stopping points' models together: their probabilities averaged.

    Reference: Loshchilov & Hutter, arXiv 1608.03983, Table 2.
    """

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._probabilities: list[torch.Tensor] = []
        self._labels: torch.Tensor | None = None

    def after_step(self, step: int, lr: float, net: nn.Module) -> None:
        """Take no notice of single updates."""

    def at_stop(self, step: int, probabilities: torch.Tensor, labels: torch.Tensor) -> None:
        """Keep the test set's probabilities."""
        self._steps.append(step)
        self._probabilities.append(probabilities.half())
        self._labels = labels

    def state(self) -> dict[str, Any]:
        """Give the kept probabilities."""
        kept = {"steps": self._steps, "probabilities": self._probabilities}
        return kept if self._labels is None else {**kept, "labels": self._labels}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._steps, self._labels = list(state["steps"]), state.get("labels")
        self._probabilities = list(state["probabilities"])

    def result(self) -> dict[str, Any]:
        """Give each snapshot's accuracy, and that of the last 1, 2, … together."""
        if self._labels is None:
            return {"steps": [], "single": [], "last": []}
        labels = self._labels
        stack = torch.stack(self._probabilities).float()

        def right(p: torch.Tensor) -> float:
            return float((p.argmax(1) == labels).float().mean())

        return {
            "steps": self._steps,
            "single": [right(p) for p in stack],
            "last": [right(stack[-k:].mean(0)) for k in range(1, len(stack) + 1)],
        }


MEASURES: dict[str, Callable[[], Measure]] = {
    "hessian_free_each_step": lambda: HessianFree(every=1, until=300),
    "hessian_free": lambda: HessianFree(every=10),
    "snapshots": Snapshots,
}
"""By name in a grid's ``measures``."""


def make_measures(names: Iterable[str]) -> dict[str, Measure]:
    """Make the measures of a run, by name.

    Raises:
        InputError: A name is unknown.
    """
    made = {}
    for name in names:
        if name not in MEASURES:
            known = "among " + ", ".join(sorted(MEASURES))
            raise InputError(complaint("run.measures", known, name, "pick from these"))
        made[name] = MEASURES[name]()
    return made
