"""Rate and momentum together, in figures."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr.tuning import Outcome, TrialResult
from cyclr.tuning.reach import at_peak, in_sweep, scaled, share, stable_rate, with_momentum
from tuning.tasks import facts, result_of, trial_of

CYCLE = (0.85, 0.95)
ADAM = facts(optimizer="AdamW", averages=True)


def test_a_rate_is_changed_by_a_factor_without_a_range_test() -> None:
    change = scaled(result_of(0.2, 0.3, bounds=(0.03, 0.3), reference=0.3), 3)
    assert change == {"bounds": pytest.approx((0.09, 0.9)), "reference": None}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (CYCLE, 0.9, 0.2),  # .3 * .1 / .15
        (CYCLE, 0.95, 0.1),
        (CYCLE, 0.97, 0.06),
        (CYCLE, 0.99, 0.02),
        (0.9, CYCLE, 0.45),
        (None, 0.95, 0.15),  # the optimizer's own is .9
        (0.97, None, 1.0),
        (0.95, 0.95, 0.3),
    ],
)
def test_a_momentum_of_sgd_keeps_the_rate_over_one_minus_it(
    before: Any, after: Any, expected: float
) -> None:
    change = with_momentum(result_of(0.2, 0.3, momentum=before), after, facts())
    assert change["momentum"] == after
    assert change["bounds"] == pytest.approx((expected / 10, expected))
    assert change["reference"] is None


@pytest.mark.parametrize("value", [0.99, 0.9, CYCLE])
def test_a_beta1_of_adam_keeps_the_rate(value: Any) -> None:
    change = with_momentum(result_of(0.2, 3e-3, momentum=0.95), value, ADAM)
    assert change["momentum"] == value
    assert change["bounds"] == pytest.approx((3e-4, 3e-3))
    assert share(0.99, ADAM) == 1


def test_settings_without_a_rate_leave_it_to_the_trial() -> None:
    unread = TrialResult(trial=trial_of(), outcome=Outcome.UNREADABLE)
    assert with_momentum(unread, 0.9, facts()) == {"momentum": 0.9}


@pytest.mark.parametrize(
    ("own", "then", "now", "expected"),
    [
        (0.9, CYCLE, CYCLE, 0.1),
        (0.9, CYCLE, 0.9, 0.1),  # a cyclical training's range test ran at the own .9
        (0.9, CYCLE, 0.97, 0.03),
        (0.0, CYCLE, 0.95, 0.05),  # … or at the middle of the cycle, .9, where there is none
        (0.9, 0.95, CYCLE, 0.2),
        (0.9, None, 0.99, 0.01),
    ],
)
def test_the_rate_that_a_range_test_would_read(
    own: float, then: Any, now: Any, expected: float
) -> None:
    swept, present = result_of(0.2, 0.1, read=0.1, momentum=then), result_of(0.2, momentum=now)
    assert stable_rate(swept, present, facts(momentum=own)) == pytest.approx(expected)
    adam = facts(momentum=own, averages=True)
    assert stable_rate(swept, present, adam) == pytest.approx(0.1)


def test_where_nothing_was_read_there_is_no_stable_rate() -> None:
    assert stable_rate(None, result_of(0.2), facts()) is None
    assert stable_rate(result_of(0.2), result_of(0.2), facts()) is None


def test_the_momenta_that_count() -> None:
    assert [at_peak(m, facts()) for m in (CYCLE, 0.97, None)] == [0.85, 0.97, 0.9]
    assert [in_sweep(m, facts()) for m in (CYCLE, 0.97, None)] == [0.9, 0.97, 0.9]
    assert in_sweep(CYCLE, facts(momentum=0.5)) == pytest.approx(0.9)
    assert share(None, facts(momentum=None)) == 1


@given(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(1e-5, 10))
def test_there_and_back_is_the_same_rate(one: float, two: float, rate: float) -> None:
    there = with_momentum(result_of(0.2, rate, momentum=one), two, facts())["bounds"]
    back = with_momentum(result_of(0.2, there[1], momentum=two), one, facts())["bounds"]
    assert there[1] / (1 - two) == pytest.approx(rate / (1 - one))
    assert back[1] == pytest.approx(rate)
