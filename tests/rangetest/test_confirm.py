"""What two trials say about a reading: pure arithmetic on their losses."""

import math

import pytest

from cyclr.errors import InputError
from cyclr.rangetest import Outcome, Reading
from cyclr.rangetest.confirm import candidates, lead, settle, trial_steps
from cyclr.rangetest.reading import Trial

READING = Reading(base_lr=0.02, max_lr=0.1, rule="basin", outcome=Outcome.DIVERGED)
FALLING = tuple(2.0 - 0.02 * k for k in range(40))


def _trials(own, challenger) -> tuple[Trial, Trial]:
    return Trial(0.1, tuple(own)), Trial(0.4, tuple(challenger))


def test_the_challenger_has_four_times_the_rate() -> None:
    assert candidates(READING) == (0.1, 0.4)


def test_a_clearly_better_challenger_raises_both_bounds() -> None:
    jitter = [x - 0.3 + 0.01 * (-1) ** k for k, x in enumerate(FALLING)]
    settled = settle(READING, _trials(FALLING, jitter))
    assert settled.max_lr == pytest.approx(0.4 / 2)
    assert settled.base_lr / settled.max_lr == pytest.approx(0.02 / 0.1)
    assert settled.rule == "basin confirmed"
    assert settled.trials == _trials(FALLING, jitter)
    assert settled.caveats == ()


@pytest.mark.parametrize(
    "challenger",
    [
        [x + 0.1 for x in FALLING],  # worse
        FALLING,  # the same
        [x + 0.5 * (-1) ** k - 0.05 for k, x in enumerate(FALLING)],  # lower, but within the noise
        [*FALLING[:9], math.nan],  # diverged
        [x - 1.0 for x in FALLING[:30]] + list(FALLING[30:]),  # ahead, but not at the end
    ],
)
def test_otherwise_the_reading_stands(challenger) -> None:
    settled = settle(READING, _trials(FALLING, challenger))
    assert (settled.base_lr, settled.max_lr) == (0.02, 0.1)


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_a_rate_that_diverges_itself_is_divided_by_four_with_a_caveat(end: float) -> None:
    settled = settle(READING, _trials([*FALLING[:9], end], [math.nan]))
    assert settled.max_lr == pytest.approx(0.025)
    assert any("diverged" in caveat for caveat in settled.caveats)


def test_lead_is_in_standard_errors_of_the_differences() -> None:
    # The last ten of forty: differences .2, .4, .2, .4, … have the mean .3.
    other = [x - (0.2 if k % 2 else 0.4) for k, x in enumerate(FALLING)]
    own, challenger = _trials(FALLING, other)
    deviation = 0.1 * math.sqrt(10 / 9)
    assert lead(own, challenger) == pytest.approx(0.3 / (deviation / math.sqrt(10)))
    assert lead(own, own) == 0.0
    assert lead(own, Trial(0.4, tuple(x - 1 for x in FALLING))) > 1e6


def test_trials_share_what_the_sweep_has_left_of_a_fifth() -> None:
    assert trial_steps(0, 1000) == 100
    assert trial_steps(0, 1000, share=0.1) == 50


def test_a_budget_too_small_for_trials_says_which_would_do() -> None:
    with pytest.raises(InputError, match=r"total_steps must be ≥ 100 .* got 99"):
        trial_steps(0, 99)
    assert trial_steps(0, 100) == 10
