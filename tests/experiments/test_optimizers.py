"""Caffe's update, by hand and against torch's."""

from typing import Any

import pytest
import torch

from cyclr import Constant, MultiStep, Recipe
from cyclr.errors import InputError
from cyclr.experiments.nets import make_net
from cyclr.experiments.nets.rates import parameter_groups
from cyclr.experiments.optimizers import CaffeSGD, make_optimizer
from cyclr.experiments.trainer import follow


def _follow_by_hand(rates: list[float], nesterov: bool) -> tuple[list[float], list[float]]:
    """One weight of 1 with gradients 1, 2, 3, …: CaffeSGD, and the arithmetic written out."""
    p = torch.ones(1, requires_grad=True)
    optimizer = CaffeSGD([p], momentum=0.5, weight_decay=0.1, nesterov=nesterov)
    w, v, ours, by_hand = 1.0, 0.0, [], []
    for i, lr in enumerate(rates):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.tensor([i + 1.0])
        optimizer.step()
        before, v = v, 0.5 * v + lr * (i + 1 + 0.1 * w)
        w -= 1.5 * v - 0.5 * before if nesterov else v
        ours.append(float(p.detach()))
        by_hand.append(w)
    return ours, by_hand


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_update_is_caffes(nesterov: bool) -> None:
    ours, by_hand = _follow_by_hand([0.1, 0.1, 0.01, 0.3, 0.0], nesterov)
    assert ours == pytest.approx(by_hand, rel=1e-6)


def test_after_a_drop_the_old_rate_lives_on_in_the_velocity() -> None:
    def last_step(cls: Any) -> float:
        p = torch.zeros(1, requires_grad=True)
        optimizer = cls([p], lr=1.0, momentum=0.9)
        for lr in (1.0, 1.0, 0.0):
            optimizer.param_groups[0]["lr"] = lr
            p.grad = torch.ones(1)
            before = float(p.detach())
            optimizer.step()
        return float(p.detach()) - before

    assert last_step(CaffeSGD) == pytest.approx(-0.9 * 1.9)
    assert last_step(torch.optim.SGD) == 0.0


@pytest.mark.parametrize("nesterov", [False, True])
def test_at_a_constant_rate_it_is_torchs_sgd(nesterov: bool) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(5), torch.randn(20, 5)
    ends = []
    for cls in (CaffeSGD, torch.optim.SGD):
        p = start.clone().requires_grad_()
        optimizer = cls([p], lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
        for gradient in gradients:
            p.grad = gradient.clone()
            optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(ends[0], ends[1])


def test_a_parameter_without_a_gradient_is_left_alone_and_a_closure_is_called() -> None:
    still, moved = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = CaffeSGD([still, moved], lr=0.5, momentum=0.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = moved.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert (still.item(), moved.item()) == (1.0, 0.5)
    optimizer.zero_grad()
    assert optimizer.step() is None
    assert moved.item() == 0.5


def test_multipliers_become_groups() -> None:
    net = make_net({"kind": "cifar10_full"})
    groups = parameter_groups(net, 0.004)
    names = {id(p): name for name, p in net.named_parameters()}
    found = {
        (group["lr_mult"], group["weight_decay"]): sorted(names[id(p)] for p in group["params"])
        for group in groups
    }
    assert found == {
        (1.0, 0.004): ["conv1.weight", "conv2.weight", "conv3.bias", "conv3.weight"],
        (2.0, 0.004): ["conv1.bias", "conv2.bias"],
        (1.0, 1.0): ["ip1.weight"],
        (2.0, 0.0): ["ip1.bias"],
    }


def test_the_schedule_is_the_rate_of_a_multiplier_of_one() -> None:
    net = make_net({"kind": "cifar10_full"})
    optimizer = make_optimizer(net, {"kind": "caffe_sgd", "weight_decay": 0.004})
    schedule = MultiStep(max_lr=0.001, factor=0.1, boundaries=(1,))
    scheduler = follow(optimizer, Recipe(lr=schedule, total_steps=2))

    def rates() -> set[tuple[float, float]]:
        return {(g["lr_mult"], round(g["lr"], 9)) for g in optimizer.param_groups}

    assert rates() == {(1.0, 0.001), (2.0, 0.002)}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    scheduler.step()
    assert rates() == {(1.0, 0.0001), (2.0, 0.0002)}


def test_momentum_can_be_scheduled() -> None:
    net = make_net({"kind": "cifar10_quick"})
    optimizer = make_optimizer(net, {"kind": "caffe_sgd", "momentum": 0.9})
    follow(optimizer, Recipe(lr=Constant(value=0.1), momentum=Constant(value=0.85), total_steps=2))
    assert {group["momentum"] for group in optimizer.param_groups} == {0.85}


@pytest.mark.parametrize("kind", ["caffe_sgd", "sgd", "adam", "rmsprop", "adagrad", "adadelta"])
def test_every_kind_makes_an_update(kind: str) -> None:
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 1)
    optimizer = make_optimizer(net, {"kind": kind, "weight_decay": 0.01})
    before = net.weight.detach().clone()
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(net.weight, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "lion"}, "optimizer.kind must be one of adadelta, adagrad, "),
        ({"kind": "adam", "momentum": 0.9}, "optimizer 'adam' cannot be made: "),
        ({"kind": "sgd", "momentum": -1.0}, "optimizer 'sgd' cannot be made: Invalid momentum"),
    ],
)
def test_what_is_no_optimizer_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_optimizer(torch.nn.Linear(2, 1), settings)
