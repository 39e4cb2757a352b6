"""Cyclical learning rates: windows that repeat, under an envelope.

Source: Smith, *Cyclical Learning Rates for Training Neural Networks*, arXiv 1506.01186.

With ``cycle`` and ``position`` the whole part and remainder of ``step`` over the cycle's length::

    x      = position / stepsize                                on the way up
             1                                                  while it is held at max_lr
             (length − hold_base − position) / down_stepsize    on the way down
             0                                                  while it is held at base_lr
    window = x                      triangular
             1 − (1 − x)²           Welch (parabolic)
             ½ (1 − cos πx)         Hann (sinusoidal)
    lr     = base_lr + (max_lr − base_lr) · window · envelope

Step 0 and every cycle's end are at the lower bound; ``step = stepsize`` is at the upper.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar, NamedTuple

from cyclr.errors import SpecError, complaint
from cyclr.schedules.arrays import Operations, Value
from cyclr.schedules.fields import choice, integer, real
from cyclr.schedules.sources import CLR
from cyclr.schedules.spec import Schedule, spec


class _Shape(NamedTuple):
    """One cycle's shape, after the fields that a policy leaves out are filled in."""

    window: str
    envelope: str
    gamma: float
    decay: str
    down_stepsize: int
    hold_max: int
    hold_base: int


@spec
class _Cycle(Schedule):
    """The fields every cyclical policy has, and the one formula behind them."""

    base_lr: float = real(ge=0)
    """Lower bound of a cycle."""
    max_lr: float = real(gt=0)
    """Upper bound of a cycle (inclusive; reached at step ``stepsize``)."""
    stepsize: int = integer(ge=1)
    """Half a cycle, in steps."""
    cycles: int | None = integer(default=None, ge=1, optional=True)
    """Stop after this many cycles and stay at the lower bound; None for ever."""

    source: ClassVar[str] = CLR

    def _check(self) -> None:
        if self.max_lr < self.base_lr:
            where, limit = f"{type(self).__name__}.max_lr", f"≥ base_lr ({self.base_lr:g})"
            raise SpecError(complaint(where, limit, self.max_lr, "swap the two, or raise max_lr"))

    @cached_property
    def _shape(self) -> _Shape:
        return _Shape("triangular", "constant", 1.0, "amplitude", self.stepsize, 0, 0)

    @property
    def cycle_steps(self) -> int:
        """Length of one cycle: up, hold, down, hold."""
        shape = self._shape
        return self.stepsize + shape.hold_max + shape.down_stepsize + shape.hold_base

    def _length(self) -> int | None:
        """Multiply the cycle's length by ``cycles``."""
        return None if self.cycles is None else self.cycles * self.cycle_steps

    def _cycle_ends(self, until: int) -> tuple[int, ...]:
        if self.total_steps is not None:
            until = min(until, self.total_steps)
        return tuple(range(self.cycle_steps, until + 1, self.cycle_steps))

    def _value(self, ops: Operations, step: Value) -> Value:
        shape = self._shape
        length = self.stepsize + shape.hold_max + shape.down_stepsize + shape.hold_base
        if self.cycles is not None:
            step = ops.minimum(step, self.cycles * length)
        cycle, position = ops.split(step, length)
        rise = ops.as_float(ops.minimum(position, self.stepsize)) / float(self.stepsize)
        inside = ops.minimum(position, length - shape.hold_base)
        gone = ops.since(inside, self.stepsize + shape.hold_max)
        fall = ops.until(shape.down_stepsize, gone) / float(shape.down_stepsize)
        x = ops.where(ops.reached(position, self.stepsize), fall, rise)
        height = _window(ops, shape.window, x)
        amplitude = self.max_lr - self.base_lr
        if shape.envelope == "halving":
            # Nothing is left after a thousand halvings; more would underflow.
            return self.base_lr + amplitude * height * 0.5 ** ops.as_float(ops.minimum(cycle, 1000))
        if shape.envelope == "exponential":
            factor = ops.exp(ops.as_float(step) * math.log(shape.gamma))
            if shape.decay == "bounds":
                return (self.base_lr + amplitude * height) * factor
            return self.base_lr + amplitude * height * factor
        return self.base_lr + amplitude * height


def _window(ops: Operations, window: str, x: Value) -> Value:
    """Shape the height: x runs from 0 at the lower bound to 1 at the upper."""
    if window == "welch":
        return x * (2.0 - x)  # 1 − (1 − x)², without its cancellation near 0
    if window == "hann":
        return ops.half_cosine(x)
    return x


@spec
class Triangular(_Cycle):
    """Straight up from base_lr to max_lr and straight back, for ever or for ``cycles`` cycles.

    ::

        lr = base_lr + (max_lr − base_lr) · max(0, 1 − |step/stepsize − 2·cycle − 1|)

    >>> schedule = Triangular(base_lr=0.001, max_lr=0.006, stepsize=2000)
    >>> [schedule(step) for step in (0, 1000, 2000, 4000)]
    [0.001, 0.0035, 0.006, 0.001]

    Args:
        base_lr: Lower bound, ≥ 0.
        max_lr: Upper bound, ≥ base_lr and > 0.
        stepsize: Half a cycle in steps, ≥ 1; 2 to 10 epochs' worth is the paper's advice.
        cycles: How many cycles the schedule lasts, ≥ 1, or None.

    Raises:
        SpecError: A field breaks its bound.

    Reference: arXiv 1506.01186, section 3.1.
    """


