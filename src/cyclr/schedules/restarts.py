"""Cosine annealing with warm restarts.

Source: Loshchilov & Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*,
arXiv 1608.03983, section 3, equation 5.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import accumulate
from typing import ClassVar

from cyclr.errors import SpecError, complaint
from cyclr.schedules.arrays import Operations, Value
from cyclr.schedules.fields import integer, real
from cyclr.schedules.sources import SGDR
from cyclr.schedules.spec import Schedule, spec

_HORIZON = 2**63  # steps beyond it are refused everywhere
_LEAST_GROWTH = 1.0001


@spec
class WarmRestarts(Schedule):
    """SGDR: cosine from max_lr down to min_lr over T_i steps, then back to max_lr at once.

    ::

        T_i = round(period · multiplier**i),   peak_i = min_lr + (max_lr − min_lr) · peak_decay**i
        lr  = min_lr + ½ (peak_i − min_lr) (1 + cos(π · t / T_i)),    t = steps since restart i

    Restart i comes at step ``T_0 + … + T_{i−1}``, kept as whole numbers, so every boundary is
    exact at any step; no logarithm is taken.

    >>> schedule = WarmRestarts(max_lr=0.1, period=10, multiplier=2)
    >>> [round(schedule(step), 6) for step in (0, 5, 9, 10, 20, 29, 30)]
    [0.1, 0.05, 0.002447, 0.1, 0.05, 0.000616, 0.1]
    >>> schedule.cycle_ends(100)
    (10, 30, 70)

    Args:
        max_lr: Rate right after a restart, > 0.
        min_lr: Rate approached before a restart, in [0, max_lr]. 0 in the authors' code.
        period: Length T_0 of the first period in steps, ≥ 1.
        multiplier: Factor T_mult between the lengths of periods: 1 exactly, or ≥ 1.0001 (nearer
            to 1, the table of restarts would not fit in memory).
        peak_decay: Factor between the amplitudes of periods, in (0, 1]; 1 in the paper.
        cycles: How many periods the schedule lasts, ≥ 1, after which it stays at min_lr; or None.

    Raises:
        SpecError: A field breaks its bound.

    Reference: arXiv 1608.03983, equation 5.
    """

    max_lr: float = real(gt=0)
    min_lr: float = real(default=0.0, ge=0)
    period: int = integer(ge=1)
    multiplier: float = real(default=1.0, ge=1)
    peak_decay: float = real(default=1.0, gt=0, le=1)
    cycles: int | None = integer(default=None, ge=1, optional=True)

    source: ClassVar[str] = SGDR

    def _check(self) -> None:
        if self.min_lr > self.max_lr:
            limit = f"≤ max_lr ({self.max_lr:g})"
            raise SpecError(complaint("WarmRestarts.min_lr", limit, self.min_lr, "swap the two"))
        if 1 < self.multiplier < _LEAST_GROWTH:
            constraint, remedy = f"1 or ≥ {_LEAST_GROWTH}", "use 1 for periods of equal length"
            raise SpecError(
                complaint("WarmRestarts.multiplier", constraint, self.multiplier, remedy)
            )
        if self.multiplier > 1 and len(self._periods) < (self.cycles or 0):
            constraint = f"≤ {len(self._periods)}, to end within 2**63 steps"
            remedy = "use None for a schedule that goes on for ever"
            raise SpecError(complaint("WarmRestarts.cycles", constraint, self.cycles, remedy))

    @cached_property
    def _periods(self) -> tuple[int, ...]:
        """Lengths of the periods up to the horizon; one entry when they are all equal."""
        if self.multiplier == 1:
            return (self.period,)
        # A whole factor is raised in integers: floats lose the last digits past 2**53.
        whole = int(self.multiplier) if self.multiplier == int(self.multiplier) else None
        lengths: list[int] = []
        total = 0
        while total < _HORIZON and (self.cycles is None or len(lengths) < self.cycles):
            i = len(lengths)
            length = self.period * whole**i if whole else round(self.period * self.multiplier**i)
            lengths.append(length)
            total += length
        return tuple(lengths)

    @cached_property
    def _restarts(self) -> tuple[int, ...]:
        """Steps of the restarts after step 0; the last lies beyond the horizon, or is the end."""
        return tuple(accumulate(self._periods))

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return (0, *self._restarts[:-1])

    @cached_property
    def _lengths(self) -> tuple[float, ...]:
        return tuple(map(float, self._periods))

    def _length(self) -> int | None:
        """Sum the first ``cycles`` periods; None without ``cycles``."""
        if self.cycles is None:
            return None
        return self.period * self.cycles if self.multiplier == 1 else self._restarts[-1]

    def _cycle_ends(self, until: int) -> tuple[int, ...]:
        if self.total_steps is not None:
            until = min(until, self.total_steps)
        if self.multiplier == 1:
            return tuple(range(self.period, until + 1, self.period))
        return tuple(restart for restart in self._restarts if restart <= until)

    def _value(self, ops: Operations, step: Value) -> Value:
        end = self.total_steps
        inside = step if end is None else ops.minimum(step, end - 1)
        if self.multiplier == 1:
            index, since = ops.split(inside, self.period)
            left = ops.until(self.period, since) / float(self.period)
        else:
            index, since = ops.segment(self._starts, inside)
            length = ops.pick(self._lengths, index)
            left = (length - ops.as_float(since)) / length
        peak = self.max_lr - self.min_lr
        if self.peak_decay != 1:
            peak = peak * ops.exp(ops.as_float(index) * math.log(self.peak_decay))
        lr = self.min_lr + peak * ops.half_cosine(left)
        return lr if end is None else ops.where(ops.reached(step, end), self.min_lr + 0.0 * lr, lr)
