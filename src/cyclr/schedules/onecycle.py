"""One cycle, slightly shorter than the run, then annihilation far below the lower bound.

Source: Smith & Topin, *Super-Convergence*, arXiv 1708.07120, section 2; Smith, *A disciplined
approach to neural network hyper-parameters*, arXiv 1803.09820, section 4.
"""

from __future__ import annotations

from typing import ClassVar

from cyclr.errors import SpecError, complaint
from cyclr.schedules.arrays import Operations, Value
from cyclr.schedules.fields import choice, integer, real
from cyclr.schedules.sources import ONE_CYCLE
from cyclr.schedules.spec import Schedule, spec


@spec
class OneCycle(Schedule):
    """base_lr up to max_lr and back in two equal legs, then down to final_lr in the last steps.

    With ``s = stepsize``, ``N = total_steps`` and legs that are straight lines (or half cosines)::

        three phases   base → max        over steps 0 … s
                       max  → base       over steps s … 2s
                       base → final      over steps 2s … N−1          (the annihilation)
        two phases     base → max        over steps 0 … s
                       max  → final      over steps s … N−1
        logs           base → max        over steps 0 … s
                       max  → 0          over steps s … 2s
                       final             over steps 2s … N−1

    Three phases are the paper's description, two phases are what PyTorch and fastai run by default,
    and ``"logs"`` is what the training logs published by the author contain. The last update uses
    final_lr exactly; so does every step after it.

    >>> schedule = OneCycle(max_lr=1.0, base_lr=0.1, total_steps=100, stepsize=45, final_lr=0.001)
    >>> [round(schedule(step), 6) for step in (0, 45, 90, 99, 100)]
    [0.1, 1.0, 0.1, 0.001, 0.001]

    Args:
        max_lr: Peak, > 0, used by update ``stepsize``.
        base_lr: Rate of update 0, in [0, max_lr]; ``max_lr / 10`` if None.
        total_steps: Length of the run in steps, ≥ 3.
        stepsize: Length of the upward leg in steps, ≥ 1. If None, 45 % of total_steps, and
            30 % with two phases. At most half of total_steps (with two phases, all but 2): if it is
            half, there is no annihilation.
        final_lr: Rate of the last update, in [0, base_lr]; ``base_lr / 1000`` if None.
        anneal: ``"linear"`` (the paper) or ``"cosine"``.
        phases: ``"three"``, ``"two"`` or ``"logs"``.

    Raises:
        SpecError: A field breaks its bound, or the legs do not fit into total_steps.

    Reference: arXiv 1708.07120, section 2; arXiv 1803.09820, section 4.
    """

    max_lr: float = real(gt=0)
    base_lr: float | None = real(default=None, ge=0, optional=True)
    total_steps: int = integer(ge=3)
    stepsize: int | None = integer(default=None, ge=1, optional=True)
    final_lr: float | None = real(default=None, ge=0, optional=True)
    anneal: str = choice("linear", "cosine", default="linear")
    phases: str = choice("three", "two", "logs", default="three")

    source: ClassVar[str] = ONE_CYCLE

    @property
    def base(self) -> float:
        """The rate of update 0, after the default is filled in."""
        return self.max_lr / 10 if self.base_lr is None else self.base_lr

    @property
    def final(self) -> float:
        """The rate of the last update, after the default is filled in."""
        return self.base / 1000 if self.final_lr is None else self.final_lr

    @property
    def up_steps(self) -> int:
        """Length of the upward leg, after the default is filled in."""
        if self.stepsize is not None:
            return self.stepsize
        if self.phases == "two":
            return max(1, round(0.3 * self.total_steps))
        # Leave at least one step to end on, however short the run.
        return max(1, min(round(0.45 * self.total_steps), (self.total_steps - 1) // 2))

    def _check(self) -> None:
        name = "OneCycle"
        if self.base > self.max_lr:
            limit = f"≤ max_lr ({self.max_lr:g})"
            raise SpecError(complaint(f"{name}.base_lr", limit, self.base, "swap the two"))
        if self.final > self.base:
            limit = f"≤ base_lr ({self.base:g})"
            remedy = "the last steps go below the cycle, not above it"
            raise SpecError(complaint(f"{name}.final_lr", limit, self.final, remedy))
        if self.phases == "two" and self.up_steps > self.total_steps - 2:
            limit = f"≤ total_steps − 2 ({self.total_steps - 2})"
            remedy = "leave room for the way down"
            raise SpecError(complaint(f"{name}.stepsize", limit, self.up_steps, remedy))
        if self.phases != "two" and self._tail < 0:
            limit = f"≤ total_steps / 2 ({self.total_steps // 2})"
            remedy = "the cycle is two legs of stepsize each"
            raise SpecError(complaint(f"{name}.stepsize", limit, self.up_steps, remedy))

    @property
    def _tail(self) -> int:
        return self.total_steps - 2 * self.up_steps

    def _cycle_ends(self, until: int) -> tuple[int, ...]:
        ends = {self.total_steps}
        if self.phases != "two":
            ends.add(2 * self.up_steps)
        return tuple(sorted(end for end in ends if end <= until))

    def _value(self, ops: Operations, step: Value) -> Value:
        up, last, base, final = self.up_steps, self.total_steps - 1, self.base, self.final
        low = {"three": base, "two": final, "logs": 0.0}[self.phases]
        turn = last if self.phases == "two" else 2 * up
        step = ops.minimum(step, self.total_steps)
        rise = self._leg(ops, ops.as_float(ops.minimum(step, up)) / float(up))
        left = self._left(ops, step, turn, turn - up)
        # Weighted sums, rather than start + u·(end − start), meet both ends without rounding.
        upward = (1.0 - rise) * base + rise * self.max_lr
        downward = left * self.max_lr + (1.0 - left) * low
        lr = ops.where(ops.reached(step, up), downward, upward)
        if self.phases == "two" or self._tail == 0:
            return lr
        if self.phases == "logs":
            return ops.where(ops.reached(step, turn), final + 0.0 * lr, lr)
        # An annihilation of a single step has nowhere to pass through: it is at its end.
        left = self._left(ops, step, last, max(1, self._tail - 1))
        return ops.where(ops.reached(step, turn), left * base + (1.0 - left) * final, lr)

    def _left(self, ops: Operations, step: Value, end: int, length: int) -> Value:
        """What is left of a way down: 1 until its beginning, 0 at its end and after."""
        inside = ops.since(ops.minimum(step, end), end - length)
        return self._leg(ops, ops.until(length, inside) / float(length))

    def _leg(self, ops: Operations, u: Value) -> Value:
        """Shape a leg; u runs from 0 to 1."""
        return u if self.anneal == "linear" else ops.half_cosine(u)
