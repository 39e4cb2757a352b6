"""The range test as ask and tell."""

import math

import numpy as np
import pytest

from cyclr import Constant, ExponentialSweep, LinearSweep, Outcome, RangeTest
from cyclr.errors import InputError, SpecError, StateError
from rangetest.curves import curve, sweep_over


def _run(losses, **options):
    """Feed a list of losses to a sweep of that length."""
    sweep = ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=len(losses))
    test = RangeTest(sweep, **options)
    for _, loss in zip(test, losses, strict=False):
        test.tell(loss=loss)
    return test.record


def test_rates_are_the_sweep_s_from_first_to_last() -> None:
    test = RangeTest(LinearSweep(start_lr=0.0, end_lr=1.0, steps=5))
    rates = []
    for lr in test:
        rates.append(lr)
        test.tell(loss=1.0)
    assert rates == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert test.record.lr == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert test.record.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("turn", [1e-4, 1e-2, 0.3, 3.0, 100.0, 1e4])
@pytest.mark.parametrize("end", ["explodes", "1.7", "2.3", "5.0"])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_it_finds_its_own_range(turn, end, noise) -> None:
    record = sweep_over(curve(turn, end=end, noise=noise))
    assert record.lr[0] == pytest.approx(1e-7)
    assert len(record) <= 150
    # Far enough to see the turn, at most two decades beyond it.
    assert turn / 3 <= record.lr[-1] <= 100 * turn
    rates = np.asarray(record.lr)
    assert np.allclose(rates, record.sweep(np.arange(len(record))), rtol=1e-12)
    strides = np.diff(np.log10(rates))
    assert np.allclose(strides[:99], 8 / 99)
    assert np.allclose(strides[99:], 2 * 8 / 99)  # beyond 10 it hurries


def test_a_turn_below_10_leaves_the_nominal_sweep() -> None:
    record = sweep_over(curve(0.3))
    assert record.sweep == ExponentialSweep(start_lr=1e-7, end_lr=10.0, steps=100)
    assert record.outcome is Outcome.DIVERGED


def test_a_turn_above_10_extends_it_and_the_record_says_so() -> None:
    record = sweep_over(curve(100.0))
    assert record.sweep.total_steps == len(record)
    assert record.sweep(len(record) - 1) == pytest.approx(record.lr[-1])
    assert 100 < record.lr[-1] < 3000
    assert record.outcome is Outcome.DIVERGED
    plateau = sweep_over(curve(100.0, end="2.3"))
    assert plateau.outcome is Outcome.COMPLETED
    assert 100 < plateau.lr[-1] < 3000


@pytest.mark.parametrize("loss", [lambda lr: 1.0, lambda lr: -math.log(lr)])
def test_a_loss_that_never_turns_ends_after_150_steps(loss) -> None:
    record = sweep_over(loss)
    assert len(record) == record.sweep.total_steps == 150
    assert record.outcome is Outcome.COMPLETED


def test_steps_are_the_density() -> None:
    record = sweep_over(curve(0.3), steps=40)
    assert record.sweep == ExponentialSweep(start_lr=1e-7, end_lr=10.0, steps=40)
    assert len(sweep_over(lambda lr: 1.0, steps=40)) == 60


def test_too_few_steps_to_judge_are_not_extended() -> None:
    assert len(sweep_over(lambda lr: 1.0, steps=10)) == 10


def test_a_start_of_ones_own_keeps_the_density() -> None:
    record = sweep_over(curve(0.3), start_lr=1e-4)
    assert record.lr[0] == pytest.approx(1e-4)
    assert record.lr[1] / record.lr[0] == pytest.approx(10 ** (8 / 99))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps must be an int ≥ 2, got 1"),
        ({"start_lr": 0.0}, "start_lr must be a finite real number > 0 < 10, got 0.0"),
        ({"start_lr": 10.0}, "start_lr must be"),
    ],
)
def test_a_range_that_cannot_be_is_an_error(options, message) -> None:
    with pytest.raises(SpecError) as caught:
        RangeTest(**options)
    assert message.split(",")[0].split(" >")[0] in str(caught.value)


@pytest.mark.parametrize("options", [{"steps": 20}, {"start_lr": 1e-3}])
def test_a_sweep_of_ones_own_has_its_own_numbers(options) -> None:
    sweep = ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=10)
    with pytest.raises(InputError, match=f"{next(iter(options))} is for a range"):
        RangeTest(sweep, **options)


