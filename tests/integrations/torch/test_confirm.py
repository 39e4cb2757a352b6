"""A second sweep over real small trainings: what it costs and concludes; nothing is left of it."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from cyclr.errors import DataError, InputError, SpecError
from cyclr.integrations.torch import Scheduler, confirm, range_test
from cyclr.rangetest import Outcome, Reading
from cyclr.rangetest.confirm import second_sweep, settle
from cyclr.schedules import Constant, ExponentialSweep


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


def _reading(max_lr: float, **changes) -> Reading:
    facts = {"name": "SGD", "momentum": 0.9}
    made = Reading(
        base_lr=max_lr / 4, max_lr=max_lr, rule="basin", outcome=Outcome.DIVERGED, optimizer=facts
    )
    return dataclasses.replace(made, **changes)


def _update(loss_fn):
    def update(model, optimizer, batch):
        optimizer.zero_grad()
        loss = loss_fn(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    return update


def test_the_sweep_is_the_one_that_was_planned() -> None:
    confirmed = confirm(_reading(0.02), *_parts(), total_steps=300)
    record = confirmed.second
    assert record.sweep == ExponentialSweep(start_lr=0.002, end_lr=0.6, steps=60)
    assert record.lr == pytest.approx([record.sweep(k) for k in range(len(record))])
    assert (record.steps_per_epoch, record.optimizer["momentum"]) == (16, 0.9)
    assert record.way_back.lr == record.scout.lr == ()  # it is run as it was planned, and no more
    assert confirmed.rule == "basin confirmed"
    assert confirmed.updates == record.updates == len(record)


def test_a_reading_by_a_validation_loss_is_confirmed_by_that() -> None:
    model, optimizer, loader, loss_fn = _parts()
    inputs, targets = torch.randn(64, 16), torch.randint(2, (64,))

    def validate(net):
        return {"val_loss": float(loss_fn(net(inputs), targets))}

    parts = (model, optimizer, loader, loss_fn)
    reading = range_test(*parts, validate=validate).read()
    assert reading.metric == "val_loss"  # an epoch has sixteen updates
    confirmed = confirm(reading, *parts, total_steps=900, validate=validate)
    assert confirmed.metric == "val_loss"
    assert confirmed.second.metrics["val_loss"].steps == tuple(range(len(confirmed.second)))
    with pytest.raises(InputError, match=r"validate is missing: the reading is by val_loss, and"):
        confirm(reading, *parts, total_steps=900)
    steps = []  # it is told after the first update
    words = "validate must give val_loss, which the reading is by, got val_f1"
    with pytest.raises(InputError, match=words):
        confirm(
            reading,
            *parts,
            total_steps=900,
            train_step=None,
            validate=lambda _: steps.append(1) or {"val_f1": 0.5},
        )
    assert len(steps) == 1


def test_a_reading_far_too_low_is_raised() -> None:
    confirmed = confirm(_reading(1e-3), *_parts(), total_steps=600)
    # At 0.03, where the second sweep ends, nothing has gone wrong yet.
    assert confirmed.second.outcome is Outcome.COMPLETED
    assert confirmed.max_lr == pytest.approx(1e-3 * (30 / 2.75) ** 0.5, rel=0.1)
    assert confirmed.base_lr == pytest.approx(confirmed.max_lr / 4)
    assert "still low at the end" in confirmed.caveats[0]
    assert "sweeps disagree: max_lr is 0.001 by the first" in confirmed.caveats[1]


def test_a_reading_below_the_edge_is_left() -> None:
    confirmed = confirm(_reading(0.1), *_parts(), total_steps=600)
    assert confirmed.max_lr == pytest.approx(0.1, rel=0.25)
    assert confirmed.second.outcome is Outcome.DIVERGED
    assert confirmed.caveats == ()


def test_a_reading_beyond_the_edge_is_lowered() -> None:
    confirmed = confirm(_reading(2.0), *_parts(), total_steps=600)
    assert 0.4 < confirmed.max_lr < 1.2
    assert any("sweeps disagree: max_lr is 2 by the first" in c for c in confirmed.caveats)


@pytest.mark.parametrize(
    ("max_lr", "outcome"), [(1e3, Outcome.DIVERGED), (1e12, Outcome.NON_FINITE)]
)
def test_a_rate_that_explodes_at_once_is_divided_by_ten(max_lr: float, outcome) -> None:
    confirmed = confirm(_reading(max_lr), *_parts(), total_steps=600)
    assert confirmed.second.outcome is outcome
    assert (confirmed.base_lr, confirmed.max_lr) == pytest.approx((max_lr / 40, max_lr / 10))
    [caveat] = confirmed.caveats
    assert "both bounds were divided by ten" in caveat


def test_a_loss_that_does_not_move_changes_nothing() -> None:
    model, optimizer, loader, _ = _parts()
    confirmed = confirm(
        _reading(0.1), model, optimizer, loader, lambda out, _: 0 * out.sum() + 1, total_steps=600
    )
    assert confirmed.max_lr == 0.1
    [caveat] = confirmed.caveats
    assert "the bounds stay as they were: the loss is 1 at every rate" in caveat


@pytest.mark.parametrize(("total_steps", "most"), [(750, 150), (1000, 200), (10_000, 238)])
def test_both_sweeps_stay_within_a_fifth_of_the_budget(total_steps: int, most: int) -> None:
    parts = _parts(seed=1)
    record = range_test(*parts, steps=60)
    reading = record.read()
    confirmed = confirm(reading, *parts, total_steps=total_steps)
    assert confirmed.updates == record.updates + len(confirmed.second) <= most
    assert second_sweep(reading, total_steps).steps == min(112, total_steps // 5 - record.updates)
    # Both saw the same training, and agree within a factor of three.
    assert not any("disagree" in caveat for caveat in confirmed.caveats)
    assert reading.max_lr / 2 < confirmed.max_lr < 2 * reading.max_lr


def test_it_is_what_the_two_parts_for_any_framework_come_to() -> None:
    reading = _reading(0.1)
    model, optimizer, loader, loss_fn = _parts()
    sweep = second_sweep(reading, 600, 0.12)
    record = range_test(model, optimizer, loader, loss_fn, sweep=sweep)
    by_hand = settle(reading, record)
    confirmed = confirm(reading, *_parts(), total_steps=600, share=0.12)
    assert sweep.total_steps == 72
    assert confirmed == by_hand
    assert confirmed.second.to_dict() == record.to_dict()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("max_lr", [0.05, 1e12])
def test_training_after_it_is_training_without_it(norm: bool, max_lr: float) -> None:
    def train(confirmed: bool):
        model, optimizer, loader, loss_fn = _parts(norm)
        scheduler = Scheduler(optimizer, Constant(value=0.05))
        for epoch in range(2):
            if confirmed and epoch == 1:  # in the middle, with momentum in the optimizer
                confirm(_reading(max_lr), model, optimizer, loader, loss_fn, total_steps=300)
            for inputs, targets in loader:
                optimizer.zero_grad()
                loss_fn(model(inputs), targets).backward()
                optimizer.step()
                scheduler.step()
        assert scheduler.last_epoch == 2 * len(loader)
        states = [state["momentum_buffer"] for state in optimizer.state.values()]
        return [*model.state_dict().values(), *states, torch.rand(3), next(iter(loader))[0]]

    plain, after = train(False), train(True)
    assert len(plain) == len(after)
    assert all(torch.equal(a, b) for a, b in zip(plain, after, strict=True))


def test_nothing_is_left_when_it_is_interrupted() -> None:
    model, optimizer, loader, loss_fn = _parts()
    before = copy.deepcopy(model.state_dict())
    seen = []

    def stop(test) -> None:
        seen.append(test.step)
        if test.step == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        confirm(_reading(0.1), model, optimizer, loader, loss_fn, total_steps=600, on_step=stop)
    assert seen == list(range(1, 31))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_both_sweeps_see_the_same_batches() -> None:
    model, optimizer, loader, loss_fn = _parts()
    seen: list[float] = []
    update = _update(loss_fn)

    def step(model, optimizer, batch):
        seen.append(float(batch[0].sum()))
        return update(model, optimizer, batch)

    sweep = ExponentialSweep(start_lr=1e-6, end_lr=1e-2, steps=44)
    reading = range_test(model, optimizer, loader, train_step=step, sweep=sweep).read("decade")
    confirm(
        dataclasses.replace(reading, max_lr=1e-3, base_lr=1e-4),
        model,
        optimizer,
        loader,
        train_step=step,
        total_steps=440,
    )
    assert len(seen) == 88
    assert seen[:44] == seen[44:]
    assert len(set(seen)) == 44


def test_a_reading_of_one_group_is_confirmed_by_a_sweep_of_it_alone() -> None:
    def parts():
        model, _, loader, loss_fn = _parts()
        groups = [{"params": model[0].parameters()}, {"params": model[3].parameters(), "lr": 0.01}]
        return model, torch.optim.SGD(groups, lr=0.1, momentum=0.9), loader, loss_fn

    model, optimizer, loader, loss_fn = parts()
    reading = range_test(model, optimizer, loader, loss_fn, group=1, steps=60).read()
    rates: list[tuple[float, float]] = []
    update = _update(loss_fn)

    def step(model, optimizer, batch):
        rates.append(tuple(group["lr"] for group in optimizer.param_groups))
        return update(model, optimizer, batch)

    confirmed = confirm(reading, model, optimizer, loader, train_step=step, total_steps=1000)
    still, swept = zip(*rates, strict=True)
    assert set(still) == {0.1}
    assert swept == pytest.approx(confirmed.second.lr)
    assert swept[0] == pytest.approx(reading.max_lr / 10)
    assert confirmed.optimizer["group"] == confirmed.second.optimizer["group"] == 1
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]


def test_the_ratios_between_groups_are_kept() -> None:
    model, _, loader, loss_fn = _parts()
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters(), "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    rates: list[tuple[float, float]] = []
    update = _update(loss_fn)

    def step(model, optimizer, batch):
        rates.append(tuple(group["lr"] for group in optimizer.param_groups))
        return update(model, optimizer, batch)

    confirm(_reading(0.02), model, optimizer, loader, train_step=step, total_steps=300)
    assert rates[0] == pytest.approx((0.002, 0.0002))
    assert [low / high for high, low in rates] == pytest.approx([0.1] * len(rates))


def test_several_models_with_an_optimizer_each() -> None:
    body, _, loader, loss_fn = _parts()
    head = nn.Linear(2, 2)
    optimizers = [torch.optim.SGD(body.parameters(), 0.1), torch.optim.SGD(head.parameters(), 0.05)]
    before = copy.deepcopy(head.state_dict())

    def step(models, optimizers, batch):
        loss = loss_fn(models[1](models[0](batch[0])), batch[1])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss

    reading = _reading(0.02)
    confirmed = confirm(reading, [body, head], optimizers, loader, train_step=step, total_steps=300)
    assert confirmed.second.optimizer["name"] == "SGD"
    assert confirmed.second.lr[0] == pytest.approx(0.002)
    assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())


def test_updates_are_made_as_range_test_makes_them() -> None:
    model, optimizer, loader, loss_fn = _parts()
    options = {"accumulate": 2, "max_grad_norm": 0.01}
    confirmed = confirm(
        _reading(0.1), model, optimizer, loader, loss_fn, total_steps=300, **options
    )
    facts = confirmed.second.optimizer
    assert {name: facts[name] for name in options} == options
    assert confirmed.second.steps_per_epoch == 8
    # So small a gradient moves nothing at rates that explode without: see above.
    assert confirmed.second.outcome is Outcome.COMPLETED


def test_a_confirmed_reading_survives_its_file(tmp_path) -> None:
    confirmed = confirm(_reading(0.1), *_parts(), total_steps=300)
    confirmed.save(tmp_path / "reading.json")
    loaded = Reading.load(tmp_path / "reading.json")
    assert loaded == confirmed
    assert loaded.second.to_dict() == confirmed.second.to_dict()
    assert loaded.second.read("edge").max_lr == confirmed.second.read("edge").max_lr


def test_it_refuses_what_it_cannot_do() -> None:
    model, optimizer, loader, loss_fn = _parts()
    parts = (model, optimizer, loader, loss_fn)
    with pytest.raises(InputError, match="total_steps must be ≥ 190"):
        confirm(_reading(0.1), *parts, total_steps=189)
    with pytest.raises(InputError, match="total_steps must be ≥ 680"):
        confirm(_reading(0.1, updates=98), *parts, total_steps=679)
    with pytest.raises(InputError, match="reading must be a cyclr reading"):
        confirm({"max_lr": 0.1}, *parts, total_steps=500)
    record = range_test(*parts, sweep=ExponentialSweep(start_lr=1e-3, end_lr=0.1, steps=20))
    with pytest.raises(InputError, match=r"reading must be a cyclr reading.*record\.read\(\)"):
        confirm(record, *parts, total_steps=500)
    again = confirm(_reading(0.1), *parts, total_steps=500)
    with pytest.raises(InputError, match="not confirmed yet, got 'basin confirmed'"):
        confirm(again, *parts, total_steps=5000)
    with pytest.raises(SpecError, match="share must be"):
        confirm(_reading(0.1), *parts, total_steps=500, share=1.0)
    with pytest.raises(SpecError, match="total_steps must be"):
        confirm(_reading(0.1), *parts, total_steps=0)
    with pytest.raises(DataError, match="iterator"):
        confirm(_reading(0.1), model, optimizer, iter(loader), loss_fn, total_steps=500)
    with pytest.raises(DataError, match="empty"):
        confirm(_reading(0.1), model, optimizer, [], loss_fn, total_steps=500)
    lost = _reading(0.1, optimizer={"name": "SGD", "group": 3})
    with pytest.raises(InputError, match="group must be from 0 to 0, got 3"):
        confirm(lost, *parts, total_steps=500)
