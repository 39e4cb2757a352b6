"""Two runs in place of one: a scout that finds where the loss diverges, and a slow run up to there.

At the pace of a sweep over eight decades in a hundred updates, a net has only just begun to move
when the rate is already too high for one that has. How high a rate SGD can stand, once the net has
moved, shows when the decades that matter take thirty updates each. Those that do not are rushed
through by the scout, whose own losses say nothing else, and whose traces the driver removes.
"""

from __future__ import annotations

import math

import numpy as np

from cyclr.rangetest import divergence
from cyclr.rangetest.course import LOWER, Course, GivenCourse, OwnCourse, longest
from cyclr.rangetest.way_back import WayBack
from cyclr.schedules import ExponentialSweep

SCOUT_ALONE = "Only the scout has run; the sweep proper did not follow."
LEAST = 60  # steps below which the slow run would be no slower than a usual sweep
_HURRY = 4  # updates to a decade for the scout
_DECADES = 16  # that it goes up at most: to 1e9
_WATCH = 3  # of its losses in the medians that its fall is seen by
_CLEAR = 6.0  # deviations of a batch's loss that are a clear fall
_BELOW_TURN = 200.0  # times below where it turned that the slow run begins
_BELOW_FALL = 3.0  # … or below where half of the fall was done
_ABOVE_TURN = 8.0  # times above where it turned that the slow run ends at the latest
_FEWEST = 20  # updates that a slow run must have left to be of use
_PER_DECADE = 0.3  # updates to a decade for the slow run, per step of density
_WINDOW = 0.12  # share of the steps in which a loss must stay up to have turned
_SCOUT_WINDOW = 6  # … and updates, for the scout


class ScoutCourse:
    """Up from ``start_lr``, four updates to a decade, until the loss has turned.

    Args:
        steps: Density that the slow run takes its pace from.
        start_lr: Where to begin, > 0.
        spent: Updates that earlier attempts have used up.
    """

    at_once = 10

    def __init__(self, *, steps: int, start_lr: float, spent: int = 0) -> None:
        self.density, self.start_lr, self.spent = steps, start_lr, spent
        self.steps: int = min(_HURRY * _DECADES, longest(steps) - spent)

    @classmethod
    def before(cls, course: OwnCourse) -> Course:
        """Make the scout for a course; the course itself if it is too coarse to be run slowly."""
        if course.density < LEAST:
            return course
        return cls(steps=course.density, start_lr=course.start_lr)

    @property
    def sweep(self) -> ExponentialSweep:
        """The schedule up to the highest rate that it may reach."""
        end = self.start_lr * 10 ** ((self.steps - 1) / _HURRY)
        return ExponentialSweep(start_lr=self.start_lr, end_lr=end, steps=self.steps)

    def turned(self, losses: list[float]) -> bool:
        """Say whether the loss has lost half its fall again for more than a decade."""
        return divergence.turned(losses, share=0.5, window=_SCOUT_WINDOW, width=_SCOUT_WINDOW)

    def go_on(self, losses: list[float]) -> bool:
        """Say whether there is a higher rate to try."""
        return len(losses) < self.steps

    def again(self) -> ScoutCourse:
        """Plan the same for a repeat."""
        return ScoutCourse(steps=self.density, start_lr=self.start_lr)

    def way_back(self, top: float, told: int) -> WayBack | None:
        """Plan nothing: the slow run comes next."""

    def lower(self, spent: int) -> ScoutCourse | None:
        """Plan another attempt, from far below; None if too few steps are left to be of use."""
        spent += self.spent
        if longest(self.density) - spent < self.density:
            return None
        return ScoutCourse(steps=self.density, start_lr=self.start_lr * LOWER, spent=spent)

    def then(self, lr: list[float], loss: list[float], *, turned: bool) -> Course | None:
        """Plan the slow run from what the scout saw; None if too few steps are left to be of use.

        It begins a factor of 200 below where the loss turned, or of three below where half of the
        loss's fall was done, if that is lower: where losses are very noisy or hardly diverge, a
        turn is seen late. It ends eight times above where the loss turned, if not before: a net
        that has learned its data by heart may stand any rate.

        Where the loss has turned nowhere, it begins below half of the fall; and if there was no
        fall either, the whole range is swept again, evenly, with the steps that are left.
        """
        spent, half = self.spent + len(lr), _half_fallen(lr, loss)
        left = longest(self.density) - spent
        if left < _FEWEST:
            return None
        if not turned and half == math.inf:
            even = ExponentialSweep(start_lr=self.start_lr, end_lr=lr[-1], steps=left)
            return GivenCourse(even)
        start, end = half / _BELOW_FALL, lr[-1]
        if turned:
            start, end = min(start, lr[-1] / _BELOW_TURN), _ABOVE_TURN * lr[-1]
        return SlowCourse(steps=self.density, start_lr=start, end_lr=end, spent=spent)


