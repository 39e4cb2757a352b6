"""The torch range test: what it records, and that it leaves no trace."""

import copy
import math
import re

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cyclr import ExponentialSweep, LinearSweep, Outcome, RangeTest
from cyclr.errors import DataError, InputError
from cyclr.integrations.torch import range_test
from cyclr.training import make_loader

LOSS = nn.functional.cross_entropy


@pytest.fixture(scope="module")
def digits():
    inputs, labels = load_digits(return_X_y=True)
    return torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(labels)


def _net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
    )


def _sgd(model, **options):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.05, "momentum": 0.9, **options})


def _loaders(digits):
    data = TensorDataset(*digits)
    return {
        "plain": lambda: DataLoader(data, batch_size=64, shuffle=True),
        "generator": lambda: DataLoader(
            data, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(5)
        ),
        "workers": lambda: DataLoader(
            data, batch_size=64, shuffle=True, num_workers=1, persistent_workers=True
        ),
        "stateful": lambda: make_loader(digits, 64, seed=3),
        "list": lambda: [(digits[0][i : i + 64], digits[1][i : i + 64]) for i in range(0, 640, 64)],
    }


def _train(model, optimizer, stream, steps):
    losses = []
    for _ in range(steps):
        inputs, targets = next(stream)
        optimizer.zero_grad()
        loss = LOSS(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _endless(loader):
    while True:
        yield from loader


class Boom(Exception):
    pass


def _boom_at(step):
    def on_step(test):
        if test.step == step:
            raise Boom

    return on_step


def _interrupt_at(step):
    def on_step(test):
        if test.step == step:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize("kind", ["plain", "generator", "workers", "stateful", "list"])
@pytest.mark.parametrize("ending", ["completed", "diverged", "non_finite", "exception", "ctrl-c"])
def test_training_that_follows_is_bit_identical(digits, kind, ending) -> None:
    """Train a while, maybe run a range test in the middle of an epoch, and train on."""

    def whole(with_test: bool):
        model = _net()
        optimizer = _sgd(model)
        torch.manual_seed(7)
        loader = _loaders(digits)[kind]()
        stream = _endless(loader)
        losses = _train(model, optimizer, stream, 5)
        if with_test:
            end = {"diverged": 1e3, "non_finite": 1e38}.get(ending, 1.0)
            sweep = ExponentialSweep(start_lr=1e-4, end_lr=end, steps=30)
            stop = {
                "exception": (Boom, _boom_at(8)),
                "ctrl-c": (KeyboardInterrupt, _interrupt_at(8)),
            }
            if ending in stop:
                error, on_step = stop[ending]
                with pytest.raises(error):
                    range_test(model, optimizer, loader, LOSS, sweep=sweep, on_step=on_step)
            else:
                test = RangeTest(sweep, stop_on_divergence=ending == "diverged")
                record = range_test(model, optimizer, loader, LOSS, sweep=test)
                assert record.outcome == Outcome(ending)
        losses += _train(model, optimizer, stream, 30)
        return losses, model.state_dict(), optimizer.state_dict()

    losses, weights, state = whole(with_test=False)
    losses_after, weights_after, state_after = whole(with_test=True)
    assert losses_after == losses
    assert all(torch.equal(weights[name], weights_after[name]) for name in weights)
    for key, entry in state["state"].items():
        assert torch.equal(entry["momentum_buffer"], state_after["state"][key]["momentum_buffer"])
    assert state["param_groups"] == state_after["param_groups"]


def test_the_record_pairs_each_rate_with_its_update(digits) -> None:
    """Replay the sweep by hand."""
    model = _net()
    model[3].p = 0.0
    optimizer = _sgd(model, momentum=0.0)
    batches = [(digits[0][i : i + 64], digits[1][i : i + 64]) for i in range(0, 640, 64)]
    by_hand = copy.deepcopy(model).train()
    sweep = ExponentialSweep(start_lr=1e-3, end_lr=0.1, steps=12)
    record = range_test(model, optimizer, batches, LOSS, sweep=sweep)
    for step in range(12):
        inputs, targets = batches[step % 10]
        loss = LOSS(by_hand(inputs), targets)
        assert record.lr[step] == sweep(step)
        assert record.loss[step] == pytest.approx(loss.item(), abs=1e-6)
        grads = torch.autograd.grad(loss, list(by_hand.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(by_hand.parameters(), grads, strict=True):
                parameter -= sweep(step) * grad


def test_the_record_says_what_it_ran_with(digits) -> None:
    model = _net()
    loader = DataLoader(TensorDataset(*digits), batch_size=64)
    record = range_test(model, _sgd(model, weight_decay=1e-3), loader, LOSS, steps=5)
    assert record.optimizer == {"name": "SGD", "momentum": 0.9, "weight_decay": 1e-3}
    assert record.steps_per_epoch == len(loader)
    assert len(record) == 5


def test_linear_sweep_with_validation_accuracy(digits) -> None:
    model = _net()
    inputs, labels = digits

    def validate(net):
        assert not net.training
        assert not torch.is_grad_enabled()
        return {"val_accuracy": (net(inputs).argmax(1) == labels).float().mean().item()}

    record = range_test(
        model,
        _sgd(model),
        DataLoader(TensorDataset(*digits), batch_size=64, shuffle=True),
        LOSS,
        sweep=LinearSweep(start_lr=0.0, end_lr=0.5, steps=60),
        validate=validate,
        validate_every=5,
    )
    series = record.metrics["val_accuracy"]
    assert series.steps == tuple(range(0, 60, 5))
    assert max(series.values) > 0.85
    reading = record.read()
    assert reading.rule == "accuracy"
    assert 0 < reading.base_lr < reading.max_lr <= 0.5


def test_accumulated_micro_batches_equal_the_whole_batch(digits) -> None:
    model = nn.Sequential(nn.Linear(64, 10))  # no BatchNorm, no dropout: equality is exact maths
    whole = [(digits[0][i : i + 64], digits[1][i : i + 64]) for i in range(0, 640, 64)]
    halves = [half for x, y in whole for half in ((x[:32], y[:32]), (x[32:], y[32:]))]
    sweep = ExponentialSweep(start_lr=1e-3, end_lr=1.0, steps=15)
    one = range_test(model, _sgd(model), whole, LOSS, sweep=sweep)
    two = range_test(model, _sgd(model), halves, LOSS, sweep=sweep, accumulate=2)
    assert two.loss == pytest.approx(one.loss, rel=1e-4)
    assert two.steps_per_epoch == one.steps_per_epoch == 10


def test_clipping_keeps_an_explosion_in_bounds(digits) -> None:
    model = nn.Linear(64, 10)
    batches = [(100 * digits[0][:64], digits[1][:64])]
    sweep = ExponentialSweep(start_lr=1e-2, end_lr=10.0, steps=20)
    test = {"sweep": RangeTest(sweep, stop_on_divergence=False)}
    free = range_test(model, _sgd(model), batches, LOSS, **test)
    test = {"sweep": RangeTest(sweep, stop_on_divergence=False)}
    clipped = range_test(model, _sgd(model), batches, LOSS, max_grad_norm=0.01, **test)
    assert max(clipped.loss) < max(free.loss) / 10


@pytest.mark.parametrize("scaler", [None, "scaler"])
def test_bfloat16_autocast_is_close_to_float32(digits, scaler) -> None:
    model = nn.Linear(64, 10)
    batches = [(digits[0][:64], digits[1][:64])]
    sweep = ExponentialSweep(start_lr=1e-3, end_lr=0.1, steps=10)
    seen = []

    def loss_fn(outputs, targets):
        seen.append(outputs.dtype)
        return LOSS(outputs.float(), targets)

    full = range_test(model, _sgd(model), batches, LOSS, sweep=sweep)
    grad_scaler = None if scaler is None else torch.amp.GradScaler("cpu", init_scale=16.0)
    half = range_test(
        model,
        _sgd(model),
        batches,
        loss_fn,
        sweep=sweep,
        autocast=torch.bfloat16,
        scaler=grad_scaler,
    )
    assert set(seen) == {torch.bfloat16}
    assert half.loss == pytest.approx(full.loss, rel=0.03)


def test_a_step_of_your_own_takes_any_batch(digits) -> None:
    model = _net()
    optimizer = _sgd(model)
    batches = [{"x": digits[0][:64], "y": digits[1][:64], "note": "anything"}]

    def train_step(net, opt, batch):
        opt.zero_grad()
        loss = LOSS(net(batch["x"]), batch["y"])
        loss.backward()
        opt.step()
        return loss

    before = copy.deepcopy(model.state_dict())
    record = range_test(model, optimizer, batches, train_step=train_step, steps=40)
    assert record.loss[0] > record.loss[30]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_ratios_between_groups_are_kept(digits) -> None:
    model = _net()
    optimizer = torch.optim.SGD(
        [
            {"params": model[0].parameters(), "lr": 0.01},
            {"params": model[4].parameters(), "lr": 0.1},
        ]
    )
    seen = []
    range_test(
        model,
        optimizer,
        [(digits[0][:64], digits[1][:64])],
        LOSS,
        sweep=LinearSweep(start_lr=0.2, end_lr=0.4, steps=3),
        on_step=lambda _: seen.append([g["lr"] for g in optimizer.param_groups]),
    )
    assert seen == [
        pytest.approx([0.02, 0.2]),
        pytest.approx([0.03, 0.3]),
        pytest.approx([0.04, 0.4]),
    ]
    assert [g["lr"] for g in optimizer.param_groups] == [0.01, 0.1]


def test_nan_from_the_first_step_is_recorded(digits) -> None:
    model = _net()
    batches = [(digits[0][:64] * math.nan, digits[1][:64])]
    record = range_test(model, _sgd(model), batches, LOSS)
    assert record.outcome is Outcome.NON_FINITE
    assert len(record) == 2
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_one_model_and_one_optimizer_may_stand_in_lists(digits) -> None:
    alone, listed = _net(), _net()
    listed.load_state_dict(alone.state_dict())
    one = range_test(alone, _sgd(alone), [digits], LOSS, steps=20)
    assert range_test([listed], [_sgd(listed)], [digits], LOSS, steps=20) == one


class TestBadInput:
    def test_an_empty_loader(self) -> None:
        model = _net()
        with pytest.raises(DataError, match="batches is empty"):
            range_test(model, _sgd(model), [], LOSS)

    def test_an_iterator(self, digits) -> None:
        model = _net()
        with pytest.raises(DataError, match="pass what it was made from"):
            range_test(model, _sgd(model), iter([digits]), LOSS)

    def test_something_that_is_no_data_at_all(self) -> None:
        model = _net()
        with pytest.raises(DataError, match="batches must be re-iterable, got 5"):
            range_test(model, _sgd(model), 5, LOSS)

    def test_a_model_without_parameters(self, digits) -> None:
        other = nn.Linear(1, 1)
        with pytest.raises(InputError, match="the model has no parameters"):
            range_test(nn.ReLU(), _sgd(other), [digits], LOSS)

    def test_neither_loss_nor_step(self, digits) -> None:
        model = _net()
        with pytest.raises(InputError, match="pass exactly one of them"):
            range_test(model, _sgd(model), [digits])

    def test_batches_of_another_form(self) -> None:
        model = _net()
        with pytest.raises(DataError, match="pass train_step=…"):
            range_test(model, _sgd(model), [(1, 2, 3)], LOSS)

    def test_clipping_with_a_step_of_your_own(self, digits) -> None:
        model = _net()
        with pytest.raises(InputError, match="do both in your train_step"):
            range_test(model, _sgd(model), [digits], train_step=lambda *_: 0.0, max_grad_norm=1.0)

    @pytest.mark.parametrize(
        "options", [{"accumulate": 0}, {"max_grad_norm": 0.0}, {"validate_every": 0}]
    )
    def test_a_number_out_of_range_is_named(self, digits, options) -> None:
        model = _net()
        with pytest.raises(InputError, match=next(iter(options))):
            range_test(model, _sgd(model), [digits], LOSS, **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"validate": lambda _: 0.3}, 'must be a mapping of metrics, such as {"val_accuracy"'),
            ({"validate": lambda _: {"loss": 1.0}}, "name it val_loss"),
            ({"validate": 3}, "validate must be a function, got 3"),
            ({"validate_every": 3}, "validate_every needs validate"),
            ({"group": "a"}, "group must be from 0 to 0, got 'a'"),
            ({"autocast": "bf16"}, "pass such as torch.bfloat16"),
            ({"scaler": "x"}, "scaler must be a torch.amp.GradScaler"),
            ({"on_step": 3}, "on_step must be a function, got 3"),
        ],
    )
    def test_natural_mistakes_are_named(self, digits, options, message) -> None:
        model = _net()
        with pytest.raises(InputError, match=re.escape(message)):
            range_test(model, _sgd(model), [digits], LOSS, **options)

    def test_a_loss_that_is_not_reduced(self, digits) -> None:
        model = _net()
        with pytest.raises(InputError, match=r"a loss of shape \(\d+,\); make it .* by \.mean"):
            range_test(
                model, _sgd(model), [digits], nn.CrossEntropyLoss(reduction="none"), steps=20
            )

    def test_a_model_that_is_frozen(self, digits) -> None:
        model = _net().requires_grad_(requires_grad=False)
        with pytest.raises(InputError, match="nothing to train; unfreeze some"):
            range_test(model, _sgd(model), [digits], LOSS)

    def test_an_optimizer_of_another_model(self, digits) -> None:
        with pytest.raises(InputError, match="none of the optimizer's parameters belongs to the"):
            range_test(_net(), _sgd(_net()), [digits], LOSS)

    def test_a_scaler_where_the_optimizer_evaluates_by_itself(self, digits) -> None:
        model = _net()
        lbfgs = torch.optim.LBFGS(model.parameters())
        with pytest.raises(InputError, match="LBFGS evaluates the loss itself"):
            range_test(model, lbfgs, [digits], LOSS, scaler=torch.amp.GradScaler("cpu"))

    def test_several_models_without_a_step(self, digits) -> None:
        models = [_net(), _net()]
        with pytest.raises(InputError, match="with several models range_test cannot know"):
            range_test(models, _sgd(models[0]), [digits], LOSS)

    def test_a_group_that_is_swept_alone_says_its_own_momentum(self, digits) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        groups = [
            {"params": model[1].parameters(), "momentum": 0.9},
            {"params": model[3].parameters(), "momentum": 0.0, "weight_decay": 0.1},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        for group, momentum, decay in ((None, 0.9, 0.0), (0, 0.9, 0.0), (1, 0.0, 0.1)):
            record = range_test(model, optimizer, [digits], LOSS, steps=10, group=group)
            found = record.optimizer
            assert (found["momentum"], found["weight_decay"]) == (momentum, decay)

    def test_a_metric_given_twice(self, digits) -> None:
        model = _net()
        with pytest.raises(InputError, match="train_step and validate both gave 'accuracy'"):
            range_test(
                model,
                _sgd(model),
                [digits],
                train_step=lambda *_: {"loss": 1.0, "accuracy": 0.5},
                validate=lambda _: {"accuracy": 0.5},
            )

    def test_steps_beside_a_sweep(self, digits) -> None:
        model = _net()
        with pytest.raises(InputError, match="set it in your sweep"):
            range_test(
                model,
                _sgd(model),
                [digits],
                LOSS,
                sweep=ExponentialSweep(start_lr=1e-3, end_lr=1.0, steps=3),
                steps=5,
            )
