import numpy as np
import pytest

from cyclr.errors import SpecError
from cyclr.schedules import OneCycle

RUN = {"max_lr": 1.0, "base_lr": 0.1, "total_steps": 100}


@pytest.mark.parametrize(
    ("phases", "anneal", "curve"),
    [
        (
            "three",
            "linear",
            {0: 0.1, 9: 0.28, 44: 0.98, 45: 1.0, 46: 0.98, 54: 0.82, 89: 0.12, 90: 0.1}
            | {93: 0.0667, 96: 0.0334, 99: 0.0001, 100: 0.0001, 10**9: 0.0001},
        ),
        (
            "three",
            "cosine",
            {0: 0.1, 15: 0.325, 30: 0.775, 45: 1.0, 60: 0.775, 75: 0.325, 90: 0.1}
            | {93: 0.075025, 96: 0.025075, 99: 0.0001, 100: 0.0001, 10**9: 0.0001},
        ),
        (
            "two",
            "linear",
            {0: 0.1, 15: 0.55, 29: 0.97, 30: 1.0, 53: 0.6667, 76: 0.3334}
            | {99: 0.0001, 100: 0.0001, 10**9: 0.0001},
        ),
        (
            "two",
            "cosine",
            {0: 0.1, 10: 0.325, 20: 0.775, 30: 1.0, 53: 0.750025, 76: 0.250075}
            | {99: 0.0001, 100: 0.0001, 10**9: 0.0001},
        ),
        (
            "logs",
            "linear",
            {0: 0.1, 9: 0.28, 45: 1.0, 54: 0.8, 89: 1 / 45, 90: 0.0001, 95: 0.0001}
            | {99: 0.0001, 100: 0.0001, 10**9: 0.0001},
        ),
        (
            "logs",
            "cosine",
            {0: 0.1, 15: 0.325, 45: 1.0, 60: 0.75, 75: 0.25, 90: 0.0001, 99: 0.0001}
            | {100: 0.0001, 10**9: 0.0001},
        ),
    ],
)
def test_each_form_passes_through_its_joints(phases, anneal, curve):
    schedule = OneCycle(**RUN, phases=phases, anneal=anneal)
    assert [schedule(step) for step in curve] == pytest.approx([*curve.values()], rel=1e-12)
    steps = np.array([*curve])
    assert schedule(steps).tolist() == pytest.approx([*curve.values()], rel=1e-12)


def test_defaults_are_a_tenth_a_thousandth_of_that_and_45_or_30_percent():
    three = OneCycle(max_lr=3.0, total_steps=200)
    assert (three.base, three.final, three.up_steps) == (0.3, 0.3 / 1000, 90)
    assert three.replace(phases="two").up_steps == 60
    assert three.replace(phases="logs").up_steps == 90
    assert [three(step) for step in (0, 90, 180, 199)] == pytest.approx([0.3, 3.0, 0.3, 0.0003])


def test_given_values_replace_the_defaults():
    schedule = OneCycle(
        max_lr=1.0, base_lr=0.5, total_steps=20, stepsize=6, final_lr=0.0, phases="three"
    )
    assert [schedule(step) for step in (0, 6, 12, 19, 20)] == [0.5, 1.0, 0.5, 0.0, 0.0]
    assert schedule(15) == pytest.approx(0.5 * 4 / 7)


@pytest.mark.parametrize(
    ("total", "curve"),
    [
        (3, [0.1, 1.0, 0.0001, 0.0001]),
        (4, [0.1, 1.0, 0.1, 0.0001, 0.0001]),
        (5, [0.1, 0.55, 1.0, 0.55, 0.0001, 0.0001]),
        (6, [0.1, 0.55, 1.0, 0.55, 0.1, 0.0001, 0.0001]),
    ],
)
def test_the_shortest_runs_keep_a_step_to_end_on(total, curve):
    schedule = OneCycle(max_lr=1.0, base_lr=0.1, total_steps=total)
    assert [schedule(step) for step in range(total + 1)] == pytest.approx(curve, rel=1e-12)