def _half_fallen(lr: list[float], loss: list[float]) -> float:
    """Find the rate at which half of the fall was done; infinite if there was no clear one."""
    seen = np.asarray(loss, dtype=float)
    finite = np.isfinite(seen)
    seen, rates = seen[finite], np.asarray(lr)[finite]
    if seen.size < 2 * _WATCH:
        return math.inf
    medians = divergence.medians(seen, _WATCH)
    start = float(np.median(seen[: 2 * _HURRY]))
    fall = start - float(medians.min())
    if fall <= _CLEAR * divergence.noise(seen[: max(2 * _HURRY, seen.size // 2)]):
        return math.inf
    return float(rates[int(np.argmax(medians <= start - fall / 2)) + _WATCH // 2])


class SlowCourse:
    """Up by a constant ratio, thirty updates to a decade, until the loss has turned.

    Args:
        steps: Density: the updates to a decade are three tenths of it.
        start_lr: Where to begin, > 0.
        end_lr: Where to end if the loss has not turned, above start_lr.
        spent: Updates that the scout and earlier attempts have used up.
    """

    def __init__(self, *, steps: int, start_lr: float, end_lr: float, spent: int) -> None:
        self.density, self.start_lr, self.end_lr, self.spent = steps, start_lr, end_lr, spent
        pace = _PER_DECADE * steps
        whole = 1 + math.ceil(pace * math.log10(end_lr / start_lr))
        self.steps: int = min(whole, longest(steps) - spent)
        end = start_lr * 10 ** ((self.steps - 1) / pace)
        self.sweep = ExponentialSweep(start_lr=start_lr, end_lr=end, steps=self.steps)
        self._window = max(10, round(_WINDOW * steps))
        self.at_once = 15  # the fewest that an explosion is seen in, and a few

    def turned(self, losses: list[float]) -> bool:
        """Say whether the loss has lost half its fall again for four tenths of a decade."""
        return divergence.turned(losses, share=0.5, window=self._window, width=self._window)

    def go_on(self, losses: list[float]) -> bool:
        """Say whether the sweep goes on."""
        return len(losses) < self.steps

    def again(self) -> SlowCourse:
        """Plan the same for a repeat, which needs no scout."""
        return SlowCourse(steps=self.density, start_lr=self.start_lr, end_lr=self.end_lr, spent=0)

    def way_back(self, top: float, told: int) -> WayBack | None:
        """Plan nothing: this run has been slow enough."""

    def lower(self, spent: int) -> SlowCourse | None:
        """Plan another attempt, from a factor of 200 below; None if too few steps are left."""
        spent += self.spent
        if longest(self.density) - spent < self.density // 2:
            return None
        start, end = self.start_lr / _BELOW_TURN, self.end_lr / _BELOW_TURN
        return SlowCourse(steps=self.density, start_lr=start, end_lr=end, spent=spent)
