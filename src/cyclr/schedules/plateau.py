"""Up, hold, down: schedules that keep the rate at its peak for a while."""

from __future__ import annotations

from typing import ClassVar

from cyclr.errors import SpecError, complaint
from cyclr.schedules.arrays import Operations, Value
from cyclr.schedules.fields import choice, integer, real
from cyclr.schedules.sources import KNEE_PAPER, ULMFIT, WSD
from cyclr.schedules.spec import Schedule, spec


@spec
class WarmupStableDecay(Schedule):
    """Linear warmup, a constant rate, and a cooldown of a chosen shape.

    With ``N = total_steps``, ``w = warmup_steps``, ``d = decay_steps`` and
    ``u = (step − (N − d)) / d``::

        lr = max_lr · step / w                                 step < w
        lr = max_lr                                            w ≤ step ≤ N − d
        lr = final_lr + (max_lr − final_lr) · c(u)             N − d ≤ step ≤ N

        c(u) = 1 − u   linear        ½ (1 + cos πu)   cosine        1 − √u   1-sqrt

    >>> schedule = WarmupStableDecay(max_lr=1.0, total_steps=100, warmup_steps=10, decay_steps=20)
    >>> [round(schedule(step), 6) for step in (0, 5, 10, 80, 90, 100)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]

    Args:
        max_lr: Rate held, > 0.
        total_steps: Length in steps, ≥ 1.
        warmup_steps: Length of the warmup in steps, ≥ 0.
        decay_steps: Length of the cooldown in steps, ≥ 1; a tenth to a fifth of the run suffices.
            Warmup and cooldown together must fit into total_steps.
        final_lr: Rate at step total_steps and after, in [0, max_lr].
        decay: ``"linear"``, ``"cosine"`` or ``"1-sqrt"``.

    Raises:
        SpecError: A field breaks its bound, or the parts do not fit.

    Reference: Hägele et al., *Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations*, arXiv 2405.18392.
    """

    max_lr: float = real(gt=0)
    total_steps: int = integer(ge=1)
    warmup_steps: int = integer(default=0, ge=0)
    decay_steps: int = integer(ge=1)
    final_lr: float = real(default=0.0, ge=0)
    decay: str = choice("linear", "cosine", "1-sqrt", default="linear")

    source: ClassVar[str] = WSD

    def _check(self) -> None:
        name = type(self).__name__
        if self.warmup_steps + self.decay_steps > self.total_steps:
            limit = f"≤ total_steps − warmup_steps ({self.total_steps - self.warmup_steps})"
            remedy = "shorten the cooldown or the warmup"
            raise SpecError(complaint(f"{name}.decay_steps", limit, self.decay_steps, remedy))
        if self.final_lr > self.max_lr:
            limit = f"≤ max_lr ({self.max_lr:g})"
            raise SpecError(complaint(f"{name}.final_lr", limit, self.final_lr, "swap the two"))

    def _value(self, ops: Operations, step: Value) -> Value:
        rise = ops.as_float(ops.minimum(step, self.warmup_steps)) / float(max(1, self.warmup_steps))
        if self.warmup_steps == 0:
            rise = rise + 1.0
        begin = self.total_steps - self.decay_steps
        gone = ops.minimum(ops.since(step, begin), self.decay_steps)
        left = self._cooldown(ops, gone)
        return rise * (left * self.max_lr + (1.0 - left) * self.final_lr)

    def _cooldown(self, ops: Operations, gone: Value) -> Value:
        left = ops.until(self.decay_steps, gone) / float(self.decay_steps)
        if self.decay == "cosine":
            return ops.half_cosine(left)
        if self.decay == "linear":
            return left
        # 1 − √u = (1 − u) / (1 + √u), which cancels nothing near the end.
        return left / (1.0 + (ops.as_float(gone) / float(self.decay_steps)) ** 0.5)


