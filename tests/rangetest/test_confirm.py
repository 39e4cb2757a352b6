"""What three trials say about a reading: pure arithmetic on their losses."""

import dataclasses
import math

import pytest

from cyclr.errors import InputError
from cyclr.rangetest import Outcome, RangeRecord, Reading, combine
from cyclr.rangetest.confirm import lead, next_rate, settle, trial_steps
from cyclr.rangetest.reading import Trial
from cyclr.rangetest.rules.basin import CHANCE
from cyclr.schedules import ExponentialSweep

READING = Reading(base_lr=0.02, max_lr=0.1, rule="basin", outcome=Outcome.DIVERGED)
FALLING = tuple(2.0 - 0.02 * k for k in range(40))
WORSE = tuple(x + 0.1 for x in FALLING)
BETTER = tuple(x - 0.3 + 0.01 * (-1) ** k for k, x in enumerate(FALLING))
BIT_BETTER = tuple(x - 0.1 + 0.01 * (-1) ** k for k, x in enumerate(FALLING))


def _trials(third=WORSE, own=FALLING, higher=WORSE, rate: float = 0.05) -> tuple[Trial, ...]:
    return Trial(0.1, tuple(own)), Trial(0.8, tuple(higher)), Trial(rate, tuple(third))


def test_eight_times_the_rate_is_tried_beside_it_and_then_further_in_the_better_direction() -> None:
    own, worse, better = Trial(0.1, FALLING), Trial(0.8, WORSE), Trial(0.8, tuple(BETTER))
    assert next_rate(READING, []) == 0.1
    assert next_rate(READING, [own]) == pytest.approx(0.8)
    assert next_rate(READING, [own, worse]) == pytest.approx(0.05)
    assert next_rate(READING, [own, better]) == pytest.approx(6.4)
    assert next_rate(READING, [own, Trial(0.8, (math.nan,))]) == pytest.approx(0.05)
    assert next_rate(READING, [own, better, own]) is None
    assert next_rate(READING, [Trial(0.1, (math.nan,))]) is None


@pytest.mark.parametrize(
    ("won", "max_lr"),
    [
        ({"third": BETTER}, math.sqrt(0.05 * 0.1)),
        ({"higher": BIT_BETTER}, math.sqrt(0.1 * 0.8)),
        ({"higher": BIT_BETTER, "third": [x - 0.01 for x in BIT_BETTER], "rate": 6.4}, 0.8),
        ({"higher": BIT_BETTER, "third": WORSE, "rate": 6.4}, math.sqrt(0.1 * 0.8)),
    ],
)
def test_bounds_go_half_of_the_way_to_the_rate_that_won(won, max_lr: float) -> None:
    settled = settle(READING, _trials(**won))
    assert settled.max_lr == pytest.approx(max_lr)
    assert settled.base_lr / settled.max_lr == pytest.approx(0.02 / 0.1)
    assert settled.rule == "basin confirmed"
    assert settled.trials == _trials(**won)
    assert settled.caveats == ()


@pytest.mark.parametrize(
    ("won", "max_lr"),
    [
        ({"higher": BETTER}, 0.8),
        ({"higher": BETTER, "third": [x - 0.1 for x in BETTER], "rate": 6.4}, 6.4),
        ({"higher": BETTER, "third": WORSE, "rate": 6.4}, 0.8),
        ({"third": BETTER}, math.sqrt(0.05 * 0.1)),  # never down
        # The first falls by .67, between the means of three and of ten losses, and a fifth is .134.
        ({"higher": [x - 0.133 for x in FALLING]}, math.sqrt(0.1 * 0.8)),
        ({"higher": [x - 0.135 for x in FALLING]}, 0.8),
        (
            {"own": [2.0] * 40, "higher": [1.99] * 40, "third": [3.0] * 40},
            0.8,
        ),  # it did not fall at all
    ],
)
def test_they_go_all_the_way_up_to_a_trial_that_fell_further_by_a_fifth(won, max_lr) -> None:
    assert settle(READING, _trials(**won)).max_lr == pytest.approx(max_lr)


NOISY = tuple(x + 0.5 * (-1) ** k - 0.05 for k, x in enumerate(FALLING))


@pytest.mark.parametrize(
    "others",
    [
        {},  # both worse
        {"third": FALLING, "higher": FALLING},  # the same
        {"third": NOISY},  # lower, but within the noise
        {"higher": NOISY},
        {"third": [*FALLING[:9], math.nan], "higher": [*FALLING[:9], math.inf]},  # diverged
        # ahead, but not at the end
        {"third": [x - 1.0 for x in FALLING[:30]] + [x + 0.1 for x in FALLING[30:]]},
        {"higher": [x - 1.0 for x in FALLING[:30]] + list(FALLING[30:])},
    ],
)
def test_otherwise_the_reading_stands(others) -> None:
    settled = settle(READING, _trials(**others))
    assert (settled.base_lr, settled.max_lr) == (0.02, 0.1)


