import math

import numpy as np
import pytest

from cyclr.errors import SpecError
from cyclr.schedules import WarmRestarts

DOUBLING = WarmRestarts(max_lr=0.1, period=10, multiplier=2)


def half_cosine(top, bottom, share):
    return bottom + 0.5 * (top - bottom) * (1 + math.cos(math.pi * share))


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.1),
        (1, 0.09755282581475769),
        (5, 0.05),
        (9, 0.002447174185242318),
        (10, 0.1),
        (20, 0.05),
        (29, 0.0006155829702431115),
        (30, 0.1),
        (50, 0.05),
        (69, 0.00015413331334360182),
        (70, 0.1),
        (110, 0.05),
        (150, 0.1),
    ],
)
def test_sgdr_with_t0_10_and_tmult_2_restarts_at_10_30_70_150(step, rate):
    assert DOUBLING(step) == pytest.approx(rate, rel=1e-12)


def test_sgdr_cycle_ends_are_the_papers_snapshots():
    assert DOUBLING.cycle_ends(200) == (10, 30, 70, 150)
    assert DOUBLING.cycle_ends(150) == (10, 30, 70, 150)
    assert DOUBLING.cycle_ends(149) == (10, 30, 70)


def test_equal_periods_repeat_for_ever():
    schedule = WarmRestarts(max_lr=1.0, min_lr=0.5, period=4)
    period = [1.0, 0.926776695297, 0.75, 0.573223304703]
    assert [schedule(step) for step in range(12)] == pytest.approx(period * 3, rel=1e-9)
    assert [schedule(4 * 10**15 + step) for step in range(4)] == [schedule(k) for k in range(4)]
    assert schedule.cycle_ends(13) == (4, 8, 12)


def test_a_period_of_one_step_stays_at_the_peak():
    schedule = WarmRestarts(max_lr=0.3, min_lr=0.1, period=1)
    assert [schedule(step) for step in range(3)] == pytest.approx([0.3] * 3, rel=1e-15)


# 10, 15, round(22.5) = 22, round(33.75) = 34, round(50.625) = 51
@pytest.mark.parametrize(("start", "length"), [(0, 10), (10, 15), (25, 22), (47, 34), (81, 51)])
def test_a_multiplier_of_one_and_a_half_rounds_each_period_to_whole_steps(start, length):
    schedule = WarmRestarts(max_lr=1.0, min_lr=0.2, period=10, multiplier=1.5)
    assert schedule(start) == pytest.approx(1.0, rel=1e-15)
    assert schedule(start + 1) == pytest.approx(half_cosine(1.0, 0.2, 1 / length), rel=1e-12)
    last = half_cosine(1.0, 0.2, (length - 1) / length)
    assert schedule(start + length - 1) == pytest.approx(last, rel=1e-12)


def test_a_multiplier_of_one_and_a_half_has_whole_cycle_ends():
    schedule = WarmRestarts(max_lr=1.0, period=10, multiplier=1.5, cycles=5)
    assert schedule.cycle_ends() == (10, 25, 47, 81, 132)
    assert schedule.total_steps == 132


# A logarithm of these steps comes out a bit below the whole number and misses the restart.
@pytest.mark.parametrize("restart", range(1, 37))
def test_tripled_periods_restart_exactly_at_any_step(restart):
    schedule = WarmRestarts(max_lr=0.1, period=10, multiplier=3)
    step = 5 * (3**restart - 1)
    before, peak, after = schedule(step - 1), schedule(step), schedule(step + 1)
    assert peak == pytest.approx(0.1, rel=1e-15)
    assert before < 0.003
    assert after == pytest.approx(half_cosine(0.1, 0.0, 0.1 / 3**restart), rel=1e-12)
    assert schedule(np.array([step - 1, step, step + 1])).tolist() == pytest.approx(
        [before, peak, after], rel=1e-12
    )


def test_step_1210_of_t0_10_and_tmult_3_is_a_peak():
    schedule = WarmRestarts(max_lr=0.1, min_lr=0.01, period=10, multiplier=3)
    assert schedule(1210) == pytest.approx(0.1, rel=1e-15)
    assert schedule(1209) == pytest.approx(half_cosine(0.1, 0.01, 809 / 810), rel=1e-12)
    assert schedule(1210 + 1215) == pytest.approx(0.055, rel=1e-12)