@spec
class Triangular2(_Cycle):
    """As :class:`Triangular`, with the amplitude halved after every cycle.

    ::

        lr = base_lr + (max_lr − base_lr) · triangular · ½**cycle        (cycle from 0)

    >>> schedule = Triangular2(base_lr=0.0, max_lr=1.0, stepsize=10)
    >>> [schedule(step) for step in (0, 10, 20, 30, 50)]
    [0.0, 1.0, 0.0, 0.5, 0.25]

    Args:
        base_lr: Lower bound, ≥ 0.
        max_lr: Upper bound of the first cycle, ≥ base_lr and > 0.
        stepsize: Half a cycle in steps, ≥ 1.
        cycles: How many cycles the schedule lasts, ≥ 1, or None.

    Raises:
        SpecError: A field breaks its bound.

    Reference: arXiv 1506.01186, section 3.1.
    """

    @cached_property
    def _shape(self) -> _Shape:
        return _Shape("triangular", "halving", 1.0, "amplitude", self.stepsize, 0, 0)


@spec
class ExpRange(_Cycle):
    """As :class:`Triangular`, declining by ``gamma ** step``.

    Two readings are in use. The paper's text lets both bounds decline; the code everyone runs
    lets only the amplitude decline and keeps base_lr::

        decay="amplitude":  lr = base_lr + (max_lr − base_lr) · triangular · gamma**step
        decay="bounds":     lr = (base_lr + (max_lr − base_lr) · triangular) · gamma**step

    The exponent is the step itself, counted from 0 over the whole run, in both.

    >>> schedule = ExpRange(base_lr=0.5, max_lr=1.0, stepsize=1, gamma=0.5)
    >>> [round(schedule(step), 6) for step in (0, 1, 2, 3)]
    [0.5, 0.75, 0.5, 0.5625]
    >>> [round(schedule.replace(decay="bounds")(step), 6) for step in (0, 1, 2)]
    [0.5, 0.5, 0.125]

    Args:
        base_lr: Lower bound at step 0, ≥ 0.
        max_lr: Upper bound before any decline, ≥ base_lr and > 0.
        stepsize: Half a cycle in steps, ≥ 1.
        gamma: Decline per step, in (0, 1]; 0.99994 in the paper.
        decay: What declines: ``"amplitude"`` or ``"bounds"``.
        cycles: How many cycles the schedule lasts, ≥ 1, or None.

    Raises:
        SpecError: A field breaks its bound.

    Reference: arXiv 1506.01186, section 3.1.
    """

    gamma: float = real(gt=0, le=1)
    decay: str = choice("amplitude", "bounds", default="amplitude")

    @cached_property
    def _shape(self) -> _Shape:
        return _Shape("triangular", "exponential", self.gamma, self.decay, self.stepsize, 0, 0)


@spec
class Cyclical(_Cycle):
    """The general cycle: any window under any envelope, with legs and holds of any length.

    The named policies are special cases. The CLR paper found the windows equivalent (section 3.1)
    and kept the triangle for being simple.

    >>> hann = Cyclical(base_lr=0.0, max_lr=1.0, stepsize=4, window="hann")
    >>> [round(hann(step), 4) for step in (0, 1, 2, 4, 8)]
    [0.0, 0.1464, 0.5, 1.0, 0.0]
    >>> slanted = Cyclical(base_lr=0.0, max_lr=1.0, stepsize=1, down_stepsize=4, hold_max=2)
    >>> [slanted(step) for step in (0, 1, 2, 3, 4, 7)]
    [0.0, 1.0, 1.0, 1.0, 0.75, 0.0]

    Args:
        base_lr: Lower bound, ≥ 0.
        max_lr: Upper bound, ≥ base_lr and > 0.
        stepsize: Length of the upward leg in steps, ≥ 1.
        cycles: How many cycles the schedule lasts, ≥ 1, or None.
        window: ``"triangular"``, ``"welch"`` (parabolic) or ``"hann"`` (sinusoidal).
        envelope: ``"constant"``, ``"halving"`` or ``"exponential"``.
        gamma: Decline per step in (0, 1]; needed by, and only by, the exponential envelope.
        decay: What the exponential envelope lets decline: ``"amplitude"`` or ``"bounds"``.
        down_stepsize: Length of the downward leg in steps, ≥ 1; ``stepsize`` if None.
        hold_max: Extra steps spent at the upper bound, ≥ 0.
        hold_base: Extra steps spent at the lower bound at the end of a cycle, ≥ 0.

    Raises:
        SpecError: A field breaks its bound, or gamma and envelope do not go together.

    Reference: arXiv 1506.01186, section 3.1.
    """

    window: str = choice("triangular", "welch", "hann", default="triangular")
    envelope: str = choice("constant", "halving", "exponential", default="constant")
    gamma: float | None = real(default=None, gt=0, le=1, optional=True)
    decay: str = choice("amplitude", "bounds", default="amplitude")
    down_stepsize: int | None = integer(default=None, ge=1, optional=True)
    hold_max: int = integer(default=0, ge=0)
    hold_base: int = integer(default=0, ge=0)

    def _check(self) -> None:
        super()._check()
        if (self.gamma is None) == (self.envelope == "exponential"):
            constraint = "given with envelope='exponential' and left out otherwise"
            remedy = f"the envelope is {self.envelope!r}; change one of the two"
            raise SpecError(complaint("Cyclical.gamma", constraint, self.gamma, remedy))

    @cached_property
    def _shape(self) -> _Shape:
        return _Shape(
            self.window,
            self.envelope,
            1.0 if self.gamma is None else self.gamma,
            self.decay,
            self.stepsize if self.down_stepsize is None else self.down_stepsize,
            self.hold_max,
            self.hold_base,
        )
