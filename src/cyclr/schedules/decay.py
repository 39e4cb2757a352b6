"""Decays: the baselines that cyclical rates are compared with, and later ones.

Two more of them are ramps: the CLR paper's ``decay`` policy is
``LinearSweep(start_lr=max_lr, end_lr=base_lr, steps=stepsize, endpoint=False)``, and decays to zero
along a line or a cosine are ``LinearSweep`` and ``CosineSweep`` with ``end_lr=0``.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

from cyclr.errors import SpecError, complaint
from cyclr.schedules.arrays import Operations, Value
from cyclr.schedules.fields import integer, real, sequence
from cyclr.schedules.sources import CAFFE, NOAM, NONE, REX_PAPER
from cyclr.schedules.spec import Schedule, spec


@spec
class StepDecay(Schedule):
    """A factor lower every so many steps.

    ::

        lr = max_lr · factor ** floor(step / every)

    >>> schedule = StepDecay(max_lr=1.0, factor=0.5, every=10)
    >>> [schedule(step) for step in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]

    Args:
        max_lr: Rate of the first steps, > 0.
        factor: What each drop multiplies by, in (0, 1].
        every: Steps between drops, ≥ 1.

    Raises:
        SpecError: A field breaks its bound.

    Reference: Caffe's ``step`` policy.
    """

    max_lr: float = real(gt=0)
    factor: float = real(gt=0, le=1)
    every: int = integer(ge=1)

    source: ClassVar[str] = CAFFE

    def _value(self, ops: Operations, step: Value) -> Value:
        return self.max_lr * ops.exp(
            math.log(self.factor) * ops.as_float(ops.split(step, self.every)[0])
        )


@spec
class MultiStep(Schedule):
    """A factor lower at each of the given steps.

    ::

        lr = max_lr · factor ** (number of boundaries ≤ step)

    The schedule that Caffe's cifar10_full is trained with:

    >>> schedule = MultiStep(max_lr=0.001, factor=0.1, boundaries=(60_000, 65_000))
    >>> [round(schedule(step), 9) for step in (0, 59_999, 60_000, 65_000)]
    [0.001, 0.001, 0.0001, 1e-05]

    Args:
        max_lr: Rate of the first steps, > 0.
        factor: What each drop multiplies by, in (0, 1].
        boundaries: The first steps at the lower rates, ascending, ≥ 1.

    Raises:
        SpecError: A field breaks its bound, or boundaries do not ascend.

    Reference: Caffe's ``multistep`` policy.
    """

    max_lr: float = real(gt=0)
    factor: float = real(gt=0, le=1)
    boundaries: tuple[int, ...] = sequence("integer", ge=1)

    source: ClassVar[str] = CAFFE

    def _check(self) -> None:
        if any(b <= a for a, b in pairwise(self.boundaries)):
            remedy = "put them in order, without repeats"
            raise SpecError(complaint("MultiStep.boundaries", "ascending", self.boundaries, remedy))

    def _value(self, ops: Operations, step: Value) -> Value:
        drops = ops.as_float(ops.passed(self.boundaries, step))
        return self.max_lr * ops.exp(math.log(self.factor) * drops)


@spec
class ExponentialDecay(Schedule):
    """A constant factor per step.

    ::

        lr = max_lr · gamma ** step

    >>> schedule = ExponentialDecay(max_lr=1.0, gamma=0.5)
    >>> [round(schedule(step), 9) for step in (0, 1, 3)]
    [1.0, 0.5, 0.125]

    Args:
        max_lr: Rate of step 0, > 0.
        gamma: Factor per step, in (0, 1].

    Raises:
        SpecError: A field breaks its bound.

    Reference: Caffe's ``exp`` policy; arXiv 1506.01186, Table 1.
    """

    max_lr: float = real(gt=0)
    gamma: float = real(gt=0, le=1)

    source: ClassVar[str] = CAFFE

    def _value(self, ops: Operations, step: Value) -> Value:
        return self.max_lr * ops.exp(math.log(self.gamma) * ops.as_float(step))


@spec
class InverseDecay(Schedule):
    """A power of the inverse of the step.

    ::

        lr = max_lr · (1 + gamma · step) ** −power

    The schedule that Caffe's LeNet is trained with:

    >>> schedule = InverseDecay(max_lr=0.01, gamma=1e-4, power=0.75)
    >>> [round(schedule(step), 6) for step in (0, 10_000)]
    [0.01, 0.005946]

    Args:
        max_lr: Rate of step 0, > 0.
        gamma: Scale of the steps, ≥ 0.
        power: Exponent, ≥ 0.

    Raises:
        SpecError: A field breaks its bound.

    Reference: Caffe's ``inv`` policy.
    """

    max_lr: float = real(gt=0)
    gamma: float = real(ge=0)
    power: float = real(ge=0)

    source: ClassVar[str] = CAFFE

    def _value(self, ops: Operations, step: Value) -> Value:
        return self.max_lr * (1.0 + self.gamma * ops.as_float(step)) ** (-self.power)


@spec
class _Decline(Schedule):
    """The fields of decays that reach their lower bound after a known number of steps."""

    max_lr: float = real(gt=0)
    final_lr: float = real(default=0.0, ge=0)
    total_steps: int = integer(ge=1)

    source: ClassVar[str] = NONE

    def _check(self) -> None:
        if self.final_lr > self.max_lr:
            where, limit = f"{type(self).__name__}.final_lr", f"≤ max_lr ({self.max_lr:g})"
            raise SpecError(complaint(where, limit, self.final_lr, "swap the two"))

    def _left(self, ops: Operations, step: Value) -> Value:
        """Share of the run that is left, counted in whole steps: exact near the end."""
        inside = ops.minimum(step, self.total_steps)
        return ops.until(self.total_steps, inside) / float(self.total_steps)


@spec
class PolynomialDecay(_Decline):
    """A power of what is left of the run.

    ::

        lr = final_lr + (max_lr − final_lr) · (1 − step / total_steps) ** power

    >>> schedule = PolynomialDecay(max_lr=1.0, total_steps=10, power=2.0)
    >>> [round(schedule(step), 6) for step in (0, 5, 9, 10, 11)]
    [1.0, 0.25, 0.01, 0.0, 0.0]

    Args:
        max_lr: Rate of step 0, > 0.
        final_lr: Rate at step total_steps and after, in [0, max_lr].
        total_steps: Length in steps, ≥ 1.
        power: Exponent, > 0; 1 is a straight line.

    Raises:
        SpecError: A field breaks its bound.

    Reference: Caffe's ``poly`` policy.
    """

    power: float = real(default=1.0, gt=0)

    source: ClassVar[str] = CAFFE

    def _value(self, ops: Operations, step: Value) -> Value:
        left = self._left(ops, step) ** self.power
        return left * self.max_lr + (1.0 - left) * self.final_lr


@spec
class Rex(_Decline):
    """Reflected exponential: nearly linear at first, steep at the end.

    With ``z = 1 − step / total_steps``::

        lr = final_lr + (max_lr − final_lr) · z / (½ + ½ z)

    >>> schedule = Rex(max_lr=1.0, total_steps=10)
    >>> [round(schedule(step), 6) for step in (0, 5, 9, 10)]
    [1.0, 0.666667, 0.181818, 0.0]

    Args:
        max_lr: Rate of step 0, > 0.
        final_lr: Rate at step total_steps and after, in [0, max_lr].
        total_steps: Length in steps, ≥ 1.

    Raises:
        SpecError: A field breaks its bound.

    Reference: Chen, Wolfe & Kyrillidis, *REX: Revisiting Budgeted Training with an Improved
    Schedule*, arXiv 2107.04197.
    """

    source: ClassVar[str] = REX_PAPER

    def _value(self, ops: Operations, step: Value) -> Value:
        z = self._left(ops, step)
        left = z / (0.5 + 0.5 * z)
        return left * self.max_lr + (1.0 - left) * self.final_lr


@spec
class InverseSqrt(Schedule):
    """Linear warmup to max_lr, then the inverse square root of the step.

    ::

        lr = max_lr · step / warmup_steps            up to warmup_steps
        lr = max_lr · sqrt(warmup_steps / step)      after

    >>> schedule = InverseSqrt(max_lr=1.0, warmup_steps=100)
    >>> [schedule(step) for step in (0, 50, 100, 400)]
    [0.0, 0.5, 1.0, 0.5]

    Args:
        max_lr: Rate at step warmup_steps, > 0.
        warmup_steps: Length of the warmup in steps, ≥ 1.

    Raises:
        SpecError: A field breaks its bound.

    Reference: Vaswani et al., *Attention Is All You Need*, arXiv 1706.03762, section 5.3, as
    Transformers parametrizes it.
    """

    max_lr: float = real(gt=0)
    warmup_steps: int = integer(ge=1)

    source: ClassVar[str] = NOAM

    def _value(self, ops: Operations, step: Value) -> Value:
        warm = ops.as_float(ops.minimum(step, self.warmup_steps)) / float(self.warmup_steps)
        after = ops.as_float(ops.maximum(step, self.warmup_steps)) / float(self.warmup_steps)
        return self.max_lr * warm * after**-0.5


@spec
class Noam(Schedule):
    """The Transformer's own schedule, which scales with the width of the model.

    The paper counts steps from 1, so with ``n = step + 1``::

        lr = factor · d_model ** −½ · min(n ** −½, n · warmup_steps ** −1.5)

    >>> schedule = Noam(d_model=512, warmup_steps=4000)
    >>> [round(schedule(step), 9) for step in (0, 3999, 15_999)]
    [1.75e-07, 0.000698771, 0.000349386]

    Args:
        d_model: Width of the model, ≥ 1.
        warmup_steps: Length of the warmup in steps, ≥ 1; the peak is used by update
            ``warmup_steps − 1``.
        factor: What to multiply by, > 0.

    Raises:
        SpecError: A field breaks its bound.

    Reference: Vaswani et al., *Attention Is All You Need*, arXiv 1706.03762, equation 3.
    """

    d_model: int = integer(ge=1)
    warmup_steps: int = integer(ge=1)
    factor: float = real(default=1.0, gt=0)

    source: ClassVar[str] = NOAM

    def _value(self, ops: Operations, step: Value) -> Value:
        n = ops.as_float(step) + 1.0
        shape = ops.minimum(n**-0.5, n * self.warmup_steps**-1.5)
        return self.factor * self.d_model**-0.5 * shape
