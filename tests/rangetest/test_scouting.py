"""The scout and the slow run that follows it: where each begins and ends, and what it costs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cyclr import ExponentialSweep, RangeRecord, RangeTest
from cyclr.errors import InputError
from cyclr.rangetest import Outcome, combine
from rangetest.curves import curve

SGD = {"name": "SGD", "momentum": 0.9}


def _run(make, **options) -> tuple[RangeTest, list[int]]:
    """Run a test over a loss made anew whenever the training is put back; count each run."""
    test = RangeTest(optimizer=SGD, scout=True, **options)
    runs = []
    while True:
        loss = make()
        for lr in test:
            test.tell(loss=float(loss(lr)))
        runs.append(test.step)
        if not test.restart():
            return test, runs


def _curve(turn: float, noise: float = 0.02, **options):
    return lambda: curve(turn, noise=noise, **options)


def _flat():
    rng = np.random.default_rng(0)
    return lambda _: rng.normal(1.0, 0.1)


@pytest.mark.parametrize("turn", [1e-4, 1e-2, 1.0, 1e3])
def test_the_scout_rushes_and_the_slow_run_begins_far_below_where_it_turned(turn: float) -> None:
    test, runs = _run(_curve(turn))
    record = test.record
    assert len(runs) == 2
    assert record.scout.lr[0] == pytest.approx(1e-7)
    assert np.diff(np.log10(record.scout.lr)) == pytest.approx(1 / 4)
    assert turn / 10 < record.scout.lr[-1] < 30 * turn
    # Half of the fall is done a decade and a half below the turn; a third of that is lower.
    assert record.lr[0] == pytest.approx(turn * 10**-1.5 / 3, rel=1.0)
    assert record.lr[0] <= record.scout.lr[-1] / 200 * (1 + 1e-9)
    assert np.diff(np.log10(record.lr)) == pytest.approx(1 / 30)
    assert record.outcome is Outcome.DIVERGED
    assert turn / 10 < record.lr[-1] < 10 * turn
    assert record.way_back.lr == ()
    assert record.updates == sum(runs) == len(record.scout.lr) + len(record) <= 150


@pytest.mark.parametrize(("steps", "pace"), [(60, 18), (100, 30), (200, 60)])
def test_the_pace_follows_the_steps(steps: int, pace: int) -> None:
    record = _run(_curve(0.1), steps=steps)[0].record
    assert np.diff(np.log10(record.scout.lr)) == pytest.approx(1 / 4)
    assert np.diff(np.log10(record.lr)) == pytest.approx(1 / pace)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": {"name": "Adam"}, "scout": True},
        {"optimizer": {"name": "SGD + Adam"}, "scout": True},
        {"optimizer": {}, "scout": True},
        {"optimizer": SGD},
        {"optimizer": SGD, "scout": False},
        {"optimizer": SGD, "scout": True, "steps": 59},
        {"optimizer": SGD, "scout": True, "stop_on_divergence": False},
    ],
)
def test_there_is_none(options) -> None:
    test = RangeTest(**options)
    assert not test.is_scouting
    assert test.sweep(1) / test.sweep(0) < 10 ** (1 / 4)


def test_a_driver_that_rewinds_sends_one_unless_told_not_to() -> None:
    for wanted, sent in ((None, True), (True, True), (False, False)):
        test = RangeTest(scout=wanted)
        test.fill_in(optimizer=SGD, steps_per_epoch=None, rewinds=True)
        assert test.is_scouting == sent
    begun = RangeTest()
    begun.ask()
    begun.fill_in(optimizer=SGD, steps_per_epoch=None, rewinds=True)
    assert not begun.is_scouting


def test_a_sweep_of_ones_own_has_no_scout() -> None:
    sweep = ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=100)
    with pytest.raises(
        InputError, match="scout is for a range that the test finds by itself; leave it out"
    ):
        RangeTest(sweep, scout=True)
    test = RangeTest(sweep)
    test.fill_in(optimizer=SGD, steps_per_epoch=None, rewinds=True)
    assert test.sweep is sweep


def test_a_scout_alone_says_so() -> None:
    test = RangeTest(optimizer=SGD, scout=True)
    loss = curve(0.1, noise=0.02)
    assert test.record.notes == ()
    for lr in test:
        test.tell(loss=loss(lr))
    assert test.is_scouting
    assert test.record.outcome is Outcome.INTERRUPTED
    assert test.record.notes == ("Only the scout has run; the sweep proper did not follow.",)
    assert test.record.scout.lr == ()
    assert test.record.updates == test.step
    assert "go on as test.restart() says" in " ".join(test.record.read().caveats)
    assert test.restart()
    assert test.record.notes == ()


def test_metrics_of_the_scout_are_not_kept() -> None:
    test = RangeTest(optimizer=SGD, scout=True)
    while True:
        loss = curve(0.1, noise=0.02)
        for lr in test:
            test.tell(loss=loss(lr), accuracy=float(test.is_scouting))
        if not test.restart():
            break
    assert set(test.record.metrics["accuracy"].values) == {0.0}
    assert len(test.record.metrics["accuracy"].values) == len(test.record)


def test_a_loss_that_stays_low_is_followed_up_to_eight_times_the_scout_s_end() -> None:
    """As of data learned by heart: after the first run nothing explodes any more."""
    made = iter([curve(0.1, noise=0.02), curve(0.1, end="0.8", noise=0.02)])
    test, runs = _run(lambda: next(made))
    record = test.record
    assert record.outcome is Outcome.COMPLETED
    assert 5 < record.lr[-1] / record.scout.lr[-1] < 8 * 10 ** (1 / 30)
    assert "learned these batches by heart" in " ".join(record.read().caveats)
    assert sum(runs) == 150  # this one begins so low that they do not suffice for all


@pytest.mark.parametrize("steps", [60, 100, 300])
def test_a_flat_loss_is_swept_again_evenly_with_the_steps_that_are_left(steps: int) -> None:
    test, runs = _run(_flat, steps=steps)
    assert runs == [64, 3 * steps // 2 - 64]
    record = test.record
    assert (record.lr[0], record.lr[-1]) == pytest.approx((1e-7, record.scout.lr[-1]))
    reading = record.read()
    assert reading.rule == "basin"
    assert "never fell" in " ".join(reading.caveats)
    assert test.again().sweep == test.sweep


def test_a_loss_that_falls_and_turns_nowhere_is_followed_from_below_its_fall() -> None:
    test, runs = _run(_curve(1e6, end="0.8"))
    record = test.record
    assert runs[0] == 64
    assert record.lr[0] == pytest.approx(1e6 * 10**-1.5 / 3, rel=1.0)
    assert record.outcome is Outcome.COMPLETED
    assert record.lr[-1] < record.scout.lr[-1]
    reading = record.read()
    assert reading.rule == "edge"
    assert "where the steps ran out" in " ".join(reading.caveats)
    assert sum(runs) == 150


def test_a_bad_batch_is_not_taken_for_a_turn() -> None:
    """The loss breaks off out of the calm, at a rate too low to be the reason."""
    test = RangeTest(optimizer=SGD, scout=True)
    loss = curve(1.0, noise=0.02)
    for lr in test:
        if test.step == 15:
            test.fail("NaN was met.")
        else:
            test.tell(loss=loss(lr))
    assert not test.restart()
    assert test.record.outcome is Outcome.NON_FINITE
    assert test.record.notes[-1] == "NaN was met."
    assert "rather the fault of that batch" in " ".join(test.record.read().caveats)


def test_one_asked_for_again_and_again_is_sent_once() -> None:
    """Lightning fills in what it knows at the beginning of every run."""
    test, runs = RangeTest(), 0
    while True:
        test.fill_in(optimizer=SGD, steps_per_epoch=None, rewinds=True)
        loss = _flat()
        for lr in test:
            test.tell(loss=loss(lr))
            runs += 1
        if not test.restart():
            break
    assert runs == 150


def test_a_scout_that_begins_too_high_begins_again_lower() -> None:
    test, runs = _run(_curve(3e-10))
    record = test.record
    assert record.scout.lr[0] == pytest.approx(1e-13)
    assert "the sweep began again from 1e-13" in record.notes[0]
    assert len(record.notes) == 1
    assert record.outcome is Outcome.DIVERGED
    assert sum(runs) <= 150
    assert record.updates == sum(runs[1:])


def test_scouts_may_use_up_all_steps() -> None:
    """Three begin too high, and the fourth sees nothing: there is no slow run."""
    made = iter([*[curve(10.0 ** -(12 + 6 * k), noise=0.02) for k in range(3)], _flat()])
    test, runs = _run(lambda: next(made), steps=60)
    assert sum(runs) <= 90
    assert test.is_scouting
    assert test.record.outcome is Outcome.INTERRUPTED
    assert "Only the scout has run" in " ".join(test.record.notes)


def test_a_slow_run_that_begins_too_high_begins_again_lower() -> None:
    made = iter([curve(1.0, noise=0.02), *[curve(1e-5, noise=0.02) for _ in range(3)]])
    test, runs = _run(lambda: next(made))
    assert len(runs) == 4
    assert max(runs[1:3]) <= 15
    assert test.record.lr[0] < 1e-6
    assert len(test.record.notes) == 2
    assert sum(runs) <= 150


@pytest.mark.parametrize("calm", [True, False])
def test_an_exception_that_ends_a_scout_is_noted_if_it_came_out_of_the_calm(calm: bool) -> None:
    test = RangeTest(optimizer=SGD, scout=True)
    loss = curve(0.1, noise=0.02)
    for lr in test:
        if lr > (0.03 if calm else 0.15):
            test.fail("NaN was met.")
        else:
            test.tell(loss=loss(lr) if lr < 0.09 else 50.0)
    assert test.record.outcome is Outcome.NON_FINITE
    assert test.record.notes[-1] == "NaN was met."
    assert test.restart()
    assert test.record.notes == (("NaN was met.",) if calm else ())
    assert not test.is_scouting


def test_a_repeat_needs_no_scout() -> None:
    test, _ = _run(_curve(0.1))
    again = test.again()
    assert not again.is_scouting
    assert again.record.scout == test.record.scout  # which led to its range as well
    assert again.sweep(0) == test.record.lr[0]
    assert again.sweep(1) == pytest.approx(test.record.lr[1])
    assert again.steps >= test.steps


def test_it_is_saved_and_counted(tmp_path) -> None:
    record = _run(_curve(0.1))[0].record
    record.save(tmp_path / "r.json")
    assert RangeRecord.load(tmp_path / "r.json") == record
    both = combine([record, replace(record, loss=tuple(x + 0.01 for x in record.loss))])
    assert both.updates == record.updates + len(record)  # the scout once
    assert [sweep.read().rule for sweep in both.sweeps] == ["edge", "edge"]
    assert "scout" not in replace(record, scout=type(record.scout)()).to_dict()


class TestTheRule:
    @pytest.mark.parametrize("turn", [1e-5, 1e-2, 1.0, 1e4])
    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_below_where_the_loss_leaves_its_low_stretch(self, turn, scale) -> None:
        record = _run(lambda: _scaled(curve(turn, noise=0.02), scale))[0].record
        reading = record.read()
        assert reading.rule == "edge"
        # It explodes a bit above its turn.
        assert reading.max_lr == pytest.approx(0.52 * turn, rel=0.4)
        assert 3 <= reading.max_lr / reading.base_lr <= 10 * (1 + 1e-9)

    def test_literally(self) -> None:
        """Two thirds flat, then a fall by 1, low for ten rates, and up: the last low one is 1.0."""
        lr = 10 ** ((np.arange(61) - 50) / 10)
        loss = np.interp(np.arange(61), [0, 20, 30, 50, 53, 60], [2.0, 2.0, 1.0, 1.0, 9.0, 9.0])
        record = RangeRecord(
            sweep=ExponentialSweep(start_lr=float(lr[0]), end_lr=float(lr[-1]), steps=61),
            lr=tuple(lr),
            loss=tuple(loss),
            outcome=Outcome.DIVERGED,
            optimizer=SGD,
        )
        reading = record.read("edge")
        # The average of five is above 1.05 from two before where the loss itself is.
        assert reading.max_lr == pytest.approx(lr[48] / 2.75)
        assert reading.base_lr == pytest.approx(reading.max_lr / 10)

    @pytest.mark.parametrize(
        ("momentum", "margin"),
        [(0.0, 2.75 / 1.9), (0.5, 4.125 / 1.9), (0.9, 2.75), (0.99, 5.4725 / 1.9), (None, 2.75)],
    )
    def test_the_margin_goes_with_one_plus_the_momentum(self, momentum, margin) -> None:
        told = {} if momentum is None else {"momentum": momentum}
        record = _run(_curve(0.1))[0].record
        usual = replace(record, optimizer={"name": "SGD", "momentum": 0.9}).read("edge")
        other = replace(record, optimizer={"name": "SGD"} | told).read("edge")
        assert other.max_lr * margin == pytest.approx(usual.max_lr * 2.75)
        # Other optimizers' beta1 is none.
        adams = (replace(record, optimizer={"name": "Adam"} | more) for more in ({}, told))
        assert len({adam.read("edge").max_lr for adam in adams}) == 1

    @pytest.mark.parametrize("curvature", [2.0, 2e-4, 2e4])
    def test_a_parabola_without_noise_is_read_below_its_limit(self, curvature: float) -> None:
        """Updates multiply the weight by 1 - rate · curvature, so that it grows beyond 2 / that."""

        def parabola():
            weight = 1.0

            def loss(lr: float) -> float:
                nonlocal weight
                told, weight = curvature / 2 * weight**2, weight * (1 - lr * curvature)
                return told

            return loss

        record = _run(parabola)[0].record
        limit = 2 / curvature
        assert limit / 5 < record.read().max_lr < limit / 2

    def test_under_other_optimizers_where_it_is_low_for_the_last_time(self) -> None:
        """It leaves its low stretch for a while at step 50, and for good at 66."""
        lr = 10 ** ((np.arange(81) - 60) / 10)
        loss = np.interp(
            np.arange(81), [0, 20, 30, 50, 52, 54, 56, 66, 69, 80], [2, 2, 1, 1, 2, 2, 1, 1, 9, 9]
        )
        record = RangeRecord(
            sweep=ExponentialSweep(start_lr=float(lr[0]), end_lr=float(lr[-1]), steps=81),
            lr=tuple(lr),
            loss=tuple(loss),
            outcome=Outcome.DIVERGED,
            optimizer={"name": "Adam"},
        )
        assert record.read("edge").max_lr == pytest.approx(lr[63] / 5)
        sgd = replace(record, optimizer={"name": "SGD"})
        assert sgd.read("edge").max_lr == pytest.approx(lr[48] / 2.75)

    def test_a_loss_that_never_fell_is_read_at_the_edge_itself(self) -> None:
        rng = np.random.default_rng(1)
        make = lambda: lambda lr: rng.normal(2.0, 0.1) + min(1e6, (lr / 0.1) ** 8)  # noqa: E731
        record = _run(make)[0].record
        reading = record.read()
        assert 0.02 < reading.max_lr < 0.2
        assert "never fell" in " ".join(reading.caveats)

    def test_an_explosion_to_anything_weighs_the_same(self) -> None:
        record = _run(_curve(0.1))[0].record
        rates = []
        for height in (1e3, 1e30, math.inf, math.nan):
            loss = [x if x < 5 else height for x in record.loss]
            rates.append(replace(record, loss=tuple(loss)).read().max_lr)
        assert rates == pytest.approx([rates[0]] * 4)

    def test_negative_losses_are_read_alike(self) -> None:
        record = _run(_curve(0.1))[0].record
        lower = replace(record, loss=tuple(x - 100 for x in record.loss))
        assert lower.read().max_lr == pytest.approx(record.read().max_lr)


def _scaled(loss, scale: float):
    return lambda lr: scale * loss(lr)