@pytest.mark.parametrize(("fall", "max_lr"), [(1.0, math.sqrt(0.05 * 0.1)), (0.0, 0.1)])
def test_a_lower_rate_only_wins_where_the_sweep_has_fallen(fall: float, max_lr: float) -> None:
    loss = [2.0 - fall * (30 <= k < 80) + 0.05 * (-1) ** k for k in range(100)]
    sweep = ExponentialSweep(start_lr=1e-6, end_lr=10.0, steps=100)
    lr = tuple(sweep(k) for k in range(100))
    record = RangeRecord(sweep=sweep, lr=lr, loss=tuple(loss), outcome=Outcome.COMPLETED)
    reading = dataclasses.replace(READING, record=record)
    assert settle(reading, _trials(third=BETTER)).max_lr == pytest.approx(max_lr)


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_a_rate_that_diverges_itself_is_divided_by_four_with_a_caveat(end: float) -> None:
    settled = settle(READING, [Trial(0.1, (*FALLING[:9], end))])
    assert settled.max_lr == pytest.approx(0.025)
    assert settled.base_lr == pytest.approx(0.005)
    assert any("diverged" in caveat for caveat in settled.caveats)


def test_a_trial_that_explodes_to_finite_numbers_has_diverged_too() -> None:
    exploding = [*FALLING[:20], *(1e3 * 2.0**k for k in range(20))]
    settled = settle(READING, [Trial(0.1, tuple(exploding))])
    assert settled.max_lr == pytest.approx(0.025)
    assert next_rate(READING, [Trial(0.1, tuple(exploding))]) is None
    unmoved = settle(READING, _trials(higher=exploding, third=WORSE))
    assert unmoved.max_lr == 0.1


def test_of_several_sweeps_those_that_can_be_read_say_whether_the_loss_fell() -> None:
    sweep = ExponentialSweep(start_lr=1e-6, end_lr=10.0, steps=100)
    falls = [2.0 - 1.0 * (30 <= k < 80) + 0.05 * (-1) ** k for k in range(100)]
    lr = tuple(sweep(k) for k in range(100))
    good = RangeRecord(sweep=sweep, lr=lr, loss=tuple(falls), outcome=Outcome.COMPLETED)
    broken = dataclasses.replace(
        good, lr=lr[:5], loss=(2.0, 2.0, *[math.nan] * 3), outcome=Outcome.NON_FINITE
    )
    reading = dataclasses.replace(READING, record=combine([broken, good, good]))
    assert settle(reading, _trials(third=BETTER)).max_lr == pytest.approx(math.sqrt(0.05 * 0.1))


def test_a_best_trial_that_rose_is_remarked_on() -> None:
    rising = [1.0, *[1.6 - 0.002 * k for k in range(39)]]  # it jumped at once
    worse = [x + 1 for x in rising]
    settled = settle(READING, _trials(worse, rising, worse))
    assert settled.max_lr == 0.1
    assert "at 0.1, ended higher than it began" in settled.caveats[0]


def test_the_caveat_that_asks_for_trials_goes_with_them() -> None:
    asking = f"The sweep alone gives 0.02; it is higher, {CHANCE}. Sweep with repeats."
    reading = dataclasses.replace(READING, caveats=(asking, "The record is short."))
    assert settle(reading, _trials()).caveats == ("The record is short.",)


def test_lead_is_in_standard_errors_of_the_differences() -> None:
    # The last ten of forty: differences .2, .4, .2, .4, … have the mean .3.
    other = [x - (0.2 if k % 2 else 0.4) for k, x in enumerate(FALLING)]
    own, higher, _ = _trials(higher=other)
    deviation = 0.1 * math.sqrt(10 / 9)
    assert lead(own, higher) == pytest.approx(0.3 / (deviation / math.sqrt(10)))
    assert lead(own, own) == 0.0
    assert lead(own, Trial(0.4, tuple(x - 1 for x in FALLING))) > 1e6


def test_trials_share_what_the_sweep_has_left_of_a_fifth() -> None:
    assert trial_steps(0, 1000) == 66
    assert trial_steps(0, 1000, share=0.1) == 33
    assert trial_steps(98, 1000) == 34


def test_a_budget_too_small_for_trials_says_which_would_do() -> None:
    with pytest.raises(InputError, match=r"total_steps must be ≥ 150 .* got 149"):
        trial_steps(0, 149)
    assert trial_steps(0, 150) == 10
