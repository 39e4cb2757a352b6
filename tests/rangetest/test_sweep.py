"""The range test as ask and tell."""

import math

import numpy as np
import pytest

from cyclr import Constant, ExponentialSweep, LinearSweep, Outcome, RangeTest
from cyclr.errors import InputError, SpecError, StateError


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


def test_the_default_sweep_runs_from_1e_7_to_10_in_100_steps() -> None:
    test = RangeTest()
    for _ in test:
        test.tell(loss=1.0)
    record = test.record
    assert len(record) == 100
    assert record.lr[0] == pytest.approx(1e-7)
    assert record.lr[-1] == pytest.approx(10.0)


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