@pytest.mark.parametrize("phases", ["three", "two", "logs"])
@pytest.mark.parametrize("total", [*range(3, 13), 99, 100, 101])
def test_with_the_default_stepsize_a_run_of_any_length_peaks_and_ends_at_final_lr(total, phases):
    schedule = OneCycle(max_lr=1.0, base_lr=0.1, total_steps=total, phases=phases)
    assert schedule(0) == 0.1
    assert schedule(schedule.up_steps) == 1.0
    assert schedule(total - 1) == 0.0001


def test_without_a_tail_three_phases_end_at_base_lr():
    schedule = OneCycle(**RUN, stepsize=50)
    assert [schedule(step) for step in (0, 50, 99)] == pytest.approx([0.1, 1.0, 0.118])
    assert [schedule(step) for step in (100, 101, 10**9)] == [0.1] * 3


@pytest.mark.parametrize("anneal", ["linear", "cosine"])
def test_without_a_tail_the_logs_form_does_not_climb_back_after_its_end(anneal):
    schedule = OneCycle(
        max_lr=1.0, base_lr=0.5, total_steps=100, stepsize=50, anneal=anneal, phases="logs"
    )
    assert schedule(99) == pytest.approx(0.02 if anneal == "linear" else 0.000986635785864)
    assert schedule(100) <= schedule(99)
    assert schedule(10**9) == schedule(100)


@pytest.mark.parametrize("phases", ["three", "logs"])
def test_a_tail_of_one_step_is_at_final_lr(phases):
    run = RUN | {"total_steps": 5, "stepsize": 2, "final_lr": 0.01}
    schedule = OneCycle(**run, phases=phases)
    down = 0.55 if phases == "three" else 0.5
    assert [schedule(step) for step in range(6)] == pytest.approx([0.1, 0.55, 1, down, 0.01, 0.01])


def test_a_long_run_meets_its_joints_exactly():
    half = 2 * 10**9 + 1
    schedule = OneCycle(max_lr=1.0, base_lr=0.1, total_steps=2 * half + 11, stepsize=half)
    joints = [0, half, 2 * half, 2 * half + 5, 2 * half + 10]
    assert [schedule(step) for step in joints] == pytest.approx([0.1, 1, 0.1, 0.05005, 0.0001])
    assert schedule(np.array(joints)).tolist() == [schedule(step) for step in joints]
    assert schedule(half) == 1.0
    assert schedule(2 * half + 10) == 0.0001


@pytest.mark.parametrize(
    ("phases", "stepsize", "ends"),
    [
        ("three", 45, (90, 100)),
        ("logs", 40, (80, 100)),
        ("two", 30, (100,)),
        ("three", 50, (100,)),
    ],
)
def test_the_cycle_ends_after_both_legs_and_the_run_after_its_tail(phases, stepsize, ends):
    schedule = OneCycle(**RUN, phases=phases, stepsize=stepsize)
    assert schedule.total_steps == 100
    assert schedule.cycle_ends() == ends
    assert schedule.cycle_ends(99) == tuple(end for end in ends if end < 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_lr": 2.0}, "OneCycle.base_lr must be ≤ max_lr (1), got 2.0"),
        ({"final_lr": 0.2}, "OneCycle.final_lr must be ≤ base_lr (0.1), got 0.2"),
        ({"stepsize": 51}, "OneCycle.stepsize must be ≤ total_steps / 2 (50), got 51"),
        (
            {"stepsize": 51, "phases": "logs"},
            "OneCycle.stepsize must be ≤ total_steps / 2 (50), got 51",
        ),
        (
            {"stepsize": 99, "phases": "two"},
            "OneCycle.stepsize must be ≤ total_steps − 2 (98), got 99",
        ),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(settings, message):
    with pytest.raises(SpecError) as caught:
        OneCycle(**RUN | settings)
    assert str(caught.value).startswith(message + "; ")


def test_the_longest_legs_that_fit_are_accepted():
    two = OneCycle(**RUN, stepsize=98, phases="two")
    assert [two(98), two(99)] == [1.0, 0.0001]
    three = OneCycle(**RUN, stepsize=49)
    assert [three(step) for step in (49, 98, 99)] == [1.0, 0.1, 0.0001]
