"""Trials on real small trainings: what they cost, what they conclude, and that nothing is left."""

import dataclasses

import pytest
import torch
from torch import nn

from cyclr.errors import DataError, InputError
from cyclr.integrations.torch import Scheduler, confirm, range_test
from cyclr.rangetest import Outcome, Reading
from cyclr.schedules import Constant


def _parts(norm: bool = False, seed: int = 0):
    torch.manual_seed(seed)
    inputs = torch.randn(512, 16)
    targets = (inputs[:, :8].sum(1) > inputs[:, 8:].sum(1)).long()
    layers = [nn.Linear(16, 32), *([nn.BatchNorm1d(32)] if norm else []), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = torch.utils.data.TensorDataset(inputs, targets)
    generator = torch.Generator().manual_seed(seed)
    loader = torch.utils.data.DataLoader(data, 32, shuffle=True, generator=generator)
    return model, optimizer, loader, nn.functional.cross_entropy


def _reading(max_lr: float) -> Reading:
    facts = {"name": "SGD", "momentum": 0.9}
    return Reading(
        base_lr=max_lr / 4, max_lr=max_lr, rule="basin", outcome=Outcome.DIVERGED, optimizer=facts
    )


def test_a_reading_far_too_low_is_raised() -> None:
    confirmed = confirm(_reading(1e-3), *_parts(), total_steps=400)
    assert confirmed.max_lr == pytest.approx(64e-3)  # all of the way
    assert [len(trial.loss) for trial in confirmed.trials] == [26, 26, 26]


def test_a_reading_below_the_edge_is_left() -> None:
    confirmed = confirm(_reading(0.3), *_parts(), total_steps=400)
    assert confirmed.max_lr == 0.3


def test_a_reading_beyond_the_edge_is_lowered() -> None:
    confirmed = confirm(_reading(2.0), *_parts(), total_steps=400)
    assert confirmed.max_lr == pytest.approx(2.0 / 2**0.5)


def test_a_rate_that_explodes_is_lowered() -> None:
    confirmed = confirm(_reading(1e12), *_parts(), total_steps=400)
    assert confirmed.max_lr == 2.5e11
    assert any("diverged" in caveat for caveat in confirmed.caveats)


def test_sweep_and_trials_stay_within_a_fifth_of_the_budget() -> None:
    parts = _parts()
    record = range_test(*parts)
    confirmed = confirm(record.read(), *parts, total_steps=1000)
    assert len(record) + sum(len(trial.loss) for trial in confirmed.trials) <= 200


@pytest.mark.parametrize("norm", [False, True])
def test_training_after_it_is_training_without_it(norm: bool) -> None:
    def train(confirmed: bool) -> list[torch.Tensor]:
        model, optimizer, loader, loss_fn = _parts(norm)
        scheduler = Scheduler(optimizer, Constant(value=0.05))
        if confirmed:
            confirm(_reading(0.05), model, optimizer, loader, loss_fn, total_steps=200)
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss_fn(model(inputs), targets).backward()
            optimizer.step()
            scheduler.step()
        assert scheduler.last_epoch == len(loader)
        return [tensor.clone() for tensor in model.state_dict().values()]

    plain, after = train(False), train(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, after, strict=True))


def test_trials_see_the_same_batches() -> None:
    model, optimizer, loader, loss_fn = _parts()
    seen: list[float] = []

    def step(model, optimizer, batch):
        seen.append(float(batch[0].sum()))
        optimizer.zero_grad()
        loss = loss_fn(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    confirm(_reading(0.01), model, optimizer, loader, total_steps=200, train_step=step)
    assert len(seen) == 39
    assert seen[:13] == seen[13:26] == seen[26:]


def test_it_refuses_what_it_cannot_do() -> None:
    model, optimizer, loader, loss_fn = _parts()
    with pytest.raises(InputError, match="total_steps must be ≥ 150"):
        confirm(_reading(0.1), model, optimizer, loader, loss_fn, total_steps=50)
    with pytest.raises(InputError, match="reading must be a cyclr reading"):
        confirm({"max_lr": 0.1}, model, optimizer, loader, loss_fn, total_steps=500)
    again = dataclasses.replace(_reading(0.1), rule="basin confirmed")
    with pytest.raises(InputError, match="not confirmed yet"):
        confirm(again, model, optimizer, loader, loss_fn, total_steps=500)
    with pytest.raises(ValueError, match="share must be"):
        confirm(_reading(0.1), model, optimizer, loader, loss_fn, total_steps=500, share=1.0)
    with pytest.raises(DataError, match="iterator"):
        confirm(_reading(0.1), model, optimizer, iter(loader), loss_fn, total_steps=500)