@spec
class Knee(Schedule):
    """Explore at the peak, then exploit: a constant rate, then a line to zero.

    ::

        lr = max_lr · step / warmup_steps                              the warmup
        lr = max_lr                                                    explore_steps long
        lr = max_lr · (total_steps − step) / (steps left after that)   to 0 at total_steps

    >>> schedule = Knee(max_lr=1.0, total_steps=100, explore_steps=50)
    >>> [schedule(step) for step in (0, 50, 75, 100)]
    [1.0, 1.0, 0.5, 0.0]

    Args:
        max_lr: Rate held while exploring, > 0.
        total_steps: Length in steps, ≥ 2.
        explore_steps: Steps at max_lr, ≥ 0; half the run in the paper. Warmup and exploring must
            leave at least one step.
        warmup_steps: Length of the warmup in steps, ≥ 0.

    Raises:
        SpecError: A field breaks its bound, or the parts do not fit.

    Reference: Iyer et al., *Wide-minima Density Hypothesis and the Explore-Exploit Learning Rate
    Schedule*, arXiv 2003.03977.
    """

    max_lr: float = real(gt=0)
    total_steps: int = integer(ge=2)
    explore_steps: int = integer(ge=0)
    warmup_steps: int = integer(default=0, ge=0)

    source: ClassVar[str] = KNEE_PAPER

    def _check(self) -> None:
        if self.warmup_steps + self.explore_steps >= self.total_steps:
            limit = f"< total_steps − warmup_steps ({self.total_steps - self.warmup_steps})"
            remedy = "leave steps to exploit in"
            raise SpecError(complaint("Knee.explore_steps", limit, self.explore_steps, remedy))

    def _value(self, ops: Operations, step: Value) -> Value:
        rise = ops.as_float(ops.minimum(step, self.warmup_steps)) / float(max(1, self.warmup_steps))
        if self.warmup_steps == 0:
            rise = rise + 1.0
        length = self.total_steps - self.warmup_steps - self.explore_steps
        left = ops.until(self.total_steps, ops.minimum(step, self.total_steps)) / float(length)
        return self.max_lr * rise * ops.minimum(left, 1.0)


@spec
class SlantedTriangular(Schedule):
    """A short rise and a long fall, both straight.

    With ``c = stepsize`` and ``N = total_steps``::

        p  = step / c  on the way up,    1 − (step − c) / (N − c)  on the way down
        lr = max_lr · (1 + p · (ratio − 1)) / ratio

    >>> schedule = SlantedTriangular(max_lr=1.0, total_steps=100, stepsize=10, ratio=32.0)
    >>> [schedule(step) for step in (0, 10, 100)]
    [0.03125, 1.0, 0.03125]

    Args:
        max_lr: Peak, > 0, used by update ``stepsize``.
        total_steps: Length in steps, ≥ 2.
        stepsize: Length of the rise in steps, in [1, total_steps); a tenth of the run in the paper.
        ratio: How many times smaller the lowest rate is, ≥ 1; 32 in the paper.

    Raises:
        SpecError: A field breaks its bound, or the rise does not fit.

    Reference: Howard & Ruder, *Universal Language Model Fine-tuning for Text Classification*,
    arXiv 1801.06146, equation 3.
    """

    max_lr: float = real(gt=0)
    total_steps: int = integer(ge=2)
    stepsize: int = integer(ge=1)
    ratio: float = real(default=32.0, ge=1)

    source: ClassVar[str] = ULMFIT

    def _check(self) -> None:
        if self.stepsize >= self.total_steps:
            limit, remedy = f"< total_steps ({self.total_steps})", "leave steps for the way down"
            raise SpecError(complaint("SlantedTriangular.stepsize", limit, self.stepsize, remedy))

    def _value(self, ops: Operations, step: Value) -> Value:
        inside = ops.minimum(step, self.total_steps)
        down = ops.until(self.total_steps, inside) / float(self.total_steps - self.stepsize)
        p = ops.minimum(ops.as_float(inside) / float(self.stepsize), down)
        return self.max_lr * (1.0 + p * (self.ratio - 1.0)) / self.ratio
