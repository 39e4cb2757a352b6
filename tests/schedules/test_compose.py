import numpy as np
import pytest

from cyclr.errors import SpecError
from cyclr.schedules import (
    Chain,
    Clamp,
    Constant,
    CosineSweep,
    LinearSweep,
    OneCycle,
    Opposite,
    Scale,
    Triangular,
    WarmRestarts,
    warmup,
)

RISE = LinearSweep(start_lr=0.0, end_lr=1.0, steps=5)
ONE_CYCLE = OneCycle(max_lr=1.0, base_lr=0.1, total_steps=100, stepsize=45, final_lr=0.001)


def test_a_chain_starts_each_schedule_from_its_own_step_0():
    chain = Chain(schedules=(RISE, Constant(value=3.0, steps=2), RISE))
    assert chain.starts == (5, 7)
    assert chain.total_steps == 12
    assert [chain(step) for step in range(14)] == [
        *(0.0, 0.25, 0.5, 0.75, 1.0),
        *(3.0, 3.0),
        *(0.0, 0.25, 0.5, 0.75, 1.0),
        *(1.0, 1.0),
    ]


def test_boundaries_cut_a_schedule_short_or_hold_its_last_value():
    chain = Chain(schedules=(RISE, RISE, Constant(value=3.0)), boundaries=(2, 10))
    assert [chain(step) for step in (0, 1, 2, 3, 6, 7, 9, 10, 99)] == [
        *(0.0, 0.25),
        *(0.0, 0.25, 1.0, 1.0, 1.0),
        *(3.0, 3.0),
    ]
    assert chain.total_steps is None


def test_a_chain_of_one_is_that_schedule():
    chain = Chain(schedules=(RISE,))
    assert chain.starts == ()
    assert chain.total_steps == 5
    assert [chain(step) for step in range(7)] == [RISE(step) for step in range(7)]


def test_a_chain_joins_exactly_beyond_a_billion_steps():
    start = 10**12 + 7
    chain = Chain(schedules=(Constant(value=1.0), RISE), boundaries=(start,))
    steps = [start - 1, start, start + 1, start + 4, start + 5]
    assert [chain(step) for step in steps] == [1.0, 0.0, 0.25, 1.0, 1.0]
    assert chain(np.array(steps)).tolist() == [1.0, 0.0, 0.25, 1.0, 1.0]


def test_a_chain_lists_the_cycle_ends_of_every_piece_from_its_start():
    chain = Chain(
        schedules=(
            Triangular(base_lr=0.1, max_lr=1.0, stepsize=5),
            WarmRestarts(max_lr=1.0, period=4, multiplier=2),
        ),
        boundaries=(25,),
    )
    assert chain.cycle_ends(60) == (10, 20, 29, 37, 53)
    assert chain.cycle_ends(25) == (10, 20)
    assert chain.cycle_ends(15) == (10,)


def test_lists_become_tuples_so_that_a_chain_can_be_hashed():
    chain = Chain(schedules=[RISE, RISE], boundaries=[9])
    assert chain.schedules == (RISE, RISE)
    assert chain.boundaries == (9,)
    assert len({chain, Chain(schedules=(RISE, RISE), boundaries=(9,))}) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"schedules": ()},
            "Chain.schedules must be a non-empty sequence, got (); pass at least one schedule",
        ),
        (
            {"schedules": (Constant(value=1.0), RISE)},
            "Chain.schedules[0] never ends, so what follows it has no first step; "
            "pass boundaries=(…), or give it a length (such as cycles=4)",
        ),
        (
            {"schedules": (RISE, RISE), "boundaries": (3, 5)},
            "Chain.boundaries must be 1 ascending steps for these schedules, got (3, 5); "
            "name the first step of every schedule but the first",
        ),
        (
            {"schedules": (RISE, RISE), "boundaries": ()},
            "Chain.boundaries must be 1 ascending steps for these schedules, got (); "
            "name the first step of every schedule but the first",
        ),
        (
            {"schedules": (RISE, RISE, RISE), "boundaries": (5, 5)},
            "Chain.boundaries must be ascending, got (5, 5); put them in order, without repeats",
        ),
        (
            {"schedules": (RISE, RISE, RISE), "boundaries": (5, 3)},
            "Chain.boundaries must be ascending, got (5, 3); put them in order, without repeats",
        ),
        (
            {"schedules": (RISE, RISE), "boundaries": (0,)},
            "Chain.boundaries[0] must be an int ≥ 1, got 0; "
            "count in whole steps (optimizer updates)",
        ),
    ],
)
def test_a_chain_that_cannot_be_followed_is_refused(fields, message):
    with pytest.raises(SpecError) as caught:
        Chain(**fields)
    assert str(caught.value) == message


