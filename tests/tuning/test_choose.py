"""Winners and the next weight decay."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr.tuning.choose import (
    better_than,
    highest_rate,
    largest_batch,
    next_decay,
    relative_noise,
    scaling,
    tolerance,
    with_largest_rate,
)
from tuning.tasks import result_of


def test_the_largest_rate_wins_among_equal_losses() -> None:
    own = result_of(0.200, 0.1)
    fast, slow, worse = result_of(0.201, 0.4), result_of(0.1995, 0.05), result_of(0.25, 2.0)
    assert with_largest_rate(own, [own, fast, slow, worse], 0.01, None) is fast
    assert with_largest_rate(own, [own, fast, slow, worse], 0.001, None) is slow
    assert with_largest_rate(own, [own, fast, slow, worse], 0.5, None) is worse


def test_the_stable_rate_is_the_one_that_was_read_not_the_one_trained_at() -> None:
    own, other = result_of(0.2, 0.9), result_of(0.2, 0.9, read=0.4)
    assert with_largest_rate(own, [own, other], 0.01, 0.1) is other
    assert with_largest_rate(own, [own, other], 0.01, 0.3) is own
    assert with_largest_rate(own, [own, other], 0.01, None) is own
    lower = result_of(0.2, 0.9, read=0.02)
    assert with_largest_rate(lower, [lower, own], 0.01, 0.1) is own


def test_rates_that_a_test_cannot_tell_apart_leave_what_there_is() -> None:
    own, other = result_of(0.2, 0.100), result_of(0.199, 0.299)
    assert with_largest_rate(own, [own, other], 0.01, None) is own
    third = result_of(0.3, 0.1)
    assert with_largest_rate(third, [third, own, other], 0.01, None) is other
    beyond = result_of(0.199, 0.301)
    assert with_largest_rate(own, [own, beyond], 0.01, None) is beyond


def test_a_stage_in_which_nothing_ended_has_no_winner() -> None:
    lost = result_of(math.nan)
    assert with_largest_rate(lost, [lost], 0.01, None) is None
    assert largest_batch([lost], 0.01) is None
    assert better_than(lost, [lost], 0.01) is None


def test_the_largest_batch_wins_among_equal_losses() -> None:
    small, large = result_of(0.2, batch_size=32), result_of(0.2015, batch_size=256)
    assert largest_batch([small, large], 0.01) is large
    assert largest_batch([small, large], 0.001) is small


def test_the_highest_rate_wins_among_equal_losses() -> None:
    low, high, beyond = result_of(0.2, 0.1), result_of(0.2015, 0.3), result_of(0.25, 0.9)
    assert highest_rate([beyond, low, high], 0.01) is high
    assert highest_rate([beyond, low, high], 0.001) is low
    assert highest_rate([result_of(math.nan)], 0.01) is None


def test_what_there_is_stays_unless_something_is_clearly_better() -> None:
    present, near, clear = result_of(0.2), result_of(0.1985), result_of(0.19)
    assert better_than(present, [near], 0.01) is None
    assert better_than(present, [near, clear], 0.01) is clear
    assert better_than(result_of(math.nan), [near], 0.01) is near
    assert better_than(present, [], 0.01) is None


def test_losses_below_zero_are_compared_too() -> None:
    present, worse, better = result_of(-1.0), result_of(-0.9), result_of(-1.2)
    assert better_than(present, [worse], 0.01) is None
    assert better_than(present, [better], 0.01) is better


def test_the_noise_is_the_relative_difference_of_two_seeds() -> None:
    assert relative_noise(result_of(0.9), result_of(1.1)) == pytest.approx(0.2)
    assert relative_noise(result_of(0.9), result_of(math.nan)) is None
    assert [tolerance(noise) for noise in (None, 0.0, 0.02, 0.7)] == [0.01, 0.01, 0.02, 0.05]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({1e-2: 0.5, 1e-3: 0.2, 1e-4: 0.3}, 10**-3.5),  # between the best and its better neighbour
        ({1e-2: 0.3, 1e-3: 0.2, 1e-4: 0.5}, 10**-2.5),
        ({1e-2: 0.1, 1e-3: 0.2, 1e-4: 0.3}, 1e-1),  # a step outward from the top
        ({1e-2: 0.3, 1e-3: 0.2, 1e-4: 0.1}, 1e-5),  # … and from the bottom
        ({1e-3: 0.3, 1e-4: 0.2, 0.0: 0.1}, 10**-4.5),  # 0 stands a decade below the smallest
        ({1e-3: 0.3, 1e-4: 0.1, 0.0: 0.2}, 10**-4.5),
        ({1.0: 0.1, 0.1: 0.2}, 10**-0.5),  # nothing above 1
        ({1e-3: 0.2, 1e-4: math.inf}, 1e-2),
        ({1e-3: 0.2}, None),
        ({1e-3: math.inf, 1e-4: math.inf}, None),
        ({}, None),
    ],
)
def test_the_next_weight_decay(losses: dict[float, float], expected: float | None) -> None:
    assert next_decay(losses) == (None if expected is None else pytest.approx(expected))


def test_where_neighbours_are_as_good_there_is_nothing_to_look_for() -> None:
    assert next_decay({1e-2: 0.3, 1e-3: 0.2, 1e-4: 0.2005, 1e-5: 0.3}, 0.01) is not None
    assert next_decay({1e-3: 0.2015, 1e-4: 0.2, 1e-5: 0.2005}, 0.01) is None


grids = st.dictionaries(
    st.sampled_from([0.0, 1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 0.1, 1.0]), st.floats(0.01, 10), min_size=2
)


@given(grids)
def test_the_next_weight_decay_is_new_and_in_bounds(losses: dict[float, float]) -> None:
    value = next_decay(losses)
    assert value is None or (0 < value <= 1 and value not in losses)


@given(st.floats(-3, 1), st.integers(1, 12))
def test_bisection_comes_near_a_minimum_anywhere(best: float, rounds: int) -> None:
    losses = {10.0**e: (e - best) ** 2 for e in (-4, -3, -2)}
    for _ in range(rounds):
        value = next_decay(losses)
        if value is None:
            break
        losses[value] = (math.log10(value) - best) ** 2
    first = min((e - best) ** 2 for e in (-4, -3, -2))
    assert min(losses.values()) <= first
    if rounds >= 8:
        assert min(losses.values()) <= 0.3**2 or best > 0


@given(st.floats(-1, 2), st.floats(0.001, 1))
def test_the_power_of_the_batch_size_is_found(power: float, rate: float) -> None:
    results = [result_of(0.1, rate * (b / 64) ** power, batch_size=b) for b in (32, 64, 256)]
    assert scaling(results, 64) == pytest.approx(power, abs=1e-9)
    assert scaling(results[:1], 64) is None
