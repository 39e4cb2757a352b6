"""One run along a course: what has been asked and told since the training was as it is found."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cyclr.errors import StateError
from cyclr.rangetest import divergence
from cyclr.rangetest.course import Course
from cyclr.rangetest.record import Outcome, Series
from cyclr.rangetest.way_back import NO_LEG, Leg, WayBack

_CLOSE = 1000  # losses up to which all are looked at after every update; later, now and then


class Run:
    """Rates out, numbers in, until the course ends or the loss says so.

    Args:
        course: Which rates.
        stop_on_divergence: Whether a clear rise of the loss ends the run. Non-finite losses always
            do.

    Attributes:
        course: As given.
        lr: The rate of every update told, without those of the way back.
        loss: Its loss.
        outcome: How the run has ended; None as long as it has not.
        way_back: What follows once the loss has turned; None before, or where nothing does.
        failure: Why an update could not be made, if one could not.
    """

    def __init__(self, course: Course, *, stop_on_divergence: bool) -> None:
        self.course, self._stop_on_divergence = course, stop_on_divergence
        self.lr: list[float] = []
        self.loss: list[float] = []
        self._metrics: dict[str, tuple[list[int], list[float]]] = {}
        self._asked: float | None = None
        self.outcome: Outcome | None = None
        self.way_back: WayBack | None = None
        self.failure: str | None = None

    @property
    def step(self) -> int:
        """How many updates have been told, those of the way back included."""
        return len(self.lr) + len(self.leg.lr)

    @property
    def steps(self) -> int:
        """How many updates are planned."""
        return self.course.steps if self.way_back is None else self.step + self.way_back.left

    @property
    def has_begun(self) -> bool:
        """Whether any update has been told, or any rate asked for."""
        return self.step > 0 or self._asked is not None

    @property
    def leg(self) -> Leg:
        """What the way back has seen."""
        return NO_LEG if self.way_back is None else self.way_back.leg

    @property
    def metrics(self) -> dict[str, Series]:
        """Numbers other than the loss, by name."""
        return {name: Series(tuple(s), tuple(v)) for name, (s, v) in self._metrics.items()}

    @property
    def began_too_high(self) -> bool:
        """Whether the loss diverged within the first steps, although the very first was finite."""
        ended = self.outcome in (Outcome.DIVERGED, Outcome.NON_FINITE)
        return ended and len(self.loss) <= self.course.at_once and math.isfinite(self.loss[0])

    def ask(self) -> float | None:
        """Name the rate for the next update; None when the run has ended.

        Raises:
            StateError: The last rate has not been answered.
        """
        if self._asked is not None:
            raise StateError(
                f"the rate {self._asked:g} of step {self.step} was asked for but no loss was told; "
                "call test.tell(loss=…) after each update"
            )
        if self.way_back is not None:
            self._asked = self.way_back.ask()
        elif self.outcome is None:
            self._asked = float(self.course.sweep(self.step))
        return self._asked

    def unanswered(self) -> float:
        """Give the rate that waits for an answer.

        Raises:
            StateError: There is none.
        """
        if self._asked is None:
            raise StateError(
                "tell was called without a rate to answer; iterate over the test first"
            )
        return self._asked

    def tell(self, loss: float, metrics: Mapping[str, float]) -> None:
        """Answer the last rate; metrics are not kept on the way back.

        Raises:
            StateError: No rate was asked for.
        """
        asked, self._asked = self.unanswered(), None
        if self.way_back is not None:
            self.way_back.tell(asked, loss)
            return
        for name, value in metrics.items():
            steps, values = self._metrics.setdefault(name, ([], []))
            steps.append(self.step)
            values.append(value)
        self.lr.append(asked)
        self.loss.append(loss)
        self.outcome = self._judge()
        if self.outcome is Outcome.DIVERGED and not self.began_too_high:
            self.way_back = self.course.way_back(asked, len(self.lr))

    def fail(self, why: str) -> None:
        """Answer the last rate with an update that could not be made.

        On the way back the outcome stays what it was.

        Raises:
            StateError: No rate was asked for.
        """
        on_way_back = self.way_back is not None
        self.tell(math.nan, {})
        if not on_way_back:  # … which had its outcome already
            self.outcome, self.way_back = Outcome.NON_FINITE, None
            self.failure = why

    def _judge(self) -> Outcome | None:
        """Say whether the run has ended, and how."""
        last_two = self.loss[-2:]
        if not any(map(math.isfinite, last_two)) and (len(last_two) > 1 or self.steps == 1):
            return Outcome.NON_FINITE
        if self._stop_on_divergence and self._diverged():
            return Outcome.DIVERGED
        return None if self.course.go_on(self.loss) else Outcome.COMPLETED

    def _diverged(self) -> bool:
        losses = self.loss
        if len(losses) % max(1, len(losses) // _CLOSE):
            return False  # looking at all of a long record after every update would cost more
        early = len(losses) <= 2 * self.course.at_once
        return (
            divergence.exploded(losses)
            or (early and divergence.jumped(losses))
            or self.course.turned(losses)
        )
