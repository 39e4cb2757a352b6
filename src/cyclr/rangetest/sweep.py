"""The range test itself, as ask and tell: it names rates and listens to losses.

It knows no framework. The loop that trains is the caller's, or one of the drivers in
:mod:`cyclr.integrations`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

from cyclr.errors import InputError, StateError
from cyclr.rangetest import divergence
from cyclr.rangetest.course import Course, GivenCourse, OwnCourse, default_sweep
from cyclr.rangetest.numbers import as_number, plain
from cyclr.rangetest.record import Outcome, RangeRecord, Series
from cyclr.rangetest.rules.bounds import USUAL, under_sgd
from cyclr.rangetest.scouting import SCOUT_ALONE, ScoutCourse
from cyclr.rangetest.way_back import NO_LEG, Leg, WayBack
from cyclr.schedules.spec import Schedule

__all__ = ["RangeTest", "default_sweep"]

_CLOSE = 1000  # losses up to which all are looked at after every update; later, now and then


class RangeTest:
    """A learning rate range test for any training loop.

    >>> from cyclr.schedules import ExponentialSweep
    >>> test = RangeTest(ExponentialSweep(start_lr=1e-3, end_lr=1.0, steps=4))
    >>> for lr in test:
    ...     test.tell(loss=1.0 - lr / 2)
    >>> test.record.outcome.value, [round(lr, 3) for lr in test.record.lr]
    ('completed', [0.001, 0.01, 0.1, 1.0])

    Without a sweep it finds its own range. It begins at 1e-7, goes up by a constant ratio (eight
    decades in 100 steps), and ends when the loss has turned. Where the loss has not turned at 10 it
    goes on, twice as fast, until it has, to 150 steps at most (1e9); the record's sweep is then the
    one that was really run.

    The test ends by itself

    - after the last step;
    - when the loss has exploded: the median of the last three is above where the loss began by six
      standard deviations of a batch's loss and half of the fall so far
      (:func:`~cyclr.rangetest.divergence.exploded`);
    - when the loss has fallen, has lost that fall again and stays there, as with clipped gradients:
      half of the fall for nearly a decade of rates, or, in a sweep of your own, nine tenths of it
      for a tenth of the steps (:func:`~cyclr.rangetest.divergence.turned`);
    - without a sweep, at 10 or above, when the loss has lost a fifth of its fall again for half a
      decade; it then counts as ``completed``;
    - when two losses in a row are not finite.

    Where it found its range by itself and the loss turned, there follows the way back: twelve more
    updates (12 % of ``steps``), in which the rate comes down again by half a decade, at half the
    pace. They are kept apart from the sweep, as the record's ``way_back``.

    Under SGD, if the training can be put back, a test that finds its range goes another way: a
    scout rushes up from 1e-7 at four updates to a decade until the loss has turned; :meth:`restart`
    then asks for the training to be put back; and the sweep proper begins far below there, at
    thirty updates to a decade, until the loss turns again. There is no way back then. What the
    scout saw is kept apart, as the record's ``scout``
    (:mod:`cyclr.rangetest.scouting`). Both together take 150 steps at most.

    Leaving the loop early is fine: the record then says ``interrupted``.

    Args:
        sweep: The schedule of the rate; it must rise and have an end. It is run as given. None lets
            the test find its range.
        steps: Without a sweep, how dense the rates are, ≥ 2; 100 if None: so many updates from 1e-7
            to 10, or after a scout three tenths of that to a decade.
        start_lr: Without a sweep, where to begin, or where the scout does, in (0, 10); 1e-7 if
            None.
        stop_on_divergence: Whether a clear rise of the loss ends the test. Non-finite losses
            always do. If not, there is no scout.
        optimizer: What the sweep is run with, stored in the record: ``name``, ``momentum`` (or
            Adam's beta1), ``weight_decay``. :func:`~cyclr.planning.plan` moves the momentum only if
            told here that there is one.
        steps_per_epoch: Updates in an epoch, ≥ 1, if known.
        scout: Whether to send a scout ahead under SGD, without a sweep and with ``steps`` ≥ 60.
            None does so if a driver runs the test, which can put the training back. True is for a
            loop of your own that puts it back whenever :meth:`restart` gives True.

    Raises:
        SpecError: The sweep never ends, or is not a schedule; or a number breaks its bound.
        InputError: ``steps``, ``start_lr`` or ``scout=True`` is given beside a sweep.
    """

    def __init__(
        self,
        sweep: Schedule | None = None,
        *,
        steps: int | None = None,
        start_lr: float | None = None,
        stop_on_divergence: bool = True,
        optimizer: Mapping[str, Any] | None = None,
        steps_per_epoch: int | None = None,
        scout: bool | None = None,
    ) -> None:
        if sweep is None:
            own = {"steps": steps, "start_lr": start_lr}
            given = {name: value for name, value in own.items() if value is not None}
            self._course: Course = OwnCourse(**given)  # type: ignore[arg-type] # checked there
        elif steps is not None or start_lr is not None or scout:
            name = "steps" if steps is not None else "scout" if start_lr is None else "start_lr"
            remedy = "leave it out" if name == "scout" else "set it in your sweep instead"
            raise InputError(f"{name} is for a range that the test finds by itself; {remedy}")
        else:
            self._course = GivenCourse(sweep)
        self._stop_on_divergence = stop_on_divergence
        self._optimizer = {name: plain(value) for name, value in (optimizer or {}).items()}
        self._steps_per_epoch = steps_per_epoch
        self._notes: list[str] = []
        self._broke_before = False
        self._scout, self._seen_by_scout = scout, NO_LEG
        self._begin()
        self._send_scout(rewinds=bool(scout))

    def _send_scout(self, *, rewinds: bool) -> None:
        wanted = (rewinds if self._scout is None else self._scout) and self._stop_on_divergence
        course = self._course
        if wanted and isinstance(course, OwnCourse) and under_sgd(self._optimizer):
            self._course = ScoutCourse.before(course)

    def _begin(self) -> None:
        self._failure: str | None = None
        self._lr: list[float] = []
        self._loss: list[float] = []
        self._metrics: dict[str, tuple[list[int], list[float]]] = {}
        self._asked: float | None = None
        self._outcome: Outcome | None = None
        self._way_back: WayBack | None = None

    def __iter__(self) -> Iterator[float]:
        """Yield the rate for each update; :meth:`tell` must follow each."""
        while (lr := self.ask()) is not None:
            yield lr

    @property
    def sweep(self) -> Schedule:
        """The schedule of the rate, as far as it is decided."""
        return self._course.sweep

    @property
    def steps(self) -> int:
        """How many updates are planned; a range that the test finds by itself may need more."""
        if self._way_back is not None:
            return self.step + self._way_back.left
        return self._course.steps

    @property
    def step(self) -> int:
        """How many updates have been told, those of the way back included."""
        return len(self._lr) + len(self._leg.lr)

    @property
    def has_begun(self) -> bool:
        """Whether any update has been told, or any rate asked for."""
        return self.step > 0 or self._asked is not None

    @property
    def on_way_back(self) -> bool:
        """Whether the sweep is over and the rate comes down again; metrics are not kept there."""
        return self._way_back is not None

    @property
    def is_scouting(self) -> bool:
        """Whether this is only the scout; metrics are not kept there."""
        return isinstance(self._course, ScoutCourse)

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
        if self._way_back is not None:
            self._asked = self._way_back.ask()
        elif self._outcome is None:
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
        number = as_number("loss", loss)
        measured = {n: as_number(n, value) for n, value in metrics.items() if value is not None}
        if self._way_back is not None:
            self._way_back.tell(self._asked, number)
            self._asked = None
            return
        for name, value in measured.items():
            steps, values = self._metrics.setdefault(name, ([], []))
            steps.append(self.step)
            values.append(value)
        self._lr.append(self._asked)
        self._loss.append(number)
        self._asked = None
        self._outcome = self._judge()
        if self._outcome is Outcome.DIVERGED and not self.began_too_high:
            self._way_back = self._course.way_back(self._lr[-1], len(self._lr))

    def fail(self, why: str) -> None:
        """Answer the last rate with an update that could not be made, and end as ``non_finite``.

        On the way back the outcome stays what it was.

        For code that raises when it meets NaN or infinity.

        Args:
            why: A sentence for the record's notes.

        Raises:
            StateError: No rate was asked for.
        """
        on_way_back = self._way_back is not None
        self.tell(loss=math.nan)
        if not on_way_back:  # … which had its outcome already
            self._outcome, self._way_back = Outcome.NON_FINITE, None
            self._failure = why

    def _judge(self) -> Outcome | None:
        """Say whether the test has ended, and how."""
        last_two = self._loss[-2:]
        if not any(map(math.isfinite, last_two)) and (len(last_two) > 1 or self.steps == 1):
            return Outcome.NON_FINITE
        if self._stop_on_divergence and self._diverged():
            return Outcome.DIVERGED
        return None if self._course.go_on(self._loss) else Outcome.COMPLETED

    def _diverged(self) -> bool:
        losses = self._loss
        if len(losses) % max(1, len(losses) // _CLOSE):
            return False  # looking at all of a long record after every update would cost more
        early = len(losses) <= 2 * self._course.at_once
        return (
            divergence.exploded(losses)
            or (early and divergence.jumped(losses))
            or self._course.turned(losses)
        )

    @property
    def began_too_high(self) -> bool:
        """Whether the loss diverged within the first steps, although the very first was finite."""
        ended = self._outcome in (Outcome.DIVERGED, Outcome.NON_FINITE)
        return ended and len(self._loss) <= self._course.at_once and math.isfinite(self._loss[0])

    def restart(self) -> bool:
        """Begin again if there is reason to, the training having been put back to where it was.

        For a test that finds its range by itself. Either the scout has come back, and the sweep
        proper begins; or it :attr:`began_too_high`, and begins from a millionth of its first rate
        (a two-hundredth after a scout), with the steps that are left.

        Returns:
            Whether it did; False when there was no reason to, or too few steps are left. A loss
            that stops being finite a million times lower too, out of the calm, does so for another
            reason than the rate.
        """
        return self._restart_lower() if self.began_too_high else self._follow_scout()

    def _follow_scout(self) -> bool:
        if not (isinstance(self._course, ScoutCourse) and self._outcome is not None):
            return False
        broke = self._outcome is Outcome.NON_FINITE
        calm = broke and divergence.calm(self._loss)
        if calm and self._lr[-1] <= USUAL:
            return False  # rather the fault of that batch than of the rate
        if calm and self._failure is not None:
            self._notes.append(self._failure)
        turned = self._outcome is not Outcome.COMPLETED
        course = self._course.then(self._lr, self._loss, turned=turned)
        if course is None:
            return False
        self._seen_by_scout = Leg(tuple(self._lr), tuple(self._loss))
        self._course = course
        self._begin()
        return True

    def _restart_lower(self) -> bool:
        broke = self._outcome is Outcome.NON_FINITE
        calm = broke and divergence.calm(self._loss)
        if calm and self._broke_before:
            return False
        self._broke_before = calm
        course = self._course.lower(spent=len(self._loss))
        if course is None:
            return False
        what = f"became {self._loss[-1]}" if broke else "diverged"
        self._notes.append(
            f"The loss {what} within {len(self._loss)} steps from a rate of "
            f"{self._lr[0]:.3g}; the sweep began again from {float(course.sweep(0)):.3g}."
        )
        self._course = course
        self._begin()
        return True

    def fill_in(
        self, *, optimizer: Mapping[str, Any], steps_per_epoch: int | None, rewinds: bool = False
    ) -> None:
        """Take what a driver knows of the training, where it was not given when the test was made.

        Args:
            optimizer: As for the test itself.
            steps_per_epoch: As for the test itself.
            rewinds: Whether the driver puts the training back when :meth:`restart` gives True.
        """
        self._optimizer = self._optimizer or dict(optimizer)
        if self._steps_per_epoch is None:
            self._steps_per_epoch = steps_per_epoch
        if not self.has_begun:
            self._send_scout(rewinds=rewinds)

    def again(self) -> RangeTest:
        """Make a test like this one that has not begun, for a repeat."""
        test = copy.copy(self)
        test._course = self._course.again()
        test._notes, test._broke_before = [], False
        test._begin()
        return test

    @property
    def _leg(self) -> Leg:
        return NO_LEG if self._way_back is None else self._way_back.leg

    @property
    def _unfinished(self) -> str | None:
        return SCOUT_ALONE if self.is_scouting and self.has_begun else None

    @property
    def _told_outcome(self) -> Outcome:
        """How the sweep ended; a scout alone is no sweep, unless it broke off for good."""
        broke_off = self._outcome is Outcome.NON_FINITE
        if self._outcome is None or (self.is_scouting and not broke_off):
            return Outcome.INTERRUPTED
        return self._outcome

    @property
    def record(self) -> RangeRecord:
        """What has been seen so far, as a frozen record."""
        return RangeRecord(
            sweep=self.sweep,
            lr=tuple(self._lr),
            loss=tuple(self._loss),
            metrics={name: Series(tuple(s), tuple(v)) for name, (s, v) in self._metrics.items()},
            way_back=self._leg,
            scout=self._seen_by_scout,
            outcome=self._told_outcome,
            optimizer=self._optimizer,
            steps_per_epoch=self._steps_per_epoch,
            notes=(*self._notes, *filter(None, [self._unfinished, self._failure])),
        )