def test_a_sweep_of_ones_own_is_never_extended() -> None:
    assert len(_run(list(np.linspace(2.3, 0.5, 50)))) == 50


def test_a_loss_back_at_its_start_for_good_ends_a_sweep_of_ones_own() -> None:
    losses = [2.3] * 20 + list(np.linspace(2.3, 0.5, 20)) + [2.3] * 60
    record = _run(losses)
    assert record.outcome is Outcome.DIVERGED
    assert 48 <= len(record) <= 54


def test_a_loss_that_lost_half_its_fall_does_not() -> None:
    losses = [2.3] * 20 + list(np.linspace(2.3, 0.5, 20)) + [1.6] * 60
    assert _run(losses).outcome is Outcome.COMPLETED


class TestBeganTooHigh:
    @pytest.mark.parametrize("end", ["explodes", "50.0"])
    @pytest.mark.parametrize("turn", [3e-9, 1e-9, 1e-10])
    def test_a_turn_below_the_start(self, turn, end) -> None:
        loss = curve(turn, end=end)
        test = RangeTest()
        test.ask()
        test.tell(loss=2.3)  # before any update
        for lr in test:
            test.tell(loss=loss(lr))
        assert test.began_too_high
        assert test.restart()
        for lr in test:
            test.tell(loss=loss(lr))
        record = test.record
        assert record.lr[0] == pytest.approx(1e-13)
        assert turn / 3 < record.lr[-1] < 1e-7
        assert not test.began_too_high
        assert record.notes == (
            f"The loss diverged within {record.notes[0].split()[4]} steps from a rate of 1e-07; "
            "the sweep began again from 1e-13.",
        )

    def test_two_attempts_take_150_steps_together(self) -> None:
        test = RangeTest()
        for _ in test:
            test.tell(loss=2.3 if test.step == 0 else math.inf)
        first = test.step
        assert test.restart()
        for _ in test:
            test.tell(loss=2.3)
        assert first + test.step == 150

    def test_a_loss_that_was_never_finite_is_not_the_rate_s_fault(self) -> None:
        test = RangeTest()
        for _ in test:
            test.tell(loss=math.nan)
        assert not test.began_too_high
        assert not test.restart()

    def test_a_sweep_of_ones_own_is_not_begun_again(self) -> None:
        test = RangeTest(ExponentialSweep(start_lr=1.0, end_lr=10.0, steps=30))
        for _ in test:
            test.tell(loss=2.3 if test.step == 0 else math.inf)
        assert test.began_too_high
        assert not test.restart()

    def test_a_turn_within_the_range_is_not_too_high(self) -> None:
        test = RangeTest()
        loss = curve(0.1)
        for lr in test:
            test.tell(loss=loss(lr))
        assert not test.restart()
        assert test.record.notes == ()


def test_an_update_that_could_not_be_made_ends_the_test() -> None:
    test = RangeTest()
    for _ in test:
        if test.step == 12:
            test.fail("The covariance was no longer positive definite.")
        else:
            test.tell(loss=1.0)
    record = test.record
    assert record.outcome is Outcome.NON_FINITE
    assert len(record) == 13
    assert math.isnan(record.loss[-1])
    assert record.notes == ("The covariance was no longer positive definite.",)


def test_a_falling_loss_completes() -> None:
    record = _run(list(np.linspace(2.3, 0.5, 50)))
    assert record.outcome is Outcome.COMPLETED
    assert len(record) == 50


def test_a_clear_rise_ends_as_diverged_soon_after_it() -> None:
    losses = [2.3] * 20 + [1.5] * 20 + [9.0] * 20
    record = _run(losses)
    assert record.outcome is Outcome.DIVERGED
    assert 41 <= len(record) <= 43  # two of the last three losses must be high


def test_divergence_can_be_ignored() -> None:
    record = _run([1.0] * 20 + [100.0] * 20, stop_on_divergence=False)
    assert record.outcome is Outcome.COMPLETED
    assert len(record) == 40


def test_one_spike_does_not_end_the_sweep() -> None:
    losses = [2.3] * 20 + [50.0] + [2.0] * 29
    assert _run(losses).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_the_verdict_does_not_depend_on_scale_or_sign(scale: float, shift: float) -> None:
    falling = [2.3 - 0.02 * k for k in range(60)]
    rising = [*falling, *[20.0] * 10]
    assert _run([scale * (x + shift) for x in falling]).outcome is Outcome.COMPLETED
    assert _run([scale * (x + shift) for x in rising]).outcome is Outcome.DIVERGED


