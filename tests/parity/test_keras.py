"""Our schedules against Keras's own code, on the backend this process has."""

import numpy as np
import pytest

from cyclr.schedules import (
    CosineSweep,
    ExponentialDecay,
    InverseDecay,
    MultiStep,
    PolynomialDecay,
    StepDecay,
    WarmRestarts,
    warmup,
)

keras = pytest.importorskip("keras", reason="needs the extra keras")
peers = keras.optimizers.schedules

# NumPy 2 deprecates the form of __array__ that some backends' tensors have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Keras computes in float32: a value near zero has the rounding of the largest.
ROUNDING = 3e-7


def value(theirs, step):
    return float(keras.ops.convert_to_numpy(theirs(keras.ops.convert_to_tensor(step))))


def agree(schedule, theirs, steps):
    ours = schedule(np.arange(steps))
    peer = [value(theirs, step) for step in range(steps)]
    np.testing.assert_allclose(ours, peer, rtol=1e-6, atol=ROUNDING * max(ours))


@pytest.mark.parametrize("peak_decay", [1.0, 0.5])
def test_cosine_decay_restarts_with_equal_periods(peak_decay):
    theirs = peers.CosineDecayRestarts(0.1, 10, t_mul=1.0, m_mul=peak_decay)
    agree(WarmRestarts(max_lr=0.1, period=10, peak_decay=peak_decay), theirs, 55)


@pytest.mark.parametrize("multiplier", [2.0, 3.0])
def test_cosine_decay_restarts_with_growing_periods(multiplier):
    theirs = peers.CosineDecayRestarts(0.1, 10, t_mul=multiplier, alpha=0.1)
    agree(WarmRestarts(max_lr=0.1, min_lr=0.01, period=10, multiplier=multiplier), theirs, 300)


def test_cosine_decay_restarts_misses_restarts_and_ours_does_not():
    # They find the restart with a logarithm in float32. Where that comes out a little too small,
    # the first step of a period gets the last value of the one before it: zero, not the peak.
    missed = []
    for multiplier in (1.5, 2.0, 3.0):
        theirs = peers.CosineDecayRestarts(0.1, 10, t_mul=multiplier)
        ours = WarmRestarts(max_lr=0.1, period=10, multiplier=multiplier)
        # Only restarts that fall on whole steps in both.
        ends = [end for i, end in enumerate(ours.cycle_ends(10**6)) if multiplier != 1.5 or i < 2]
        assert [ours(end) for end in ends] == [0.1] * len(ends)
        missed += [(multiplier, end) for end in ends if value(theirs, end) < 0.001]
    assert missed


def test_cosine_decay_with_warmup():
    theirs = peers.CosineDecay(0.0, 20, alpha=0.1, warmup_target=0.1, warmup_steps=5)
    cosine = CosineSweep(start_lr=0.1, end_lr=0.01, steps=20, endpoint=False)
    agree(warmup(cosine, steps=5), theirs, 30)


def test_exponential_decay_smooth_and_as_a_staircase():
    smooth = peers.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.9)
    agree(ExponentialDecay(max_lr=0.1, gamma=0.9**0.1), smooth, 60)
    staircase = peers.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5, staircase=True)
    agree(StepDecay(max_lr=0.1, factor=0.5, every=10), staircase, 60)


def test_piecewise_constant_decay_changes_one_step_after_its_boundaries():
    # Keras: "for the first 11 steps" with a boundary of 10. Ours is the first step of the new rate.
    theirs = peers.PiecewiseConstantDecay([10, 20], [0.1, 0.01, 0.001])
    agree(MultiStep(max_lr=0.1, factor=0.1, boundaries=(11, 21)), theirs, 40)


def test_polynomial_decay():
    theirs = peers.PolynomialDecay(0.1, 30, end_learning_rate=0.01, power=2.0)
    agree(PolynomialDecay(max_lr=0.1, final_lr=0.01, total_steps=30, power=2.0), theirs, 40)


def test_inverse_time_decay():
    theirs = peers.InverseTimeDecay(0.1, decay_steps=4, decay_rate=0.5)
    agree(InverseDecay(max_lr=0.1, gamma=0.125, power=1.0), theirs, 40)
