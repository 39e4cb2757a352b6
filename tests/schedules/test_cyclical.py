import numpy as np
import pytest

from cyclr.errors import SpecError
from cyclr.schedules import Chain, Cyclical, ExpRange, Triangular, Triangular2

CIFAR = {"base_lr": 0.001, "max_lr": 0.006, "stepsize": 2000}
UNIT = {"base_lr": 0.0, "max_lr": 1.0, "stepsize": 4}


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.001),
        (1, 0.0010025),
        (1000, 0.0035),
        (1999, 0.0059975),
        (2000, 0.006),
        (2001, 0.0059975),
        (3999, 0.0010025),
        (4000, 0.001),
        (4001, 0.0010025),
        (6000, 0.006),
        (20_000, 0.001),
        (22_000, 0.006),
    ],
)
def test_triangular_follows_the_paper_at_every_corner(step, rate):
    assert Triangular(**CIFAR)(step) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("start", [4000 * 250_001, 4000 * 10**12])
def test_triangular_corners_are_exact_far_beyond_a_billion_steps(start):
    schedule = Triangular(**CIFAR)
    offsets = [0, 1, 2000, 3999]
    expected = [schedule(step) for step in offsets]
    assert expected == pytest.approx([0.001, 0.0010025, 0.006, 0.0010025], rel=1e-12)
    assert [schedule(start + step) for step in offsets] == expected
    assert schedule(start + np.array(offsets)).tolist() == expected


def test_triangular_of_stepsize_one_alternates_between_its_bounds():
    schedule = Triangular(base_lr=0.25, max_lr=1.0, stepsize=1)
    assert [schedule(step) for step in range(4)] == [0.25, 1.0, 0.25, 1.0]


def test_triangular_with_equal_bounds_is_constant():
    schedule = Triangular(base_lr=0.3, max_lr=0.3, stepsize=5)
    assert {schedule(step) for step in range(20)} == {0.3}


def test_triangular_stays_at_base_after_its_last_cycle():
    schedule = Triangular(**CIFAR, cycles=2)
    assert schedule.total_steps == 8000
    assert schedule(7999) == pytest.approx(0.0010025, rel=1e-12)
    assert [schedule(step) for step in (8000, 8001, 10_000, 10**12)] == [0.001] * 4


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.001),
        (2000, 0.006),
        (3999, 0.0010025),
        (4000, 0.001),
        (4001, 0.00100125),
        (6000, 0.0035),
        (8000, 0.001),
        (10_000, 0.00225),
        (14_000, 0.001625),
        (16_000, 0.001),
    ],
)
def test_triangular2_halves_the_amplitude_after_every_cycle(step, rate):
    assert Triangular2(**CIFAR)(step) == pytest.approx(rate, rel=1e-12)


def test_triangular2_has_vanished_after_ten_thousand_cycles():
    schedule = Triangular2(**UNIT)
    assert schedule(8 * 10_000 + 4) < 1e-300
    assert schedule(np.array([8 * 10_000 + 4]))[0] < 1e-300


TABLE_2 = Chain(
    schedules=(
        Triangular2(base_lr=0.001, max_lr=0.005, stepsize=2000, cycles=4),
        Triangular2(base_lr=0.0001, max_lr=0.0005, stepsize=1000, cycles=3),
        Triangular2(base_lr=0.00001, max_lr=0.00005, stepsize=500, cycles=3),
    )
)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.001),
        (2000, 0.005),
        (4000, 0.001),
        (6000, 0.003),
        (10_000, 0.002),
        (14_000, 0.0015),
        (15_999, 0.00100025),
        (16_000, 0.0001),
        (17_000, 0.0005),
        (19_000, 0.0003),
        (21_000, 0.0002),
        (21_999, 0.0001001),
        (22_000, 0.00001),
        (22_500, 0.00005),
        (23_500, 0.00003),
        (24_500, 0.00002),
        (24_999, 0.00001002),
        (25_000, 0.00001),
        (70_000, 0.00001),
    ],
)
def test_the_papers_table_2_has_its_three_levels(step, rate):
    assert TABLE_2(step) == pytest.approx(rate, rel=1e-12)


def test_the_papers_table_2_begins_its_levels_at_16k_and_22k_and_ends_at_25k():
    assert TABLE_2.starts == (16_000, 22_000)
    assert TABLE_2.total_steps == 25_000
    assert TABLE_2.cycle_ends() == (
        *(4000, 8000, 12_000, 16_000),
        *(18_000, 20_000, 22_000),
        *(23_000, 24_000, 25_000),
    )


# gamma .99994 is the paper's; .99994**2000 = .886917243681610740694781478682
@pytest.mark.parametrize(
    ("step", "amplitude", "bounds"),
    [
        (0, 0.001, 0.001),
        (1000, 0.003354407095854510, 0.003296169934176314),
        (2000, 0.005434586218408054, 0.005321503462089664),
        (4000, 0.001, 0.0007866221971397857),
        (6000, 0.004488343954529957, 0.004186012745445948),
        (8000, 0.001, 0.0006187744810330239),
    ],
)
def test_exp_range_declines_in_both_readings_of_the_paper(step, amplitude, bounds):
    schedule = ExpRange(**CIFAR, gamma=0.99994)
    assert schedule(step) == pytest.approx(amplitude, rel=1e-12)
    assert schedule.replace(decay="bounds")(step) == pytest.approx(bounds, rel=1e-12)


