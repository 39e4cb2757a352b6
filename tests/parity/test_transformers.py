"""Transformers' schedules, against ours."""

import pytest

pytest.importorskip("transformers", reason="needs the extra cyclr[transformers]")

import torch
from transformers import optimization as peers

from cyclr.schedules import (
    Chain,
    Constant,
    CosineSweep,
    InverseSqrt,
    LinearSweep,
    PolynomialDecay,
    WarmRestarts,
    WarmupStableDecay,
    warmup,
)

RATE, WARM, TOTAL = 0.3, 7, 60
REST = TOTAL - WARM


def used(make, steps=TOTAL + 20, **options):
    """What each of the optimizer's updates used."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([parameter], lr=RATE)
    scheduler = make(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        parameter.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    return rates


def ours(schedule, steps=TOTAL + 20):
    # Rates near zero are compared with the peak: theirs carry its rounding.
    return pytest.approx([schedule(k) for k in range(steps)], rel=1e-6, abs=1e-15 * RATE)


def after_a_warmup(rest):
    return warmup(rest, steps=WARM)


SAME = {
    "constant": (peers.get_constant_schedule, {}, Constant(value=RATE)),
    "constant with warmup": (
        peers.get_constant_schedule_with_warmup,
        {"num_warmup_steps": WARM},
        after_a_warmup(Constant(value=RATE)),
    ),
    "linear": (
        peers.get_linear_schedule_with_warmup,
        {"num_warmup_steps": WARM, "num_training_steps": TOTAL},
        after_a_warmup(LinearSweep(start_lr=RATE, end_lr=0.0, steps=REST, endpoint=False)),
    ),
    "linear without warmup": (
        peers.get_linear_schedule_with_warmup,
        {"num_warmup_steps": 0, "num_training_steps": TOTAL},
        LinearSweep(start_lr=RATE, end_lr=0.0, steps=TOTAL, endpoint=False),
    ),
    "hard restarts": (
        peers.get_cosine_with_hard_restarts_schedule_with_warmup,
        {"num_warmup_steps": 10, "num_training_steps": TOTAL, "num_cycles": 5},
        warmup(WarmRestarts(max_lr=RATE, period=10, cycles=5), steps=10),
    ),
    "polynomial": (
        peers.get_polynomial_decay_schedule_with_warmup,
        {"num_warmup_steps": WARM, "num_training_steps": TOTAL, "lr_end": 1e-4, "power": 2.0},
        after_a_warmup(PolynomialDecay(max_lr=RATE, final_lr=1e-4, total_steps=REST, power=2.0)),
    ),
    "inverse square root": (
        peers.get_inverse_sqrt_schedule,
        {"num_warmup_steps": WARM},
        InverseSqrt(max_lr=RATE, warmup_steps=WARM),
    ),
    "minimum of the cosine": (
        peers.get_cosine_with_min_lr_schedule_with_warmup,
        {"num_warmup_steps": WARM, "num_training_steps": TOTAL, "min_lr": 0.03},
        after_a_warmup(CosineSweep(start_lr=RATE, end_lr=0.03, steps=REST, endpoint=False)),
    ),
    **{
        f"warmup, stable, {decay}": (
            peers.get_wsd_schedule,
            {
                "num_warmup_steps": WARM,
                "num_decay_steps": 20,
                "num_training_steps": TOTAL,
                "decay_type": decay,
            },
            WarmupStableDecay(
                max_lr=RATE, total_steps=TOTAL, warmup_steps=WARM, decay_steps=20, decay=decay
            ),
        )
        for decay in ("linear", "cosine", "1-sqrt")
    },
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_rates(name):
    make, options, schedule = SAME[name]
    # The end of the cosine with a minimum has a test of its own below.
    steps = TOTAL + 1 if name == "minimum of the cosine" else TOTAL + 20
    assert used(make, steps, **options) == ours(schedule, steps)


@pytest.mark.parametrize("lr_type", ["linear", "cosine"])
def test_warmup_stable_decay_to_a_minimum(lr_type):
    """Theirs also warms up from the minimum; ours from zero, so it takes a chain."""
    theirs = used(
        peers.get_wsd_schedule,
        num_warmup_steps=WARM,
        num_decay_steps=20,
        num_training_steps=TOTAL,
        decay_type=lr_type,
        min_lr_ratio=0.1,
    )
    held = WarmupStableDecay(
        max_lr=RATE, final_lr=RATE / 10, total_steps=REST, decay_steps=20, decay=lr_type
    )
    assert theirs == ours(warmup(held, steps=WARM, start_lr=RATE / 10))
    plain = WarmupStableDecay(
        max_lr=RATE,
        final_lr=RATE / 10,
        total_steps=TOTAL,
        warmup_steps=WARM,
        decay_steps=20,
        decay=lr_type,
    )
    assert (theirs[0], plain(0)) == (pytest.approx(RATE / 10), 0.0)
    assert theirs[WARM:] == [pytest.approx(plain(k)) for k in range(WARM, TOTAL + 20)]


def test_inverse_square_root_with_a_timescale_of_its_own():
    """No spec of ours has one: after the warmup, theirs is ours of that length, seen later."""
    theirs = used(peers.get_inverse_sqrt_schedule, num_warmup_steps=WARM, timescale=40)
    longer = InverseSqrt(max_lr=RATE, warmup_steps=40)
    shifted = [longer(k - WARM + 40) for k in range(WARM, TOTAL + 20)]
    assert theirs[WARM:] == pytest.approx(shifted, rel=1e-6)
    assert theirs[:WARM] == ours(InverseSqrt(max_lr=RATE, warmup_steps=WARM), WARM)


class TestTheirCosineRisesAgainAfterTheEnd:
    """Transformers' cosines go on past num_training_steps; ours stay at the end value."""

    @pytest.mark.parametrize(
        ("make", "low", "options"),
        [
            (peers.get_cosine_schedule_with_warmup, 0.0, {}),
            (peers.get_cosine_with_min_lr_schedule_with_warmup, 0.03, {"min_lr": 0.03}),
        ],
    )
    def test_rates(self, make, low, options):
        theirs = used(
            make, TOTAL + REST + 1, num_warmup_steps=WARM, num_training_steps=TOTAL, **options
        )
        fall = CosineSweep(start_lr=RATE, end_lr=low, steps=REST, endpoint=False)
        schedule = after_a_warmup(fall)
        assert theirs[: TOTAL + 1] == ours(schedule, TOTAL + 1)
        assert schedule(TOTAL + REST) == low
        assert theirs[TOTAL + REST] == pytest.approx(RATE)
        # The same with a schedule of ours that is meant to rise again:
        rise = CosineSweep(start_lr=low, end_lr=RATE, steps=REST, endpoint=False)
        both = after_a_warmup(Chain(schedules=(fall, rise)))
        assert theirs == ours(both, TOTAL + REST + 1)
