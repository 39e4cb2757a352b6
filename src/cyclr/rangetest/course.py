"""Which rates a sweep goes through, and when it has seen enough."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from cyclr.errors import SpecError, complaint
from cyclr.rangetest import divergence
from cyclr.rangetest.way_back import WayBack
from cyclr.schedules import Chain, Constant, ExponentialSweep
from cyclr.schedules.fields import Constraint
from cyclr.schedules.spec import Schedule

START_LR, END_LR, STEPS = 1e-7, 10.0, 100
_MOST = 1.5  # how far a sweep that has not turned goes on, in lengths of the default
_HASTE = 2.0  # … and how much faster: few models need such rates, and those may be far up
_LEAST = 20  # steps below which a record is too coarse to tell whether to go on
LOWER = 1e-6  # where to begin again, relative to a start that was too high
_AT_ONCE = 1.2  # decades within which a divergence says that the sweep began too high
_DECADES = 8  # from 1e-7 to 10
_WINDOW = 0.1  # share of the steps in which a loss must stay up to have turned
_BACK = 0.12  # length of the way back, as a share of the density
_BACK_PACE = 0.5  # … which is half as fast as the way up: recovering takes updates

_RATE = Constraint(kind="real", gt=0, lt=END_LR)
_COUNT = Constraint(kind="integer", ge=2)


def default_sweep(steps: int = STEPS) -> ExponentialSweep:
    """Make the sweep that a range test begins with when none is given: 1e-7 to 10."""
    return ExponentialSweep(start_lr=START_LR, end_lr=END_LR, steps=steps)


def longest(steps: int) -> int:
    """Say how many updates a range test of such a density takes at most, all attempts included."""
    return max(2, round(_MOST * steps) if steps >= _LEAST else steps)


class Course(Protocol):
    """The rates of a sweep."""

    @property
    def sweep(self) -> Schedule:
        """The schedule, as far as it is decided."""

    @property
    def steps(self) -> int:
        """How many updates are planned."""

    @property
    def at_once(self) -> int:
        """Within how many updates a divergence says that the course began too high."""

    def turned(self, losses: list[float]) -> bool:
        """Say whether the loss has turned so that higher rates have nothing more to tell."""

    def go_on(self, losses: list[float]) -> bool:
        """Say whether there is another update after these losses."""

    def again(self) -> Course:
        """Plan the same for a repeat."""

    def way_back(self, top: float, told: int) -> WayBack | None:
        """Plan what follows once the loss has turned at a rate, ``told`` updates in; or nothing."""

    def lower(self, spent: int) -> Course | None:
        """Plan another attempt from below, after so many updates; or nothing."""


class GivenCourse:
    """A schedule of the user's, run as it is.

    Raises:
        SpecError: The sweep never ends, does not rise, falls on its way, or is not a schedule.
    """

    def __init__(self, sweep: Schedule) -> None:
        if not isinstance(sweep, Schedule):
            raise SpecError(complaint("sweep", "a cyclr schedule", sweep, "try ExponentialSweep"))
        if sweep.total_steps is None:
            remedy = "use one with steps, such as ExponentialSweep"
            raise SpecError(complaint("sweep", "a schedule with an end", sweep, remedy))
        if not sweep(0) < sweep(sweep.total_steps - 1):
            remedy = "swap start_lr and end_lr"
            raise SpecError(complaint("sweep", "a schedule that rises", sweep, remedy))
        self.sweep = sweep
        self.steps: int = sweep.total_steps
        self._check_order()
        self._window = max(10, round(_WINDOW * self.steps))
        self.at_once = max(10, round(_AT_ONCE * STEPS / _DECADES))

    def _check_order(self) -> None:
        rates = self.sweep(np.arange(self.steps))
        falls = np.flatnonzero(np.diff(rates) < 0)
        if falls.size:
            before, after = (float(rates[falls[0] + k]) for k in (0, 1))
            remedy = "use one that never falls, such as ExponentialSweep"
            raise SpecError(
                complaint(
                    f"sweep at step {falls[0] + 1}",
                    f"≥ {before:g}, the rate before it",
                    after,
                    remedy,
                )
            )

    def turned(self, losses: list[float]) -> bool:
        """Say whether the loss has been back where it began for a tenth of the steps."""
        # Long sweeps are looked at now and then: a look takes as long as the record.
        if len(losses) % max(1, self.steps // 200):
            return False
        return divergence.turned(losses, share=0.9, window=self._window, width=self._window)

    def go_on(self, losses: list[float]) -> bool:
        """Say whether the schedule goes on."""
        return len(losses) < self.steps

    def again(self) -> GivenCourse:
        """Plan the same for a repeat."""
        return self

    def way_back(self, top: float, told: int) -> WayBack | None:
        """Plan nothing: the schedule is run as it is."""

    def lower(self, spent: int) -> None:
        """Plan nothing: the schedule is run as it is."""


class OwnCourse:
    """A range that the sweep finds by itself: upward by a constant ratio until the loss has turned.

    Beyond 10 the ratio is squared, so that 150 steps reach 1e9.

    Args:
        steps: Density: how many steps lead from 1e-7 to 10, ≥ 2. The sweep has at most half as many
            again.
        start_lr: Where to begin, in (0, 10).
        spent: Updates that earlier attempts have used up.

    Raises:
        SpecError: An argument breaks its bound.
    """

    def __init__(self, *, steps: int = STEPS, start_lr: float = START_LR, spent: int = 0) -> None:
        self.density: int = _COUNT.check("steps", steps)
        self.start_lr: float = _RATE.check("start_lr", start_lr)
        self.spent = spent
        self._log_ratio = math.log(END_LR / START_LR) / (self.density - 1)
        self._most = max(2, longest(self.density) - spent)
        self._to_end = 1 + round(math.log(END_LR / self.start_lr) / self._log_ratio)
        self.steps = max(2, min(self._to_end, self._most))
        self._window = max(10, round(_WINDOW * self.density))
        self.at_once = max(10, round(_AT_ONCE * self.density / _DECADES))
        self._sweep: Schedule | None = None

    @property
    def sweep(self) -> Schedule:
        """The schedule from the start to the last step planned."""
        if self._sweep is None or self._sweep.total_steps != self.steps:
            self._sweep = self._make()
        return self._sweep

    def _make(self) -> Schedule:
        start, plain = self.start_lr, min(self.steps, self._to_end)
        end = start * math.exp((plain - 1) * self._log_ratio)
        if math.isclose(end, END_LR, rel_tol=1e-9):
            end = END_LR
        first = ExponentialSweep(start_lr=start, end_lr=end, steps=plain)
        beyond = self.steps - plain
        if beyond == 0:
            return first
        stride = _HASTE * self._log_ratio
        low, high = end * math.exp(stride), end * math.exp(beyond * stride)
        rest = (
            Constant(value=low)
            if beyond == 1
            else ExponentialSweep(start_lr=low, end_lr=high, steps=beyond)
        )
        return Chain(schedules=(first, rest))

    def turned(self, losses: list[float]) -> bool:
        """Say whether the loss has lost half its fall again for nearly a decade."""
        return divergence.turned(losses, share=0.5, window=self._window, width=self._window)

    def go_on(self, losses: list[float]) -> bool:
        """Say whether to go on; at the end of the plan, plan one step more if need be."""
        if len(losses) < self.steps:
            return True
        # A rise by a fifth is reason not to go on, but no turn: on a way back from it, the rule
        # would take a loss that never left its basin for one that has come back.
        half = self._window // 2
        risen = divergence.turned(losses, share=0.2, window=half, width=self._window)
        if risen or self.steps >= self._most:
            return False
        self.steps += 1
        return True

    def again(self) -> OwnCourse:
        """Plan the same for a repeat, from where this one began."""
        return OwnCourse(steps=self.density, start_lr=self.start_lr)

    def way_back(self, top: float, told: int) -> WayBack | None:
        """Plan half a decade down again, at half the pace, within the most steps allowed."""
        steps = min(round(_BACK * self.density), self._most - told)
        if self.density < _LEAST or steps < 1:
            return None
        return WayBack(top, _BACK_PACE * self._log_ratio, steps)

    def lower(self, spent: int) -> OwnCourse | None:
        """Plan another attempt, from far below; None if too few steps are left to be of use."""
        spent += self.spent
        lower = OwnCourse(steps=self.density, start_lr=self.start_lr * LOWER, spent=spent)
        return lower if lower.steps >= self.density // 2 else None
