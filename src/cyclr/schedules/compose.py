"""Schedules made from schedules: one after another, opposite, scaled, clamped, with a warmup."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from cyclr.errors import SpecError, complaint
from cyclr.schedules.arrays import Operations, Value
from cyclr.schedules.fields import real, schedule, sequence
from cyclr.schedules.ramps import LinearSweep
from cyclr.schedules.sources import CLR, NONE, ONE_CYCLE
from cyclr.schedules.spec import Schedule, spec


@spec
class Chain(Schedule):
    """Schedules one after another, each starting from its own step 0.

    ::

        value(k) = schedules[i](k − boundaries[i−1]),   i = number of boundaries ≤ k

    The paper's Table 2 is three triangular2 pieces of four, three and three cycles:

    >>> from cyclr.schedules import Triangular2
    >>> table2 = Chain(schedules=(
    ...     Triangular2(base_lr=1e-3, max_lr=5e-3, stepsize=2000, cycles=4),
    ...     Triangular2(base_lr=1e-4, max_lr=5e-4, stepsize=1000, cycles=3),
    ...     Triangular2(base_lr=1e-5, max_lr=5e-5, stepsize=500, cycles=3),
    ... ))
    >>> table2.starts, table2.total_steps
    ((16000, 22000), 25000)
    >>> [table2(step) for step in (0, 2000, 16000, 17000, 22000, 22500)]
    [0.001, 0.005, 0.0001, 0.0005, 1e-05, 5e-05]

    Args:
        schedules: At least one schedule.
        boundaries: The steps at which the second and later schedules begin, ascending, ≥ 1, one
            fewer than schedules. If None, each schedule begins where the one before it ends, and
            all but the last must have an end.

    Raises:
        SpecError: There is no schedule, boundaries do not ascend or have the wrong number, or a
            schedule that never ends is followed by another without a boundary.

    Reference: arXiv 1506.01186, Table 2.
    """

    schedules: tuple[Schedule, ...] = sequence("schedule")
    boundaries: tuple[int, ...] | None = sequence("integer", default=None, ge=1, optional=True)

    source: ClassVar[str] = CLR

    def _check(self) -> None:
        if not self.schedules:
            remedy = "pass at least one schedule"
            raise SpecError(complaint("Chain.schedules", "a non-empty sequence", (), remedy))
        if self.boundaries is None:
            for i, piece in enumerate(self.schedules[:-1]):
                if piece.total_steps is None:
                    raise SpecError(
                        f"Chain.schedules[{i}] never ends, so what follows it has no first step; "
                        "pass boundaries=(…), or give it a length (such as cycles=4)"
                    )
        elif len(self.boundaries) != len(self.schedules) - 1:
            constraint = f"{len(self.schedules) - 1} ascending steps for these schedules"
            remedy = "name the first step of every schedule but the first"
            raise SpecError(complaint("Chain.boundaries", constraint, self.boundaries, remedy))
        elif any(b <= a for a, b in pairwise(self.boundaries)):
            remedy = "put them in order, without repeats"
            raise SpecError(complaint("Chain.boundaries", "ascending", self.boundaries, remedy))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First steps of the second and later schedules."""
        if self.boundaries is not None:
            return self.boundaries
        starts, end = [], 0
        for piece in self.schedules[:-1]:
            end += piece.total_steps or 0
            starts.append(end)
        return tuple(starts)

    def _length(self) -> int | None:
        """Find the end of the last schedule."""
        last = self.schedules[-1].total_steps
        return None if last is None else (self.starts[-1] if self.starts else 0) + last

    def _cycle_ends(self, until: int) -> tuple[int, ...]:
        ends: set[int] = set()
        starts = (0, *self.starts)
        for piece, start, stop in zip(self.schedules, starts, (*self.starts, until), strict=True):
            room = min(stop, until) - start
            if room > 0:
                ends.update(start + end for end in piece._cycle_ends(room))
        return tuple(sorted(ends))

    def _value(self, ops: Operations, step: Value) -> Value:
        begins = (0, *self.starts)
        only = ops.within(begins, step)
        if only is not None:
            return self.schedules[only]._value(ops, ops.since(step, begins[only]))
        value = self.schedules[0]._value(ops, step)
        for piece, start in zip(self.schedules[1:], self.starts, strict=True):
            # Before its start a piece is asked for step 0: in range, and thrown away.
            own = piece._value(ops, ops.since(step, start))
            value = ops.where(ops.reached(step, start), own, value)
        return value


