"""Probes: the estimate on losses whose optimal rate is known, norms, sampling, resumption."""

import math

import pytest
import torch
from torch import nn

from cyclr.training.probes import Probes, Seen


def _descend(
    curvature: torch.Tensor, lr: float, steps: int, every: int = 3, **probe: int
) -> tuple[Probes, list[dict[str, float]]]:
    """Gradient descent on ½ Σ h θ², probed."""
    theta = nn.Parameter(torch.linspace(1.0, 2.0, len(curvature)))
    probes = Probes([theta], every)
    optimizer = torch.optim.SGD([theta], lr=lr)
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        (0.5 * curvature * theta**2).sum().backward()
        due = probes.due(step)
        if due:
            probes.before(step, lr)
        optimizer.step()
        seen = probes.after() if due else None
        if seen is not None:
            found.append(probes.read(seen))
    return probes, found


@pytest.mark.parametrize("h", [0.25, 1.0, 8.0])
@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_on_a_quadratic_the_estimate_is_the_rate_that_reaches_the_minimum_at_once(
    h: float, lr: float
) -> None:
    _, found = _descend(torch.full((5,), h), lr, steps=30)
    assert len(found) == 10
    # Differences of nearly equal numbers lose digits in single precision.
    assert [f["optimal_lr"] for f in found] == pytest.approx([1 / h] * 10, rel=0.02)
    theta = nn.Parameter(torch.ones(5))
    optimizer = torch.optim.SGD([theta], lr=found[0]["optimal_lr"])
    (0.5 * h * theta**2).sum().backward()
    optimizer.step()
    assert float(theta.detach().abs().max()) < 0.05


def test_with_several_curvatures_it_is_the_ratio_of_the_sums() -> None:
    curvature = torch.tensor([1.0, 4.0])
    _, (first, *_) = _descend(curvature, 0.01, steps=3)
    theta, lr = torch.linspace(1.0, 2.0, 2), 0.01
    one = theta - lr * curvature * theta
    two = one - lr * curvature * one
    expected = lr * (one - theta).abs().sum() / (2 * one - theta - two).abs().sum()
    assert first["optimal_lr"] == pytest.approx(float(expected), rel=1e-3)
    assert 0.25 < first["optimal_lr"] < 1.0


def test_norms_are_those_of_the_first_update() -> None:
    curvature = torch.tensor([1.0, 4.0])
    _, (first, *_) = _descend(curvature, 0.01, steps=3)
    theta = torch.linspace(1.0, 2.0, 2)
    gradient = curvature * theta
    assert first["grad_norm"] == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert first["update_ratio"] == pytest.approx(
        float(0.01 * gradient.norm() / theta.norm()), rel=1e-3
    )


def test_a_scaled_gradient_is_scaled_back() -> None:
    theta = nn.Parameter(torch.ones(4))
    theta.grad = torch.full((4,), 512.0)
    probes = Probes([theta], 3)
    probes.before(0, 0.1, grad_scale=256.0)
    theta.data += 0.1
    assert probes.after() is None
    theta.data += 0.05
    found = probes.after()
    assert found is not None
    assert probes.read(found)["grad_norm"] == pytest.approx(4.0)


def _seen(optimal_lr: float) -> Seen:
    """A probe that found an estimate, at a rate of 1."""
    bend = 1 / optimal_lr if optimal_lr else 0.0
    return Seen(torch.tensor([1.0, 1.0, 1.0, 1.0, bend]), 1.0)


def test_the_mean_starts_at_a_tenth_and_takes_a_tenth_of_each() -> None:
    probes = Probes([nn.Parameter(torch.ones(1))], 3)
    first = probes.read(_seen(2.0))
    assert first["optimal_lr"] == pytest.approx(2.0)
    assert first["optimal_lr_mean"] == pytest.approx(0.1 * 2.0 + 0.9 * 0.1)
    second = probes.read(_seen(1.0))["optimal_lr_mean"]
    assert second == pytest.approx(0.1 * 1.0 + 0.9 * 0.29)
    straight = probes.read(_seen(0.0))  # parameters that did not bend: no estimate
    assert straight["optimal_lr"] == math.inf
    assert straight["optimal_lr_mean"] == second


def test_it_is_due_for_two_updates_of_every_so_many() -> None:
    theta = nn.Parameter(torch.ones(2))
    theta.grad = torch.ones(2)
    probes = Probes([theta], 5)
    due = []
    for step in range(11):
        if probes.due(step):
            due.append(step)
            probes.before(step, 0.1)
            probes.after()
    assert due == [0, 1, 5, 6, 10]


def test_a_skipped_update_gives_the_probe_up() -> None:
    theta = nn.Parameter(torch.ones(2))
    theta.grad = torch.ones(2)
    probes = Probes([theta], 5)
    probes.before(0, 0.1)
    probes.skip()
    assert not probes.due(1)
    assert probes.after() is None


def test_parameters_that_are_frozen_are_left_out() -> None:
    moving, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3), requires_grad=False)
    probes = Probes([moving, frozen], 3)
    moving.grad = torch.ones(2)
    probes.before(0, 0.1)
    assert probes.state_dict()["thetas"][0].shape == (2,)


def test_a_probe_in_progress_is_gone_on_with() -> None:
    theta = nn.Parameter(torch.tensor([1.0, 2.0]))
    theta.grad = torch.ones(2)
    whole, cut = Probes([theta], 5), Probes([theta], 5)
    whole.before(0, 0.1)
    theta.data -= 0.1
    whole.after()
    whole.read(_seen(3.0))
    cut.load_state_dict(whole.state_dict())
    assert cut.due(1)
    theta.data -= 0.05
    one, two = whole.after(), cut.after()
    assert one is not None
    assert two is not None
    assert cut.read(two) == whole.read(one)
