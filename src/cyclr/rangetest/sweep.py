"""The range test itself, as ask and tell: it names rates and listens to losses.

It knows no framework. The loop that trains is the caller's, or one of the drivers in
:mod:`cyclr.integrations`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cyclr.errors import InputError, SpecError, StateError, complaint
from cyclr.rangetest.record import Outcome, RangeRecord, Series
from cyclr.schedules import ExponentialSweep
from cyclr.schedules.spec import Schedule

_WATCH = 3  # losses in the median that is compared with the limit: one spike cannot end a sweep
_WARM = 5  # losses before a comparison means anything
_NOISES = 6.0  # how many standard deviations of a batch's loss count as a clear rise
_SHARE = 0.5  # … or which share of the fall so far
_FLOOR = 0.1  # … or which share of the loss itself, for losses without noise


def default_sweep(steps: int = 100) -> ExponentialSweep:
    """Make the sweep used when none is given: 1e-7 to 10, exponentially."""
    return ExponentialSweep(start_lr=1e-7, end_lr=10.0, steps=steps)


class RangeTest:
    """A learning rate range test for any training loop.

    >>> from cyclr.schedules import ExponentialSweep
    >>> test = RangeTest(ExponentialSweep(start_lr=1e-3, end_lr=1.0, steps=4))
    >>> for lr in test:
    ...     test.tell(loss=1.0 - lr / 2)
    >>> test.record.outcome.value, [round(lr, 3) for lr in test.record.lr]
    ('completed', [0.001, 0.01, 0.1, 1.0])

    The loop ends by itself after the sweep's last step, when the loss has risen clearly above
    where it began (the median of the last three losses by more than six standard deviations of a
    batch's loss and half of the fall so far), or when two losses in a row are not finite. Leaving
    the loop early is fine: the record then says ``interrupted``.

    Args:
        sweep: The schedule of the rate; it must have an end. By default 100 steps from 1e-7 to 10.
        stop_on_divergence: Whether a clear rise of the loss ends the test. Non-finite losses
            always do.
        optimizer: What the sweep is run with, stored in the record: ``name``, ``momentum`` (or
            Adam's beta1), ``weight_decay``. :func:`~cyclr.recipe.plan` moves the momentum only if
            told here that there is one.
        steps_per_epoch: Updates in an epoch, ≥ 1, if known.

    Raises:
        SpecError: The sweep never ends, or is not a schedule.
    """

    def __init__(
        self,
        sweep: Schedule | None = None,
        *,
        stop_on_divergence: bool = True,
        optimizer: Mapping[str, Any] | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        sweep = default_sweep() if sweep is None else sweep
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
        self._stop_on_divergence = stop_on_divergence
        self._optimizer = dict(optimizer or {})
        self._steps_per_epoch = steps_per_epoch
        self._lr: list[float] = []
        self._loss: list[float] = []
        self._metrics: dict[str, tuple[list[int], list[float]]] = {}
        self._asked: float | None = None
        self._outcome: Outcome | None = None

    def __iter__(self) -> Iterator[float]:
        """Yield the rate for each update; :meth:`tell` must follow each."""
        while (lr := self.ask()) is not None:
            yield lr

    @property
    def step(self) -> int:
        """How many updates have been told."""
        return len(self._lr)

    def ask(self) -> float | None:
        """Name the rate for the next update; None when the test has ended.

        Raises:
            StateError: The last rate has not been answered with :meth:`tell`.
        """
        if self._asked is not None:
            raise StateError(
                f"the rate {self._asked:g} of step {self.step} was asked for but no loss was told; "
                "call test.tell(loss=…) after each update"
            )
        if self._outcome is not None:
            return None
        self._asked = float(self.sweep(self.step))
        return self._asked

    def tell(self, loss: Any, **metrics: Any) -> None:
        """Answer the last rate with the loss of its batch and any other metrics.

        Args:
            loss: A number, or a tensor or array with one element. NaN and infinity are allowed.
            **metrics: More numbers by name, such as ``accuracy=``; they may be told at some steps
                only, and None means not measured.

        Raises:
            StateError: No rate was asked for.
            InputError: The loss or a metric is not a single number.
        """
        if self._asked is None:
            raise StateError(
                "tell was called without a rate to answer; iterate over the test first"
            )
        number = _number("loss", loss)
        measured = {n: _number(n, value) for n, value in metrics.items() if value is not None}
        for name, value in measured.items():
            steps, values = self._metrics.setdefault(name, ([], []))
            steps.append(self.step)
            values.append(value)
        self._lr.append(self._asked)
        self._loss.append(number)
        self._asked = None
        self._outcome = self._judge()

    def _judge(self) -> Outcome | None:
        """Say whether the test has ended, and how."""
        tail = self._loss[-_WATCH:]
        if not any(map(math.isfinite, self._loss[-2:])) and (len(tail) > 1 or self.steps == 1):
            return Outcome.NON_FINITE
        if self._stop_on_divergence and self._diverged():
            return Outcome.DIVERGED
        return Outcome.COMPLETED if self.step >= self.steps else None

    def _diverged(self) -> bool:
        if self.step < _WARM + _WATCH:
            return False
        loss = np.asarray(self._loss)
        finite = loss[np.isfinite(loss)]
        if finite.size < _WARM + _WATCH:
            return False
        start = float(np.median(finite[:_WARM]))
        fall = start - float(finite.min())
        # Successive differences cancel the trend and leave the batches' noise, √2 times over.
        noise = 1.4826 * float(np.median(np.abs(np.diff(finite)))) / math.sqrt(2)
        limit = start + max(_NOISES * noise, _SHARE * fall, _FLOOR * abs(start))
        recent = np.nan_to_num(loss[-_WATCH:], nan=np.inf, posinf=np.inf)
        return bool(np.median(recent) > limit)

    @property
    def record(self) -> RangeRecord:
        """What has been seen so far, as a frozen record."""
        return RangeRecord(
            sweep=self.sweep,
            lr=tuple(self._lr),
            loss=tuple(self._loss),
            metrics={name: Series(tuple(s), tuple(v)) for name, (s, v) in self._metrics.items()},
            outcome=Outcome.INTERRUPTED if self._outcome is None else self._outcome,
            optimizer=self._optimizer,
            steps_per_epoch=self._steps_per_epoch,
        )


def _number(name: str, value: Any) -> float:
    """Read one number from a Python number or anything with one element."""
    try:
        # Through item(): torch warns when a tensor that requires a gradient is made a float.
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        remedy = "reduce it to one number first, for example with .mean()"
        raise InputError(complaint(name, "a single number", value, remedy)) from error
