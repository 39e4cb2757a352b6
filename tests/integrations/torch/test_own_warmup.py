"""RAdam's own warmup is divided out, so that sweeps see the rates it later moves at."""

import pytest
import torch
from torch import nn

from cyclr.integrations.torch import confirm, range_test
from cyclr.integrations.torch.own_warmup import share_of_rate
from cyclr.rangetest import Outcome, Reading


def _moved(kind: type[torch.optim.Optimizer], updates: int) -> list[float]:
    """How far each update moves a weight whose gradient is always 1."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = kind([weight], lr=0.01)
    moved = []
    for _ in range(updates):
        before = weight.item()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        moved.append(before - weight.item())
    return moved


def test_the_share_is_radams_step_beside_adams() -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.RAdam([weight], lr=0.01)
    shares = []
    for _ in range(120):
        shares.append(share_of_rate(optimizer, optimizer.param_groups[0]))
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    moved = zip(_moved(torch.optim.RAdam, 120), _moved(torch.optim.Adam, 120), strict=True)
    ratio = [radams / adams for radams, adams in moved]
    assert shares[:5] == [1.0] * 5  # plain momentum still
    assert shares[5:] == pytest.approx(ratio[5:], rel=1e-4)
    assert [round(shares[t - 1], 3) for t in (6, 10, 100)] == [0.026, 0.049, 0.215]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam])
def test_other_optimizers_move_at_their_rate(kind: type[torch.optim.Optimizer]) -> None:
    optimizer = kind([nn.Parameter(torch.zeros(1))])
    assert share_of_rate(optimizer, optimizer.param_groups[0]) == 1.0


def test_a_warm_optimizer_has_nothing_left_to_divide_out() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.RAdam([weight])
    weight.grad = torch.ones(1)
    optimizer.step()
    optimizer.state[weight]["step"] += 50_000
    assert share_of_rate(optimizer, optimizer.param_groups[0]) == pytest.approx(1, abs=1e-6)


def _task(kind: type[torch.optim.Optimizer]) -> tuple[nn.Module, torch.optim.Optimizer, list]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    x = torch.randn(20, 32, 8)
    batches = [(part, part[:, :3].argmax(1)) for part in x]
    return model, kind(model.parameters()), batches


def test_a_sweep_with_radam_reads_what_one_with_adam_does() -> None:
    read = []
    for kind in (torch.optim.Adam, torch.optim.RAdam):
        model, optimizer, batches = _task(kind)
        read.append(range_test(model, optimizer, batches, nn.functional.cross_entropy).read())
    assert read[1].max_lr == pytest.approx(read[0].max_lr, rel=0.2)


def test_a_second_sweep_with_radam_reads_what_one_with_adam_does() -> None:
    loss_fn = nn.functional.cross_entropy
    read = []
    for kind in (torch.optim.Adam, torch.optim.RAdam):
        model, optimizer, batches = _task(kind)
        facts = {"name": kind.__name__, "momentum": 0.9}
        reading = Reading(
            base_lr=0.005, max_lr=0.02, rule="mine", outcome=Outcome.DIVERGED, optimizer=facts
        )
        confirmed = confirm(reading, model, optimizer, batches, loss_fn, total_steps=440)
        assert confirmed.second.optimizer["name"] == kind.__name__
        assert optimizer.param_groups[0]["lr"] == 0.001
        read.append(confirmed.second.read("edge"))
    assert read[1].max_lr == pytest.approx(read[0].max_lr, rel=0.5)
