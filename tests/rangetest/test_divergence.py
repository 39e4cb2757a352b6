"""Whether a loss has turned: verdicts on losses of every kind, and what they must not depend on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cyclr.rangetest.divergence import exploded, jumped, noise, turned

FLAT = [2.3] * 20
LOW = [2.3] * 20 + list(np.linspace(2.3, 0.5, 20)) + [0.5] * 10


def _jitter(losses, sigma=0.02, seed=0):
    return list(np.asarray(losses) + np.random.default_rng(seed).normal(0, sigma, len(losses)))


def _turned(losses, share=0.5):
    return turned(losses, share=share, window=10, width=10)


class TestExploded:
    def test_a_rise_above_the_start_by_half_of_the_fall(self) -> None:
        assert not exploded(_jitter([*LOW, 3.1, 3.1, 3.1]))
        assert exploded(_jitter([*LOW, 3.3, 3.3, 3.3]))

    def test_two_of_the_last_three_decide(self) -> None:
        assert not exploded([*FLAT, 50.0, 2.3, 2.3])
        assert not exploded([*FLAT, 2.3, 2.3, 50.0])
        assert exploded([*FLAT, 50.0, 2.3, 50.0])

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_what_is_not_finite_is_high(self, bad) -> None:
        assert exploded([*FLAT, bad, 2.3, bad])
        assert not exploded([*FLAT, bad, 2.3, 2.3])

    @pytest.mark.parametrize("offset", [0.0, -10.0, -2.3, 1e3])
    def test_a_rise_counts_whatever_the_sign(self, offset) -> None:
        flat = [x + offset for x in _jitter(FLAT)]
        assert exploded([*flat, offset + 5, offset + 6, offset + 7])
        assert not exploded(flat)

    def test_a_rise_as_large_as_the_noise_does_not_count(self) -> None:
        quiet, loud = _jitter(FLAT, 0.01), _jitter(FLAT, 0.5)
        assert exploded([*quiet, 3.3, 3.3, 3.3])
        assert not exploded([*loud, 3.3, 3.3, 3.3])

    def test_batches_that_come_in_blocks_are_noise_too(self) -> None:
        """Data sorted by class: neighbours are alike, blocks are not."""
        levels = np.repeat([2.3, 2.5, 2.1, 2.4, 2.2, 2.6], 5)
        assert not exploded([*_jitter(levels), 2.8, 2.8, 2.8])

    def test_rounded_losses_may_move_by_a_rounding(self) -> None:
        """A full batch in bfloat16: constant, but for the smallest step that there is."""
        step = 2.0**-7
        assert not exploded([*FLAT, 2.3 + step, 2.3 + step, 2.3 + step])
        assert exploded([*FLAT, 2.5, 2.5, 2.5])

    def test_nothing_is_said_of_seven_losses(self) -> None:
        assert not exploded([1.0, 1.0, 1.0, 1.0, 9e9, 9e9, 9e9])


class TestJumped:
    def test_up_with_the_first_update_to_stay(self) -> None:
        assert jumped([2.3, *_jitter([50.0] * 9, 1.0)])

    def test_the_first_loss_of_many_alike(self) -> None:
        assert not any(jumped(_jitter(FLAT[:10], seed=seed)) for seed in range(200))

    def test_a_falling_loss(self) -> None:
        assert not jumped(list(np.linspace(2.3, 1.0, 10)))


class TestTurned:
    def test_back_at_the_start_to_stay(self) -> None:
        assert _turned(_jitter([*LOW, *[2.3] * 10]), share=0.9)
        assert not _turned(_jitter([*LOW, *[2.3] * 8]), share=0.9)

    def test_a_plateau_halfway_up(self) -> None:
        losses = _jitter([*LOW, *[1.7] * 10])
        assert _turned(losses)
        assert not _turned(losses, share=0.9)

    def test_a_dip_in_between_means_not_yet(self) -> None:
        assert not _turned([*LOW, *[2.3] * 5, 0.6, 0.6, *[2.3] * 5])

    def test_one_low_spike_does_not_matter(self) -> None:
        assert _turned([*LOW, *[2.3] * 5, 0.6, *[2.3] * 5])

    def test_one_very_low_loss_is_no_fall(self) -> None:
        assert not _turned([*FLAT, 0.1, *FLAT])

    def test_a_loss_that_never_fell_has_not_turned(self) -> None:
        assert not any(_turned(_jitter([2.3] * 60, 0.3, seed)) for seed in range(200))

    def test_without_any_noise(self) -> None:
        assert _turned([1e-9 * x for x in [*LOW, *[2.3] * 10]])

    def test_a_plateau_of_nan_and_infinity(self) -> None:
        assert _turned([*LOW, *[math.nan, math.inf] * 5])


LOSSES = arrays(
    np.float64, st.integers(8, 70), elements=st.floats(-100, 100, width=32, allow_subnormal=False)
)


@settings(deadline=None)
@given(LOSSES, st.sampled_from([2.0**-20, 0.5, 8.0, 2.0**20]), st.sampled_from([0.0, -128.0, 64.0]))
def test_no_verdict_depends_on_the_unit_of_the_loss_or_its_zero(losses, scale, shift) -> None:
    """Powers of two and losses in 64ths: the arithmetic of the change itself is then exact."""
    losses = np.round(losses * 64) / 64 + np.random.default_rng(0).integers(0, 3, losses.size) / 64
    moved = list((losses + shift) * scale)
    plain = list(losses)
    assert exploded(moved) == exploded(plain) or _constant(losses)
    assert jumped(moved) == jumped(plain)
    assert _turned(moved) == _turned(plain) or _constant(losses)


def _constant(losses) -> bool:
    # Where nothing moves, only the size of the loss says how coarse its rounding may be.
    return len(set(losses[:-3])) == 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform"])
def test_noise_alone_is_neither(seed, kind) -> None:
    rng = np.random.default_rng(seed)
    losses = list(getattr(rng, kind)(size=100))
    for step in range(1, 101):
        assert not exploded(losses[:step])
        assert not _turned(losses[:step])


def test_noise_is_measured_beside_a_trend() -> None:
    rng = np.random.default_rng(0)
    losses = np.linspace(3, 0, 400) + rng.normal(0, 0.2, 400)
    assert noise(losses) == pytest.approx(0.2, rel=0.15)


def test_huge_losses_do_not_warn() -> None:
    losses = [*FLAT, 1e308, -1e308, 1e308]
    assert exploded(losses)
    assert not _turned([-1e308, 1e308] * 20)
