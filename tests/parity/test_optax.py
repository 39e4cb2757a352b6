"""Our schedules against optax's own code."""

import numpy as np
import pytest

from cyclr.schedules import (
    Chain,
    CosineSweep,
    ExponentialDecay,
    LinearSweep,
    OneCycle,
    PolynomialDecay,
    WarmRestarts,
    warmup,
)

optax = pytest.importorskip("optax", reason="needs the extra jax")
jnp = pytest.importorskip("jax.numpy", reason="needs the extra jax")

# optax computes in float32: a value near zero has the rounding of the largest.
ROUNDING = 2e-7


def agree(schedule, theirs, steps):
    ours = schedule(np.arange(steps))
    peer = np.array([float(theirs(jnp.asarray(step))) for step in range(steps)])
    np.testing.assert_allclose(ours, peer, rtol=1e-6, atol=ROUNDING * max(ours))


@pytest.mark.parametrize(("steps", "share"), [(100, 0.3), (37, 0.5), (1000, 0.25)])
def test_cosine_onecycle_is_two_phases_with_cosines(steps, share):
    theirs = optax.cosine_onecycle_schedule(steps, 0.5, pct_start=share)
    ours = OneCycle(
        max_lr=0.5,
        base_lr=0.5 / 25,
        final_lr=0.5 / 25 / 1e4,
        total_steps=steps + 1,  # theirs reaches its end at step `steps`, ours at the last update
        stepsize=int(share * steps),
        anneal="cosine",
        phases="two",
    )
    agree(ours, theirs, steps + 5)


def test_linear_onecycle_is_three_legs():
    theirs = optax.linear_onecycle_schedule(100, 0.5, pct_start=0.3, pct_final=0.6)
    top, base, end = 0.5, 0.5 / 25, 0.5 / 25 / 1e4
    legs = (
        LinearSweep(start_lr=base, end_lr=top, steps=30, endpoint=False),
        LinearSweep(start_lr=top, end_lr=base, steps=30, endpoint=False),
        LinearSweep(start_lr=base, end_lr=end, steps=41),
    )
    agree(Chain(schedules=legs), theirs, 105)
    ours = OneCycle(max_lr=top, base_lr=base, final_lr=end, total_steps=101, stepsize=30)
    agree(ours, theirs, 105)


def test_linear_onecycle_does_not_end_where_its_documentation_says():
    # The description of phase 3 says peak_value / final_div_factor; it is that over div_factor.
    end = float(optax.linear_onecycle_schedule(100, 1.0, div_factor=25.0)(100))
    assert end == pytest.approx(1 / 25 / 1e4, rel=1e-5)


def test_linear_onecycle_drops_a_leg_when_two_end_on_the_same_step():
    # Legs are keyed by int(share · steps): with pct_final=1 the way back down is overwritten by the
    # last leg, from the peak. Our legs are lengths, and one that does not fit is an error.
    ends = [
        float(optax.linear_onecycle_schedule(100, 1.0, pct_start=0.3, pct_final=share)(100))
        for share in (0.99, 1.0)
    ]
    assert ends == pytest.approx([1 / 25 / 1e4, 1 / 1e4], rel=1e-5)
    with pytest.raises(ValueError, match=r"OneCycle\.stepsize"):
        OneCycle(max_lr=1.0, total_steps=100, stepsize=70)


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_sgdr_schedule_is_warm_restarts(multiplier):
    lengths = [10 * multiplier**i for i in range(4)]
    theirs = optax.sgdr_schedule(
        [
            {
                "init_value": 0.1,
                "peak_value": 0.1,
                "end_value": 0.001,
                "warmup_steps": 0,
                "decay_steps": length,
            }
            for length in lengths
        ]
    )
    ours = WarmRestarts(max_lr=0.1, min_lr=0.001, period=10, multiplier=multiplier, cycles=4)
    agree(ours, theirs, sum(lengths) + 3)


def test_sgdr_schedule_with_warmups_is_a_chain_of_warmups():
    cycle = {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 4, "decay_steps": 20}
    theirs = optax.sgdr_schedule([cycle, {**cycle, "peak_value": 0.05, "decay_steps": 30}])
    pieces = [
        warmup(CosineSweep(start_lr=peak, end_lr=0.0, steps=steps - 4, endpoint=False), steps=4)
        for peak, steps in ((0.1, 20), (0.05, 30))
    ]
    agree(Chain(schedules=tuple(pieces), boundaries=(20,)), theirs, 49)


def test_join_schedules_is_a_chain():
    theirs = optax.join_schedules(
        [
            optax.linear_schedule(0.0, 1.0, 10),
            optax.exponential_decay(1.0, 1, 0.9),
            optax.polynomial_schedule(0.5, 0.1, 2, 20),
        ],
        [10, 25],
    )
    pieces = (
        LinearSweep(start_lr=0.0, end_lr=1.0, steps=10, endpoint=False),
        ExponentialDecay(max_lr=1.0, gamma=0.9),
        PolynomialDecay(max_lr=0.5, final_lr=0.1, total_steps=20, power=2.0),
    )
    agree(Chain(schedules=pieces, boundaries=(10, 25)), theirs, 60)


def test_join_schedules_drops_schedules_silently_and_chain_does_not():
    flat = [optax.constant_schedule(value) for value in (1.0, 2.0, 3.0)]
    assert float(optax.join_schedules(flat, [10])(1000)) == 2.0  # the third is never reached
    pieces = tuple(LinearSweep(start_lr=v, end_lr=v, steps=5) for v in (1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match=r"Chain\.boundaries"):
        Chain(schedules=pieces, boundaries=(10,))


def test_one_cycle_takes_arrays_of_steps_where_optax_raises():
    with pytest.raises(TypeError):
        optax.cosine_onecycle_schedule(100, 0.5)(jnp.arange(10))
    assert OneCycle(max_lr=0.5, total_steps=100)(jnp.arange(10)).shape == (10,)