def test_scale_multiplies_every_value_and_keeps_length_and_cycles():
    scaled = Scale(schedule=ONE_CYCLE, factor=10.0)
    assert [scaled(step) for step in (0, 45, 90, 99, 500)] == pytest.approx([1, 10, 1, 0.01, 0.01])
    assert scaled.total_steps == 100
    assert scaled.cycle_ends() == (90, 100)
    assert [scaled.replace(factor=0.0)(step) for step in (0, 45)] == [0.0, 0.0]


def test_clamp_cuts_at_both_bounds():
    clamped = Clamp(schedule=RISE, low=0.3, high=0.6)
    assert [clamped(step) for step in range(6)] == [0.3, 0.3, 0.5, 0.6, 0.6, 0.6]
    assert clamped(np.arange(6)).tolist() == [0.3, 0.3, 0.5, 0.6, 0.6, 0.6]
    assert clamped.total_steps == 5


def test_clamp_has_no_lower_bound_but_zero_unless_told():
    assert [Clamp(schedule=RISE, high=0.6)(step) for step in (0, 1, 4)] == [0.0, 0.25, 0.6]


def test_opposite_momentum_falls_as_the_rate_rises():
    momentum = Opposite(schedule=ONE_CYCLE, bottom=0.1, top=1.0, low=0.85, high=0.95)
    values = [momentum(step) for step in (0, 9, 45, 54, 90)]
    assert values == pytest.approx([0.95, 0.93, 0.85, 0.87, 0.95], rel=1e-12)
    assert momentum.total_steps == 100
    assert momentum.cycle_ends() == (90, 100)


def test_opposite_stays_at_its_bounds_where_the_rate_leaves_the_range():
    momentum = Opposite(schedule=RISE, bottom=0.25, top=0.75, low=0.5, high=1.0)
    assert [momentum(step) for step in range(6)] == [1.0, 1.0, 0.75, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Clamp(schedule=RISE, low=0.6, high=0.3),
            "Clamp.high must be ≥ low (0.6), got 0.3; swap the two",
        ),
        (
            lambda: Opposite(schedule=RISE, bottom=1.0, top=1.0, low=0.85, high=0.95),
            "Opposite.top must be > bottom (1), got 1.0; pass the rate's bounds",
        ),
        (
            lambda: Opposite(schedule=RISE, bottom=0.1, top=1.0, low=0.95, high=0.85),
            "Opposite.high must be ≥ low (0.95), got 0.85; swap the two",
        ),
    ],
)
def test_a_wrapper_with_bounds_in_the_wrong_order_is_refused(make, message):
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value) == message


def test_wrappers_nest():
    inner = Chain(schedules=(RISE, Scale(schedule=RISE, factor=2.0)))
    outer = Clamp(schedule=Scale(schedule=inner, factor=0.5), low=0.2, high=0.7)
    assert [outer(step) for step in (0, 2, 4, 5, 7, 8, 9, 99)] == [
        *(0.2, 0.25, 0.5),
        *(0.2, 0.5, 0.7, 0.7, 0.7),
    ]


def test_warmup_rises_to_where_the_rest_begins():
    rest = CosineSweep(start_lr=0.8, end_lr=0.0, steps=11)
    schedule = warmup(rest, steps=4, start_lr=0.4)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8])
    assert [schedule(4 + step) for step in range(12)] == [rest(step) for step in range(12)]
    assert schedule.total_steps == 15


def test_warmup_can_precede_a_schedule_that_never_ends():
    schedule = warmup(Constant(value=1.0), steps=2)
    assert [schedule(step) for step in (0, 1, 2, 10**9)] == [0.0, 0.5, 1.0, 1.0]
    assert schedule.total_steps is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"^LinearSweep\.steps must be an int ≥ 1, got 0;"),
        ({"steps": 2, "start_lr": -0.1}, r"^LinearSweep\.start_lr must be .* ≥ 0, got -0\.1;"),
    ],
)
def test_a_warmup_out_of_bounds_is_refused(settings, message):
    with pytest.raises(SpecError, match=message):
        warmup(RISE, **settings)
