import math

import pytest

from cyclr.errors import SpecError
from cyclr.schedules import (
    ExponentialDecay,
    InverseDecay,
    InverseSqrt,
    LinearSweep,
    MultiStep,
    Noam,
    PolynomialDecay,
    Rex,
    StepDecay,
)


def _at(schedule, *steps):
    return [schedule(step) for step in steps]


def test_step_decay_drops_at_each_multiple():
    schedule = StepDecay(max_lr=0.1, factor=0.5, every=100)
    expected = [0.1, 0.1, 0.05, 0.05, 0.025, 0.1 / 2**10]
    assert _at(schedule, 0, 99, 100, 199, 200, 1000) == pytest.approx(expected)


def test_multi_step_is_caffe_s_cifar10_full():
    schedule = MultiStep(max_lr=0.001, factor=0.1, boundaries=(60_000, 65_000))
    steps = (0, 59_999, 60_000, 64_999, 65_000, 70_000)
    assert _at(schedule, *steps) == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_multi_step_without_boundaries_is_constant():
    assert MultiStep(max_lr=0.3, factor=0.1, boundaries=())(10**9) == pytest.approx(0.3)


def test_multi_step_boundaries_must_ascend():
    with pytest.raises(SpecError, match=r"MultiStep\.boundaries must be ascending, got \(5, 5\)"):
        MultiStep(max_lr=0.1, factor=0.1, boundaries=(5, 5))


def test_exponential_decay_with_the_paper_s_gamma():
    schedule = ExponentialDecay(max_lr=0.001, gamma=0.99994)
    assert _at(schedule, 0, 1, 70_000) == pytest.approx(
        [0.001, 0.001 * 0.99994, 0.001 * 0.99994**70_000]
    )


def test_inverse_decay_is_caffe_s_lenet():
    schedule = InverseDecay(max_lr=0.01, gamma=1e-4, power=0.75)
    expected = [0.01 * (1 + 1e-4 * k) ** -0.75 for k in (0, 1, 10_000)]
    assert _at(schedule, 0, 1, 10_000) == pytest.approx(expected)


def test_polynomial_decay_ends_at_final_lr_and_stays():
    schedule = PolynomialDecay(max_lr=1.0, final_lr=0.2, total_steps=4, power=2.0)
    expected = [1.0, 0.2 + 0.8 * 0.5625, 0.4, 0.25, 0.2, 0.2]
    assert _at(schedule, 0, 1, 2, 3, 4, 99) == pytest.approx(expected)


def test_rex_follows_its_formula():
    schedule = Rex(max_lr=1.0, total_steps=4)
    expected = [z / (0.5 + 0.5 * z) for z in (1.0, 0.75, 0.5, 0.25, 0.0)]
    assert _at(schedule, 0, 1, 2, 3, 4) == pytest.approx(expected)


@pytest.mark.parametrize("cls", [PolynomialDecay, Rex])
def test_final_lr_above_max_lr_is_refused(cls):
    with pytest.raises(SpecError, match=rf"{cls.__name__}\.final_lr must be ≤ max_lr \(0\.1\)"):
        cls(max_lr=0.1, final_lr=0.2, total_steps=5)


def test_inverse_sqrt_warms_up_and_declines():
    schedule = InverseSqrt(max_lr=0.5, warmup_steps=4)
    expected = [0.0, 0.25, 0.5, 0.5 * math.sqrt(4 / 5), 0.25, 0.05]
    assert _at(schedule, 0, 2, 4, 5, 16, 400) == pytest.approx(expected)


def test_noam_peaks_at_the_last_warmup_update():
    schedule = Noam(d_model=512, warmup_steps=4000)
    formula = [512**-0.5 * min(n**-0.5, n * 4000**-1.5) for n in (1, 3999, 4000, 4001, 100_000)]
    assert _at(schedule, 0, 3998, 3999, 4000, 99_999) == pytest.approx(formula)
    assert schedule(3999) > max(schedule(3998), schedule(4000))


def test_the_paper_s_decay_policy_is_a_linear_sweep():
    """max to base over stepsize steps, then base (arXiv 1506.01186, section 4.1.1)."""
    schedule = LinearSweep(start_lr=0.007, end_lr=0.001, steps=4000, endpoint=False)
    assert _at(schedule, 0, 2000, 4000, 25_000) == pytest.approx([0.007, 0.004, 0.001, 0.001])
