"""The way back: what a sweep still does once the loss has turned.

Some nets are ruined by the rates at the end of a sweep, others train again as soon as the rate
comes down, and only a few more updates can tell which.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Leg(NamedTuple):
    """Updates made before or after the sweep proper; both empty where there were none."""

    lr: tuple[float, ...] = ()
    """Rate of each update, which falls on the way back and rises under a scout."""
    loss: tuple[float, ...] = ()
    """Loss of its batch, measured just before it."""


NO_LEG = Leg()


class WayBack:
    """Down from the last rate by a constant ratio.

    Args:
        top: The sweep's last rate, > 0.
        log_ratio: Logarithm of the rate before an update over the rate of that update, > 0.
        steps: How many updates, ≥ 1.
    """

    def __init__(self, top: float, log_ratio: float, steps: int) -> None:
        self._top, self._log_ratio, self._steps = top, log_ratio, steps
        self._lr: list[float] = []
        self._loss: list[float] = []

    def ask(self) -> float | None:
        """Name the next rate; None at the end, which a loss that is not finite is as well."""
        if self.left == 0:
            return None
        return self._top * math.exp(-(len(self._lr) + 1) * self._log_ratio)

    def tell(self, lr: float, loss: float) -> None:
        """Take the loss of an update."""
        self._lr.append(lr)
        self._loss.append(loss)

    @property
    def left(self) -> int:
        """How many updates are still to come."""
        if self._loss and not math.isfinite(self._loss[-1]):
            return 0
        return self._steps - len(self._lr)

    @property
    def leg(self) -> Leg:
        """What has been seen so far."""
        return Leg(tuple(self._lr), tuple(self._loss))
