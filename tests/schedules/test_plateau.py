import math

import pytest

from cyclr.errors import SpecError
from cyclr.schedules import Knee, SlantedTriangular, WarmupStableDecay


@pytest.mark.parametrize(
    ("decay", "shape"),
    [
        ("linear", lambda u: 1 - u),
        ("cosine", lambda u: 0.5 * (1 + math.cos(math.pi * u))),
        ("1-sqrt", lambda u: 1 - math.sqrt(u)),
    ],
)
def test_warmup_stable_decay_has_three_parts(decay, shape):
    schedule = WarmupStableDecay(
        max_lr=2.0, total_steps=100, warmup_steps=10, decay_steps=20, final_lr=0.5, decay=decay
    )
    assert [schedule(k) for k in (0, 5, 10, 50, 80)] == pytest.approx([0, 1, 2, 2, 2])
    cooldown = [0.5 + 1.5 * shape(u) for u in (0.25, 0.5, 0.95, 1.0)]
    assert [schedule(k) for k in (85, 90, 99, 100)] == pytest.approx(cooldown)
    assert schedule(10_000) == pytest.approx(0.5)


def test_without_a_warmup_the_first_update_is_at_the_top():
    assert WarmupStableDecay(max_lr=2.0, total_steps=10, decay_steps=5)(0) == 2.0
    assert Knee(max_lr=2.0, total_steps=10, explore_steps=5)(0) == 2.0


def test_knee_explores_half_and_exploits_half():
    schedule = Knee(max_lr=0.1, total_steps=200, explore_steps=100, warmup_steps=20)
    steps = (0, 10, 20, 119, 120, 160, 199, 200, 999)
    expected = [0, 0.05, 0.1, 0.1, 0.1, 0.05, 0.1 / 80, 0, 0]
    assert [schedule(k) for k in steps] == pytest.approx(expected)


def test_slanted_triangular_follows_the_paper_s_formula():
    schedule = SlantedTriangular(max_lr=0.01, total_steps=1000, stepsize=100, ratio=32)
    for step in (0, 50, 99, 100, 101, 500, 999):
        p = step / 100 if step < 100 else 1 - (step - 100) / (100 * (1 / 0.1 - 1))
        assert schedule(step) == pytest.approx(0.01 * (1 + p * 31) / 32)
    assert schedule(10_000) == pytest.approx(0.01 / 32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: WarmupStableDecay(max_lr=1, total_steps=10, warmup_steps=6, decay_steps=5),
            r"WarmupStableDecay\.decay_steps must be ≤ total_steps − warmup_steps \(4\), got 5",
        ),
        (
            lambda: WarmupStableDecay(max_lr=1, total_steps=10, decay_steps=5, final_lr=2),
            r"WarmupStableDecay\.final_lr must be ≤ max_lr \(1\), got 2\.0",
        ),
        (
            lambda: Knee(max_lr=1, total_steps=10, explore_steps=7, warmup_steps=3),
            r"Knee\.explore_steps must be < total_steps − warmup_steps \(7\), got 7",
        ),
        (
            lambda: SlantedTriangular(max_lr=1, total_steps=10, stepsize=10),
            r"SlantedTriangular\.stepsize must be < total_steps \(10\), got 10",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, message):
    with pytest.raises(SpecError, match=message):
        make()