def test_exp_range_stops_declining_after_its_last_cycle():
    amplitude = ExpRange(**CIFAR, gamma=0.99994, cycles=2)
    bounds = amplitude.replace(decay="bounds")
    assert [amplitude(step) for step in (8000, 8001, 10**9)] == [0.001] * 3
    assert bounds(8000) == pytest.approx(0.0006187744810330239, rel=1e-12)
    assert [bounds(step) for step in (8001, 10**9)] == [bounds(8000)] * 2


def test_exp_range_with_gamma_one_is_triangular():
    steps = np.arange(12_000)
    expected = Triangular(**CIFAR)(steps)
    assert ExpRange(**CIFAR, gamma=1.0)(steps).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("window", "heights"),
    [
        ("triangular", [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.0]),
        ("welch", [0.0, 0.4375, 0.75, 0.9375, 1.0, 0.9375, 0.75, 0.4375, 0.0]),
        (
            "hann",
            [0.0, 0.146446609407, 0.5, 0.853553390593, 1.0, 0.853553390593, 0.5, 0.146446609407, 0],
        ),
    ],
)
def test_a_window_shapes_the_whole_cycle(window, heights):
    schedule = Cyclical(**UNIT, window=window)
    assert [schedule(step) for step in range(9)] == pytest.approx(heights, abs=1e-12)


def test_legs_and_holds_have_the_lengths_they_were_given():
    schedule = Cyclical(
        base_lr=1.0, max_lr=3.0, stepsize=2, hold_max=2, down_stepsize=4, hold_base=3, cycles=2
    )
    cycle = [1.0, 2.0, 3.0, 3.0, 3.0, 2.5, 2.0, 1.5, 1.0, 1.0, 1.0]
    assert schedule.cycle_steps == 11
    assert [schedule(step) for step in range(22)] == cycle * 2
    assert schedule.total_steps == 22
    assert [schedule(step) for step in (22, 23, 24, 99)] == [1.0] * 4


def test_the_envelope_applies_to_any_window():
    halving = Cyclical(**UNIT, window="welch", envelope="halving")
    assert [halving(step) for step in (1, 4, 8, 9, 12, 20)] == [
        0.4375,
        1.0,
        0.0,
        0.21875,
        0.5,
        0.25,
    ]
    falling = Cyclical(**UNIT, window="hann", envelope="exponential", gamma=0.5)
    assert [falling(step) for step in (2, 4, 6)] == pytest.approx([1 / 8, 1 / 16, 1 / 128])


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        (Triangular(**CIFAR), {}),
        (Triangular2(**CIFAR), {"envelope": "halving"}),
        (ExpRange(**CIFAR, gamma=0.9999), {"envelope": "exponential", "gamma": 0.9999}),
        (
            ExpRange(**CIFAR, gamma=0.9999, decay="bounds"),
            {"envelope": "exponential", "gamma": 0.9999, "decay": "bounds"},
        ),
    ],
)
def test_a_named_policy_is_a_special_case_of_the_general_cycle(policy, settings):
    steps = np.arange(0, 20_000, 7)
    assert Cyclical(**CIFAR, **settings)(steps).tolist() == policy(steps).tolist()


@pytest.mark.parametrize(
    ("schedule", "until", "ends"),
    [
        (Triangular(**CIFAR), 11_999, (4000, 8000)),
        (Triangular(**CIFAR), 12_000, (4000, 8000, 12_000)),
        (Triangular(**CIFAR), 3999, ()),
        (Triangular(**CIFAR, cycles=2), None, (4000, 8000)),
        (Triangular(**CIFAR, cycles=2), 100_000, (4000, 8000)),
        (Triangular(**CIFAR, cycles=2), 7999, (4000,)),
        (Cyclical(**UNIT, down_stepsize=2, hold_base=1), 21, (7, 14, 21)),
    ],
)
def test_cycle_ends_count_the_updates_of_whole_cycles(schedule, until, ends):
    assert schedule.cycle_ends(until) == ends


@pytest.mark.parametrize("cls", [Triangular, Triangular2])
def test_bounds_in_the_wrong_order_are_refused(cls):
    with pytest.raises(SpecError) as caught:
        cls(base_lr=0.1, max_lr=0.05, stepsize=10)
    assert str(caught.value) == (
        f"{cls.__name__}.max_lr must be ≥ base_lr (0.1), got 0.05; swap the two, or raise max_lr"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 0.9},
        {"envelope": "halving", "gamma": 0.9},
        {"envelope": "exponential"},
    ],
)
def test_gamma_goes_with_the_exponential_envelope_only(settings):
    value = repr(settings.get("gamma"))
    with pytest.raises(SpecError, match=rf"^Cyclical\.gamma must be given with .* got {value};"):
        Cyclical(**UNIT, **settings)