def test_noise_alone_is_not_divergence() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert _run(list(rng.normal(2.3, 0.3, 100))).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_two_losses_in_a_row_that_are_not_finite_end_the_sweep(bad: float) -> None:
    record = _run([1.0] * 10 + [bad] * 10)
    assert record.outcome is Outcome.NON_FINITE
    assert len(record) == 12


def test_a_single_nan_is_survived_and_kept() -> None:
    record = _run([1.0] * 10 + [math.nan] + [1.0] * 10)
    assert record.outcome is Outcome.COMPLETED
    assert math.isnan(record.loss[10])


def test_nan_from_the_first_step_ends_after_two() -> None:
    record = _run([math.nan] * 10)
    assert record.outcome is Outcome.NON_FINITE
    assert len(record) == 2


def test_leaving_the_loop_early_is_an_interruption() -> None:
    test = RangeTest()
    for _ in test:
        test.tell(loss=1.0)
        if test.step == 7:
            break
    assert test.record.outcome is Outcome.INTERRUPTED
    assert len(test.record) == 7


def test_metrics_may_be_told_at_some_steps_only() -> None:
    test = RangeTest(LinearSweep(start_lr=0.0, end_lr=1.0, steps=6))
    for _ in test:
        test.tell(loss=1.0, accuracy=0.1 * test.step if test.step % 2 == 0 else None)
    series = test.record.metrics["accuracy"]
    assert series.steps == (0, 2, 4)
    assert series.values == pytest.approx((0.0, 0.2, 0.4))


def test_asking_twice_without_telling_is_an_error() -> None:
    test = RangeTest()
    test.ask()
    with pytest.raises(StateError, match=r"call test\.tell"):
        test.ask()


def test_telling_without_asking_is_an_error() -> None:
    with pytest.raises(StateError, match="iterate over the test first"):
        RangeTest().tell(loss=1.0)


@pytest.mark.parametrize("loss", ["low", None, [1.0, 2.0], np.zeros(3)])
def test_a_loss_that_is_not_one_number_is_an_error(loss) -> None:
    test = RangeTest()
    test.ask()
    with pytest.raises(InputError, match=r"^loss must be a single number"):
        test.tell(loss=loss)


def test_a_sweep_without_an_end_is_an_error() -> None:
    with pytest.raises(SpecError, match="a schedule with an end"):
        RangeTest(Constant(value=0.1))


def test_a_sweep_that_is_not_a_schedule_is_an_error() -> None:
    with pytest.raises(SpecError, match="sweep must be a cyclr schedule, got 100"):
        RangeTest(100)


def test_a_long_sweep_notices_a_divergence_within_a_thousandth_of_it() -> None:
    rng = np.random.default_rng(0)
    test = RangeTest(LinearSweep(start_lr=0.0, end_lr=1.0, steps=10_000))
    for k, _ in enumerate(test):
        test.tell(loss=2.0 + 0.01 * rng.standard_normal() + (50.0 if k >= 8000 else 0.0))
    assert test.record.outcome is Outcome.DIVERGED
    assert 8002 <= len(test.record) <= 8012


def test_a_loss_that_breaks_out_of_the_calm_again_is_not_sought_lower() -> None:
    test = RangeTest()
    for _ in range(2):
        for loss in (2.3, 2.4, 2.2, math.nan, math.nan):
            assert test.ask() is not None
            test.tell(loss)
        assert test.ask() is None
        again = test.restart()
    assert again is False
    assert test.record.notes == (
        "The loss became nan within 5 steps from a rate of 1e-07; the sweep began again from "
        "1e-13.",
    )


def test_numbers_of_other_libraries_can_be_saved(tmp_path) -> None:
    facts = {"name": "SGD", "momentum": np.float32(0.5), "weight_decay": np.float64(0.1)}
    record = _run([1.0, 2.0], optimizer=facts)
    record.save(tmp_path / "record.json")
    assert record.optimizer == {"name": "SGD", "momentum": 0.5, "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("per_epoch", "steps", "every"),
    [(None, 100, 5), (21, 100, 5), (20, 100, 1), (1, 100, 1), (20, 1000, 1), (21, 1000, 50)],
)
def test_validations_are_for_every_update_where_there_is_little_data(
    per_epoch: int | None, steps: int, every: int
) -> None:
    assert RangeTest(steps=steps, steps_per_epoch=per_epoch).validate_every == every