@spec
class _Wrapper(Schedule):
    """A schedule whose values are another's, changed; its length and cycles are the other's."""

    schedule: Schedule = schedule()

    source: ClassVar[str] = NONE

    def _length(self) -> int | None:
        """Ask the inner schedule."""
        return self.schedule.total_steps

    def _cycle_ends(self, until: int) -> tuple[int, ...]:
        return self.schedule._cycle_ends(until)


@spec
class Scale(_Wrapper):
    """Another schedule times a factor, for a parameter group with its own multiplier.

    >>> Scale(schedule=LinearSweep(start_lr=0.0, end_lr=1.0, steps=3), factor=0.5)(2)
    0.5

    Args:
        schedule: The schedule to scale.
        factor: What to multiply by, ≥ 0.

    Raises:
        SpecError: A field breaks its bound.
    """

    factor: float = real(ge=0)

    def _value(self, ops: Operations, step: Value) -> Value:
        return self.factor * self.schedule._value(ops, step)


@spec
class Clamp(_Wrapper):
    """Another schedule kept within bounds.

    >>> Clamp(schedule=LinearSweep(start_lr=0.0, end_lr=1.0, steps=3), low=0.1, high=0.6)(0)
    0.1

    Args:
        schedule: The schedule to clamp.
        low: Lower bound (inclusive), ≥ 0.
        high: Upper bound (inclusive), ≥ low.

    Raises:
        SpecError: A field breaks its bound.
    """

    low: float = real(default=0.0, ge=0)
    high: float = real(gt=0)

    def _check(self) -> None:
        if self.high < self.low:
            limit = f"≥ low ({self.low:g})"
            raise SpecError(complaint("Clamp.high", limit, self.high, "swap the two"))

    def _value(self, ops: Operations, step: Value) -> Value:
        return ops.maximum(self.low, ops.minimum(self.high, self.schedule._value(ops, step)))


@spec
class Opposite(_Wrapper):
    """A value that falls as another schedule rises: momentum, or Adam's beta1, against the rate.

    ::

        value = high − (high − low) · clip((schedule(k) − bottom) / (top − bottom), 0, 1)

    While the rate is below ``bottom``, as in a one-cycle's annihilation, the value stays at high.

    >>> from cyclr.schedules import OneCycle
    >>> rate = OneCycle(max_lr=1.0, base_lr=0.1, total_steps=100, stepsize=45)
    >>> momentum = Opposite(schedule=rate, bottom=0.1, top=1.0, low=0.85, high=0.95)
    >>> [round(momentum(step), 6) for step in (0, 45, 90, 99)]
    [0.95, 0.85, 0.95, 0.95]

    Args:
        schedule: The schedule to oppose, usually of the learning rate.
        bottom: The rate at which the value is high, ≥ 0.
        top: The rate at which the value is low, > bottom.
        low: Smallest value (inclusive), ≥ 0.
        high: Largest value (inclusive), ≥ low.

    Raises:
        SpecError: A field breaks its bound.

    Reference: arXiv 1803.09820, section 4.3.
    """

    bottom: float = real(ge=0)
    top: float = real(gt=0)
    low: float = real(ge=0)
    high: float = real(gt=0)

    source: ClassVar[str] = ONE_CYCLE

    def _check(self) -> None:
        if self.top <= self.bottom:
            limit = f"> bottom ({self.bottom:g})"
            raise SpecError(complaint("Opposite.top", limit, self.top, "pass the rate's bounds"))
        if self.high < self.low:
            limit = f"≥ low ({self.low:g})"
            raise SpecError(complaint("Opposite.high", limit, self.high, "swap the two"))

    def _value(self, ops: Operations, step: Value) -> Value:
        height = (self.schedule._value(ops, step) - self.bottom) / (self.top - self.bottom)
        return self.high - (self.high - self.low) * ops.maximum(0.0, ops.minimum(1.0, height))


def warmup(rest: Schedule, *, steps: int, start_lr: float = 0.0) -> Chain:
    """Put a linear warmup in front of a schedule.

    The warmup takes updates 0 to ``steps − 1``, from start_lr towards ``rest(0)``, which update
    ``steps`` uses as the first of the rest.

    >>> schedule = warmup(LinearSweep(start_lr=1.0, end_lr=0.0, steps=5), steps=4)
    >>> [schedule(step) for step in (0, 2, 4, 8)]
    [0.0, 0.5, 1.0, 0.0]

    Args:
        rest: The schedule to begin after the warmup.
        steps: Length of the warmup in steps, ≥ 1.
        start_lr: Rate of update 0, ≥ 0.

    Raises:
        SpecError: A field breaks its bound.
    """
    ramp = LinearSweep(start_lr=start_lr, end_lr=rest(0), steps=steps, endpoint=False)
    return Chain(schedules=(ramp, rest), boundaries=(steps,))
