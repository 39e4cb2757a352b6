"""What a second sweep is to go through, and what it says of a reading."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from cyclr import RangeTest
from cyclr.errors import InputError, SpecError
from cyclr.rangetest import Outcome, RangeRecord, Reading, Series
from cyclr.rangetest.confirm import left, second_sweep, settle
from cyclr.rangetest.rules.basin import CHANCE
from cyclr.schedules import ExponentialSweep

SECOND = 1 / 2.75  # what is read off _low_until(60), whose edge is at 1
READING = Reading(
    base_lr=0.02, max_lr=0.1, rule="basin", outcome=Outcome.DIVERGED, updates=98, steps_per_epoch=7
)
SWEEP = ExponentialSweep(start_lr=0.01, end_lr=10.0, steps=91)  # thirty updates to a decade
RATES = tuple(float(SWEEP(k)) for k in range(91))


def _record(loss, outcome: Outcome = Outcome.DIVERGED, **more) -> RangeRecord:
    more = {"optimizer": {"name": "SGD"}} | more
    rates = RATES[: len(loss)]
    return RangeRecord(sweep=SWEEP, lr=rates, loss=tuple(loss), outcome=outcome, **more)


def _low_until(edge: int) -> RangeRecord:
    """Make a record whose loss falls from 2 to 1, and explodes so that the edge is at a step.

    The average spans seven losses, so the first high one is four steps further.
    """
    return _record([2.0 - min(k, 30) / 30 if k < edge + 4 else 1e3 for k in range(91)])


def test_the_second_sweep_goes_from_a_tenth_of_max_lr_to_thirty_times_it() -> None:
    for total_steps, steps in ((680, 38), (10_000, 112)):
        sweep = second_sweep(READING, total_steps)
        assert isinstance(sweep, ExponentialSweep)
        assert (sweep(0), sweep(steps - 1)) == pytest.approx((0.01, 3.0))
        assert sweep.total_steps == steps


@pytest.mark.parametrize(
    ("swept", "total_steps", "steps"),
    [
        (0, 190, 38),  # fifteen to a decade
        (0, 559, 111),
        (0, 560, 112),  # forty-five to a decade
        (0, 100_000, 112),
        (98, 680, 38),
        (98, 1049, 111),
        (98, 1050, 112),
        (150, 940, 38),
    ],
)
def test_both_sweeps_stay_within_a_fifth_of_the_budget(swept, total_steps, steps) -> None:
    reading = dataclasses.replace(READING, updates=swept)
    assert left(swept, total_steps) == steps
    assert second_sweep(reading, total_steps).steps == steps
    assert swept + steps <= 0.2 * total_steps


def test_or_within_the_share_that_is_given() -> None:
    assert left(0, 1000, share=0.07) == 70
    assert left(0, 180, share=0.35) == 63  # though 0.35 · 180 is 62.99…
    assert second_sweep(READING, 320, share=0.5).steps == 62
    with pytest.raises(InputError, match=r"raise its share \(0\.05\)"):
        second_sweep(READING, 1000, share=0.05)


@pytest.mark.parametrize(("swept", "least"), [(0, 190), (1, 195), (98, 680), (150, 940)])
def test_a_budget_too_small_for_it_says_which_would_do(swept: int, least: int) -> None:
    words = (
        rf"total_steps must be ≥ {least} for a second sweep of 38 updates beside one of {swept}, "
        rf"got {least - 1}; go without confirming, or raise its share \(0\.2\)"
    )
    reading = dataclasses.replace(READING, updates=swept)
    with pytest.raises(InputError, match=words):
        second_sweep(reading, least - 1)
    assert second_sweep(reading, least).steps == 38


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.2, math.nan, "0.2", True, None])
def test_a_share_out_of_bounds_is_refused(share) -> None:
    with pytest.raises(SpecError, match="share must be"):
        second_sweep(READING, 10_000, share=share)


@pytest.mark.parametrize("total_steps", [0, -1, 1000.5, "1000", True, None])
def test_a_budget_out_of_bounds_is_refused(total_steps) -> None:
    with pytest.raises(SpecError, match="total_steps must be"):
        second_sweep(READING, total_steps)


def test_what_was_confirmed_is_not_confirmed_again() -> None:
    confirmed = settle(READING, _low_until(60))
    with pytest.raises(InputError, match=r"not confirmed yet, got 'basin confirmed'; confirm what"):
        second_sweep(confirmed, 10_000)


@pytest.mark.parametrize(
    ("times", "factor"),
    [(0.4, math.sqrt(2.5)), (1.0, 1.0), (2.56, 0.625), (4e-3, math.sqrt(250)), (16.0, 0.25)],
)
def test_bounds_go_to_the_geometric_middle(times: float, factor: float) -> None:
    record, first = _low_until(60), times * SECOND
    assert record.read("edge").max_lr == pytest.approx(SECOND)
    settled = settle(dataclasses.replace(READING, max_lr=first), record)
    assert settled.max_lr == pytest.approx(math.sqrt(first * SECOND))
    assert settled.max_lr == pytest.approx(factor * first)
    assert settled.base_lr == pytest.approx(factor * 0.02)


def test_the_reading_keeps_what_it_knows_and_takes_the_second_record() -> None:
    optimizer = {"name": "SGD", "momentum": 0.9}
    first = _low_until(45).read("edge")
    reading = dataclasses.replace(first, optimizer=optimizer, steps_per_epoch=7)
    record = _low_until(60)
    settled = settle(reading, record)
    assert settled.rule == "edge confirmed"
    assert settled.second is record
    assert settled.updates == 91 + 91
    assert settle(READING, record).updates == 98 + 91
    assert (settled.optimizer, settled.steps_per_epoch) == (optimizer, 7)
    assert (settled.metric, settled.outcome) == (None, Outcome.DIVERGED)
    # The first record says nothing about these bounds any more, and there are no intervals.
    assert reading.max_lr_interval is not None
    assert (settled.record, settled.sweeps, settled.max_lr_interval) == (None, (), None)
    stated = Reading.from_dict(reading.to_dict())
    assert stated.base_lr_interval is not None
    assert settle(stated, record).base_lr_interval is None


def test_a_reading_by_a_metric_is_confirmed_by_that() -> None:
    losses = _low_until(75)
    steps, low = tuple(range(79)), losses.loss[:79]
    held = {"val_loss": Series(steps, tuple(_low_until(60).loss[:79]))}
    record = dataclasses.replace(losses, lr=losses.lr[:79], loss=low, metrics=held)
    reading = dataclasses.replace(READING, metric="val_loss")
    by_metric, by_loss = settle(reading, record), settle(READING, record)
    assert (by_metric.metric, by_loss.metric) == ("val_loss", None)
    assert by_metric.max_lr == pytest.approx(math.sqrt(READING.max_lr * SECOND), rel=0.1)
    assert by_loss.max_lr > 1.5 * by_metric.max_lr
    few = dataclasses.replace(record, steps_per_epoch=7)  # where by itself it reads the other
    assert few.read("edge").metric == "val_loss"
    assert settle(READING, few).max_lr == by_loss.max_lr
    with pytest.raises(InputError, match=r"hold the metric that was read, 'val_loss', got none;"):
        settle(reading, losses)


@pytest.mark.parametrize(("every", "seldom"), [(1, False), (2, False), (3, True)])
def test_a_metric_that_was_measured_seldom_gets_a_caveat(every: int, seldom: bool) -> None:
    losses = _low_until(60)
    steps = tuple(range(0, len(losses), every))
    series = Series(steps, tuple(losses.loss[step] for step in steps))
    record = dataclasses.replace(losses, metrics={"val_loss": series})
    settled = settle(dataclasses.replace(READING, metric="val_loss"), record)
    words = f"val_loss was measured at {len(steps)} of the second sweep's {len(losses)} updates"
    assert any(words in caveat for caveat in settled.caveats) == seldom


def test_a_second_sweep_is_read_by_edge_whatever_the_first_was_read_by() -> None:
    record = _low_until(60)
    assert record.read().rule == "basin"
    assert record.read().max_lr != pytest.approx(SECOND, rel=0.01)
    knee = dataclasses.replace(READING, rule="knee", max_lr=SECOND)
    assert settle(knee, record).max_lr == pytest.approx(SECOND)
    assert settle(knee, record).rule == "knee confirmed"


def test_the_caveat_that_asks_for_it_goes_and_others_stay() -> None:
    asking = f"The sweep alone gives 0.02; it is higher, {CHANCE}. Sweep with repeats."
    caveats = ("It is short.", asking, "It is old.")
    reading = dataclasses.replace(READING, max_lr=0.3, caveats=caveats)
    assert settle(reading, _low_until(60)).caveats == ("It is short.", "It is old.")
    assert settle(reading, _record([1.0] * 91, Outcome.COMPLETED)).caveats[:-1] == (
        "It is short.",
        "It is old.",
    )


@pytest.mark.parametrize(
    ("times", "apart"),
    [(0.332, "3"), (0.335, None), (2.98, None), (3.02, "3"), (4.0, "4"), (0.04, "25")],
)
def test_sweeps_that_differ_by_more_than_three_are_said_to(times: float, apart) -> None:
    first = times * SECOND
    caveats = settle(dataclasses.replace(READING, max_lr=first), _low_until(60)).caveats
    assert caveats == (
        ()
        if apart is None
        else (
            f"The sweeps disagree: max_lr is {first:.3g} by the first and 0.364 by the second, a "
            f"factor of {apart}. The middle was taken.",
        )
    )


def test_what_makes_the_second_doubtful_is_said_once() -> None:
    still_low = _record([2.0 - min(k, 80) / 80 for k in range(91)], Outcome.COMPLETED)
    [doubt] = still_low.read("edge").caveats
    assert "still low at the end" in doubt
    near = dataclasses.replace(READING, max_lr=2.0)
    [said] = settle(near, still_low).caveats
    assert said.startswith("The loss was still low at the end of the second sweep, at 30 times max")
    assert "end_lr" not in said  # which confirm sets
    both = dataclasses.replace(near, caveats=("It is short.", said))
    assert settle(both, still_low).caveats == ("It is short.", said)


ROSE = [2.3 * 1.3**k for k in range(12)]


@pytest.mark.parametrize(
    ("loss", "outcome"),
    [
        ([2.3, math.nan, math.nan], Outcome.NON_FINITE),
        ([2.3, 1e30, math.inf, math.inf], Outcome.NON_FINITE),
        (ROSE, Outcome.DIVERGED),
        ([*ROSE, math.nan, math.nan], Outcome.NON_FINITE),
    ],
)
def test_a_second_sweep_that_diverges_at_once_divides_the_bounds_by_ten(loss, outcome) -> None:
    reading = dataclasses.replace(READING, caveats=("It is short.",))
    record = _record(loss, outcome)
    settled = settle(reading, record)
    assert (settled.base_lr, settled.max_lr) == pytest.approx((0.002, 0.01))
    kept, caveat = settled.caveats
    assert kept == "It is short."
    assert caveat.startswith("The second sweep diverged at a tenth of max_lr already")
    assert settled.rule == "basin confirmed"
    assert settled.second is record
    assert settled.updates == 98 + len(loss)


@pytest.mark.parametrize(
    ("loss", "outcome", "why"),
    [
        ([1.5] * 91, Outcome.COMPLETED, "the loss is 1.5 at every rate"),
        ([1.5] * 20, Outcome.INTERRUPTED, "the loss is 1.5 at every rate"),
        ([2.3, 2.2, 2.1], Outcome.INTERRUPTED, "the record holds 3 finite losses"),
        ([], Outcome.INTERRUPTED, "the record holds 0 finite losses"),
        ([math.nan, math.nan], Outcome.NON_FINITE, "the loss is nan at the first step"),
    ],
)
def test_one_that_says_nothing_leaves_them_as_they_are(loss, outcome, why: str) -> None:
    settled = settle(READING, _record(loss, outcome))
    assert (settled.base_lr, settled.max_lr) == (0.02, 0.1)
    [caveat] = settled.caveats
    assert caveat.startswith(
        f"The second sweep could not be read, and the bounds stay as they were: {why}"
    )
    assert settled.rule == "basin confirmed"


def test_a_confirmed_reading_is_written_with_its_second_record(tmp_path) -> None:
    record = _record([2.0, 1.9, math.nan, math.inf], Outcome.NON_FINITE, notes=("It broke.",))
    made = settle(READING, record)
    assert made.second is record
    made.save(tmp_path / "reading.json")
    for read in (Reading.load(tmp_path / "reading.json"), Reading.from_dict(made.to_dict())):
        assert read == made
        assert read.second is not None
        assert read.second.to_dict() == record.to_dict()
        assert read.second.sweep == SWEEP
        assert math.isnan(read.second.loss[2])
        assert read.updates == 102
        with pytest.raises(InputError, match="not confirmed yet"):
            second_sweep(read, 10_000)
    assert Reading.from_dict(READING.to_dict()).second is None
    assert READING.to_dict()["second"] is None


def _batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(100, 32, 8))
    targets = inputs @ np.arange(8.0) + rng.normal(size=(100, 32))
    return list(zip(inputs, targets, strict=True))


def _train(test: RangeTest) -> RangeRecord:
    """Fit a line by gradient descent at the rates that a test names: no framework at all."""
    weights = np.zeros(8)
    for lr, (inputs, targets) in zip(test, itertools.cycle(_batches()), strict=False):
        error = inputs @ weights - targets
        test.tell(loss=float((error**2).mean()))
        weights -= lr * 2 * inputs.T @ error / len(error)
    return test.record


@pytest.mark.parametrize("first", [0.002, 0.05, 0.5])
def test_a_loop_of_ones_own_can_confirm(first: float) -> None:
    """The mean square's curvature is 2, so that rates of 1 and more diverge however slowly."""
    reading = dataclasses.replace(READING, base_lr=first / 4, max_lr=first)
    sweep = second_sweep(reading, 2000)
    record = _train(RangeTest(sweep))
    assert record.sweep == sweep
    assert record.lr[0] == pytest.approx(first / 10)
    settled = settle(reading, record)
    assert settled.updates == 98 + len(record)
    second = settled.max_lr**2 / first
    assert settled.base_lr == pytest.approx(settled.max_lr / 4)
    if first == 0.002:  # it ends at .06, where nothing has diverged yet
        assert record.outcome is Outcome.COMPLETED
        assert second == pytest.approx(30 * first / 5, rel=0.1)  # no optimizer was told
    else:
        assert record.outcome is Outcome.DIVERGED
        assert 0.1 < second < 0.5
