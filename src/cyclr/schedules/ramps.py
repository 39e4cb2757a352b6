"""A constant, and the ramps: sweeps of a range test, warmups, cooldowns.

A sweep runs through ``steps`` values and then holds the last. Like ``numpy.linspace``, it has an
``endpoint``: with it (the default), the end value is the last of the ``steps`` values, used by
update ``steps − 1``; without it, the end value would come one step later, where in a chain the next
piece begins::

    u = step / (steps − 1)   with endpoint        u = step / steps   without        (at most 1)
"""

from __future__ import annotations

import math
from typing import ClassVar

from cyclr.errors import SpecError, complaint
from cyclr.schedules.arrays import Operations, Value
from cyclr.schedules.fields import flag, integer, real
from cyclr.schedules.sources import CLR, NONE, SGDR
from cyclr.schedules.spec import Schedule, spec


@spec
class Constant(Schedule):
    """The same value at every step.

    >>> Constant(value=0.1)(1_000_000)
    0.1

    Args:
        value: The value, ≥ 0.
        steps: How many updates the schedule describes, ≥ 1; None for ever.

    Raises:
        SpecError: A field breaks its bound.
    """

    value: float = real(ge=0)
    steps: int | None = integer(default=None, ge=1, optional=True)

    source: ClassVar[str] = NONE

    def _length(self) -> int | None:
        """Return the ``steps`` field."""
        return self.steps

    def _value(self, ops: Operations, step: Value) -> Value:
        return self.value + 0.0 * ops.as_float(step)


@spec
class _Sweep(Schedule):
    """The fields of every ramp."""

    start_lr: float = real(ge=0)
    end_lr: float = real(ge=0)
    steps: int = integer(ge=1)
    endpoint: bool = flag(default=True)

    source: ClassVar[str] = CLR

    def _length(self) -> int:
        """Return the ``steps`` field."""
        return self.steps

    def _check(self) -> None:
        if self.endpoint and self.steps == 1 and self.start_lr != self.end_lr:
            where, remedy = f"{type(self).__name__}.steps", "one value cannot be both ends"
            raise SpecError(complaint(where, "an int ≥ 2 with endpoint=True", 1, remedy))

    @property
    def _last(self) -> int:
        """The step at which end_lr is reached."""
        return max(1, self.steps - 1) if self.endpoint else self.steps

    def _progress(self, ops: Operations, step: Value) -> Value:
        return ops.as_float(ops.minimum(step, self._last)) / float(self._last)

    def _left(self, ops: Operations, step: Value) -> Value:
        """What is left of the way, counted in whole steps: exact near the end."""
        return ops.until(self._last, ops.minimum(step, self._last)) / float(self._last)


@spec
class LinearSweep(_Sweep):
    """Straight from start_lr to end_lr.

    ::

        lr = start_lr + (end_lr − start_lr) · u

    >>> [LinearSweep(start_lr=0.0, end_lr=0.4, steps=5)(step) for step in (0, 2, 4, 9)]
    [0.0, 0.2, 0.4, 0.4]

    Args:
        start_lr: Value at step 0, ≥ 0.
        end_lr: Value at the end, ≥ 0; may be below start_lr.
        steps: Number of steps, ≥ 1 (≥ 2 with an endpoint that differs from the start).
        endpoint: Whether end_lr is the last of the values (True), or comes one step later.

    Raises:
        SpecError: A field breaks its bound.

    Reference: arXiv 1506.01186, section 3.3 (the range test).
    """

    def _value(self, ops: Operations, step: Value) -> Value:
        # This form, rather than start + u·(end − start), meets both ends without rounding.
        return self._left(ops, step) * self.start_lr + self._progress(ops, step) * self.end_lr


@spec
class ExponentialSweep(_Sweep):
    """From start_lr to end_lr by a constant factor per step.

    ::

        lr = start_lr · (end_lr / start_lr) ** u

    >>> sweep = ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=5)
    >>> [round(sweep(step), 6) for step in (0, 1, 2, 4, 9)]
    [0.0001, 0.001, 0.01, 1.0, 1.0]

    Args:
        start_lr: Value at step 0, > 0.
        end_lr: Value at the end, > 0; may be below start_lr.
        steps: Number of steps, ≥ 1 (≥ 2 with an endpoint that differs from the start).
        endpoint: Whether end_lr is the last of the values (True), or comes one step later.

    Raises:
        SpecError: A field breaks its bound.

    Reference: the exponential form of the range test of arXiv 1506.01186, section 3.3, as
    fastai's learner made it common.
    """

    start_lr: float = real(gt=0)
    end_lr: float = real(gt=0)

    def _value(self, ops: Operations, step: Value) -> Value:
        u = self._progress(ops, step)
        lr = ops.exp((1.0 - u) * math.log(self.start_lr) + u * math.log(self.end_lr))
        # A logarithm and back can step over a bound by a bit; the bounds are promised.
        low, high = sorted((self.start_lr, self.end_lr))
        return ops.maximum(low, ops.minimum(high, lr))


@spec
class CosineSweep(_Sweep):
    """From start_lr to end_lr along half a cosine, level at both ends.

    ::

        lr = end_lr + ½ (start_lr − end_lr) (1 + cos(πu))

    >>> sweep = CosineSweep(start_lr=1.0, end_lr=0.0, steps=5)
    >>> [round(sweep(step), 6) for step in (0, 1, 2, 4, 9)]
    [1.0, 0.853553, 0.5, 0.0, 0.0]

    Args:
        start_lr: Value at step 0, ≥ 0.
        end_lr: Value at the end, ≥ 0; may be above start_lr.
        steps: Number of steps, ≥ 1 (≥ 2 with an endpoint that differs from the start).
        endpoint: Whether end_lr is the last of the values (True), or comes one step later.

    Raises:
        SpecError: A field breaks its bound.

    Reference: arXiv 1608.03983, equation 5, one period.
    """

    source: ClassVar[str] = SGDR

    def _value(self, ops: Operations, step: Value) -> Value:
        # The lower end's share may be a difference: where the value is small it is nearly 1.
        if self.start_lr < self.end_lr:
            gone = ops.half_cosine(self._progress(ops, step))
            return (1.0 - gone) * self.start_lr + gone * self.end_lr
        left = ops.half_cosine(self._left(ops, step))
        return left * self.start_lr + (1.0 - left) * self.end_lr
