"""What is measured along a run."""

import pytest
import torch
from torch import nn

from cyclr.errors import InputError
from cyclr.experiments.measures import HessianFree, Snapshots, make_measures


class _Weights(nn.Module):
    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(values)
        self.register_buffer("running", torch.full((100,), 1e6))


def _descend(curvature: list[float], lr: float, steps: int, measure: HessianFree) -> None:
    """Gradient descent on ½ Σ h θ², shown to the measure."""
    h = torch.tensor(curvature, dtype=torch.float64)
    net = _Weights(torch.ones_like(h))
    for step in range(steps):
        with torch.no_grad():
            net.theta -= lr * h * net.theta
        measure.after_step(step, lr, net)


def test_on_a_parabola_the_estimate_is_the_inverse_of_the_curvature() -> None:
    measure = HessianFree(every=1)
    _descend([4.0], 0.01, 5, measure)
    estimates = [row[2] for row in measure.result()["rows"]]
    assert estimates == pytest.approx([0.25] * 3)


def test_sums_go_over_all_parameters() -> None:
    measure = HessianFree(every=1)
    _descend([1.0, 10.0], 0.01, 3, measure)
    a, b = 1.0 * 0.99, 10.0 * 0.9  # |θ₁ − θ₀| per unit of lr, from θ₀ after the first update
    bend = 0.01 * (1.0 * a + 10.0 * b)
    assert measure.result()["rows"][0][2] == pytest.approx(0.01 * (a + b) / bend)


def test_the_average_starts_at_a_tenth_and_takes_a_tenth_of_each_estimate() -> None:
    measure = HessianFree(every=1)
    _descend([4.0], 0.01, 4, measure)
    averages = [row[3] for row in measure.result()["rows"]]
    first = 0.1 * 0.25 + 0.9 * 0.1
    assert averages == pytest.approx([first, 0.1 * 0.25 + 0.9 * first])


def test_it_looks_every_so_often_and_until_an_end() -> None:
    measure = HessianFree(every=2, until=9)
    _descend([4.0], 0.01, 20, measure)
    assert [row[0] for row in measure.result()["rows"]] == [4, 6, 8]


def test_weights_that_stand_still_give_nan() -> None:
    measure = HessianFree(every=1)
    for step in range(3):
        measure.after_step(step, 0.1, _Weights(torch.ones(2)))
    assert measure.result()["rows"][0][2] != measure.result()["rows"][0][2]


def test_long_series_are_thinned() -> None:
    measure = HessianFree(every=1)
    _descend([0.001], 0.01, 1000, measure)
    assert 300 < len(measure.result()["rows"]) <= 400


def test_snapshots_are_judged_alone_and_together() -> None:
    labels = torch.tensor([0, 1, 1])
    first = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    second = torch.tensor([[0.4, 0.6], [0.0, 1.0], [0.6, 0.4]])
    snapshots = Snapshots()
    snapshots.at_stop(10, first, labels)
    snapshots.at_stop(30, second, labels)
    result = snapshots.result()
    assert result["steps"] == [10, 30]
    assert result["single"] == pytest.approx([2 / 3, 1 / 3])
    assert result["last"] == pytest.approx([1 / 3, 2 / 3])  # mean: [.65 .35], [.45 .55], [.5 .5]


def test_no_snapshots_are_no_error() -> None:
    assert Snapshots().result() == {"steps": [], "single": [], "last": []}


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(InputError, match=r"run\.measures must be among hessian_free, "):
        make_measures(["sharpness"])
