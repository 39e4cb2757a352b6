"""The range test itself, as ask and tell: it names rates and listens to losses.

It knows no framework. The loop that trains is the caller's, or one of the drivers in
:mod:`cyclr.integrations`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from cyclr.errors import InputError
from cyclr.rangetest import divergence
from cyclr.rangetest.course import Course, GivenCourse, OwnCourse, default_sweep
from cyclr.rangetest.numbers import as_number, plain
from cyclr.rangetest.record import LITTLE, Outcome, RangeRecord
from cyclr.rangetest.rules.bounds import USUAL, under_sgd
from cyclr.rangetest.run import Run
from cyclr.rangetest.scouting import SCOUT_ALONE, ScoutCourse
from cyclr.rangetest.way_back import NO_LEG, Leg
from cyclr.schedules.spec import Schedule

__all__ = ["RangeTest", "default_sweep"]


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
        self._stop_on_divergence = stop_on_divergence
        self._optimizer = {name: plain(value) for name, value in (optimizer or {}).items()}
        self._steps_per_epoch = steps_per_epoch
        self._notes: list[str] = []
        self._broke_before = False
        self._scout, self._seen_by_scout = scout, NO_LEG
        self._begin(_course(sweep, steps, start_lr, scout))
        self._send_scout(rewinds=bool(scout))

    def _begin(self, course: Course) -> None:
        self._run = Run(course, stop_on_divergence=self._stop_on_divergence)

    def _send_scout(self, *, rewinds: bool) -> None:
        wanted = (rewinds if self._scout is None else self._scout) and self._stop_on_divergence
        course = self._run.course
        if wanted and isinstance(course, OwnCourse) and under_sgd(self._optimizer):
            self._begin(ScoutCourse.before(course))

    def __iter__(self) -> Iterator[float]:
        """Yield the rate for each update; :meth:`tell` must follow each."""
        while (lr := self.ask()) is not None:
            yield lr

    @property
    def sweep(self) -> Schedule:
        """The schedule of the rate, as far as it is decided."""
        return self._run.course.sweep

    @property
    def steps(self) -> int:
        """How many updates are planned; a range that the test finds by itself may need more."""
        return self._run.steps

    @property
    def step(self) -> int:
        """How many updates have been told, those of the way back included."""
        return self._run.step

    @property
    def has_begun(self) -> bool:
        """Whether any update has been told, or any rate asked for."""
        return self._run.has_begun

    @property
    def on_way_back(self) -> bool:
        """Whether the sweep is over and the rate comes down again; metrics are not kept there."""
        return self._run.way_back is not None

    @property
    def is_scouting(self) -> bool:
        """Whether this is only the scout; metrics are not kept there."""
        return isinstance(self._run.course, ScoutCourse)

    @property
    def validate_every(self) -> int:
        """Updates between validations where the user does not say, a twentieth of the sweep.

        But 1 where an epoch has twenty updates or fewer, since there the validation loss is what is
        read.
        """
        little = self._steps_per_epoch is not None and self._steps_per_epoch <= LITTLE
        return 1 if little else max(1, self.steps // 20)

    @property
    def began_too_high(self) -> bool:
        """Whether the loss diverged within the first steps, although the very first was finite."""
        return self._run.began_too_high

    def ask(self) -> float | None:
        """Name the rate for the next update; None when the test has ended.

        Raises:
            StateError: The last rate has not been answered with :meth:`tell`.
        """
        return self._run.ask()

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
        self._run.unanswered()  # before the numbers are looked at
        number = as_number("loss", loss)
        measured = {n: as_number(n, value) for n, value in metrics.items() if value is not None}
        self._run.tell(number, measured)

    def fail(self, why: str) -> None:
        """Answer the last rate with an update that could not be made, and end as ``non_finite``.

        On the way back the outcome stays what it was.

        For code that raises when it meets NaN or infinity.

        Args:
            why: A sentence for the record's notes.

        Raises:
            StateError: No rate was asked for.
        """
        self._run.fail(why)

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
        run = self._run
        if not (isinstance(run.course, ScoutCourse) and run.outcome is not None):
            return False
        calm = run.outcome is Outcome.NON_FINITE and divergence.calm(run.loss)
        if calm and run.lr[-1] <= USUAL:
            return False  # rather the fault of that batch than of the rate
        if calm and run.failure is not None:
            self._notes.append(run.failure)
        course = run.course.then(run.lr, run.loss, turned=run.outcome is not Outcome.COMPLETED)
        if course is None:
            return False
        self._seen_by_scout = Leg(tuple(run.lr), tuple(run.loss))
        self._begin(course)
        return True

    def _restart_lower(self) -> bool:
        run = self._run
        broke = run.outcome is Outcome.NON_FINITE
        calm = broke and divergence.calm(run.loss)
        if calm and self._broke_before:
            return False
        self._broke_before = calm
        course = run.course.lower(spent=len(run.loss))
        if course is None:
            return False
        what = f"became {run.loss[-1]}" if broke else "diverged"
        self._notes.append(
            f"The loss {what} within {len(run.loss)} steps from a rate of "
            f"{run.lr[0]:.3g}; the sweep began again from {float(course.sweep(0)):.3g}."
        )
        self._begin(course)
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
        test._notes, test._broke_before = [], False
        test._begin(self._run.course.again())
        return test

    @property
    def _told_outcome(self) -> Outcome:
        """How the sweep ended; a scout alone is no sweep, unless it broke off for good."""
        outcome = self._run.outcome
        if outcome is None or (self.is_scouting and outcome is not Outcome.NON_FINITE):
            return Outcome.INTERRUPTED
        return outcome

    @property
    def record(self) -> RangeRecord:
        """What has been seen so far, as a frozen record."""
        run = self._run
        unfinished = SCOUT_ALONE if self.is_scouting and run.has_begun else None
        return RangeRecord(
            sweep=self.sweep,
            lr=tuple(run.lr),
            loss=tuple(run.loss),
            metrics=run.metrics,
            way_back=run.leg,
            scout=self._seen_by_scout,
            outcome=self._told_outcome,
            optimizer=self._optimizer,
            steps_per_epoch=self._steps_per_epoch,
            notes=(*self._notes, *filter(None, [unfinished, run.failure])),
        )


def _course(
    sweep: Schedule | None, steps: int | None, start_lr: float | None, scout: bool | None
) -> Course:
    """Plan the schedule that is given, or a range that the test finds."""
    if sweep is None:
        own = {"steps": steps, "start_lr": start_lr}
        given = {name: value for name, value in own.items() if value is not None}
        return OwnCourse(**given)  # type: ignore[arg-type] # checked there
    if steps is not None or start_lr is not None or scout:
        name = "steps" if steps is not None else "scout" if start_lr is None else "start_lr"
        remedy = "leave it out" if name == "scout" else "set it in your sweep instead"
        raise InputError(f"{name} is for a range that the test finds by itself; {remedy}")
    return GivenCourse(sweep)