def test_peaks_decline_by_the_power_of_the_restart():
    schedule = WarmRestarts(max_lr=1.1, min_lr=0.1, period=10, multiplier=2, peak_decay=0.5)
    assert [schedule(step) for step in (0, 10, 30, 70)] == pytest.approx([1.1, 0.6, 0.35, 0.225])
    assert [schedule(step) for step in (5, 20, 50)] == pytest.approx([0.6, 0.35, 0.225])


@pytest.mark.parametrize(
    ("multiplier", "total"), [(1, 30), (2, 70), (1.5, 47), (3, 130), (2.5, 10 + 25 + 62)]
)
def test_the_rate_stays_at_min_lr_after_the_last_period(multiplier, total):
    schedule = WarmRestarts(max_lr=1.0, min_lr=0.25, period=10, multiplier=multiplier, cycles=3)
    assert schedule.total_steps == total
    assert 0.25 < schedule(total - 1) < 0.27
    assert [schedule(total + extra) for extra in (0, 1, 10, 10**12)] == [0.25] * 4
    assert schedule(total + np.array([-1, 0, 10**12])).tolist() == [
        schedule(total - 1),
        0.25,
        0.25,
    ]
    assert schedule.cycle_ends()[-1] == total
    assert schedule.cycle_ends(total * 5) == schedule.cycle_ends()


def test_many_periods_of_a_large_multiplier_still_answer_arrays():
    schedule = WarmRestarts(max_lr=1.0, period=1000, multiplier=1000)
    steps = [0, 500, 1000, 1_001_000]
    assert [schedule(step) for step in steps] == pytest.approx([1.0, 0.5, 1.0, 1.0])
    assert schedule(np.array(steps)).tolist() == pytest.approx([1.0, 0.5, 1.0, 1.0])


def test_the_length_of_many_growing_periods_is_exact():
    assert WarmRestarts(max_lr=1.0, period=10, multiplier=2, cycles=59).total_steps == 10 * (
        2**59 - 1
    )


def test_more_periods_than_any_counter_reaches_are_refused():
    with pytest.raises(SpecError) as caught:
        WarmRestarts(max_lr=0.1, period=10, multiplier=2, cycles=100)
    assert str(caught.value) == (
        "WarmRestarts.cycles must be ≤ 60, to end within 2**63 steps, got 100; "
        "use None for a schedule that goes on for ever"
    )


@pytest.mark.parametrize("multiplier", [1.0, 1.0001, 1.1, 1.5, 2, math.e, 3])
@pytest.mark.parametrize("least", [10**9, 10**12, 2**53 + 10**6])
def test_restarts_are_exact_far_beyond_a_billion_steps(multiplier, least):
    """As the definition says: periods are rounded to whole steps and summed as whole numbers."""
    schedule = WarmRestarts(max_lr=1.0, min_lr=0.1, period=1000, multiplier=multiplier)
    if multiplier == 1:
        restart = -(-least // 1000) * 1000
    else:
        restart, i = 0, 0
        while restart < least:
            restart += (
                round(1000 * multiplier**i) if multiplier % 1 else 1000 * int(multiplier) ** i
            )
            i += 1
    assert schedule(restart) == 1.0
    assert schedule(restart - 1) < 0.10001
    assert schedule(np.array([restart - 1, restart, restart + 1])).tolist() == pytest.approx(
        [schedule(restart - 1), 1.0, schedule(restart + 1)], rel=1e-15
    )
    ends = schedule.cycle_ends(restart) if least == 10**9 and multiplier > 1 else (restart,)
    assert ends[-1] == restart


def test_min_lr_above_max_lr_is_refused():
    with pytest.raises(SpecError) as caught:
        WarmRestarts(max_lr=0.1, min_lr=0.2, period=10)
    assert str(caught.value) == (
        "WarmRestarts.min_lr must be ≤ max_lr (0.1), got 0.2; swap the two"
    )


@pytest.mark.parametrize("multiplier", [1.00001, 1.00009])
def test_a_multiplier_too_near_to_one_is_refused(multiplier):
    with pytest.raises(SpecError, match=rf"^WarmRestarts\.multiplier .* got {multiplier};"):
        WarmRestarts(max_lr=0.1, period=10, multiplier=multiplier)


def test_the_least_multiplier_above_one_is_accepted():
    schedule = WarmRestarts(max_lr=0.1, period=10_000, multiplier=1.0001, cycles=3)
    assert schedule.cycle_ends() == (10_000, 20_001, 30_003)
