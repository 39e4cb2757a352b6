"""Models that explode, in all the ways that code reacts to it, and models that never do."""

import math
import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.metrics import log_loss
from torch import nn

from cyclr import ExponentialSweep, Outcome, RangeTest
from cyclr.integrations.torch import range_test

LOSS = nn.functional.cross_entropy
WILD = ExponentialSweep(start_lr=1e-2, end_lr=1e30, steps=60)


@pytest.fixture(scope="module")
def batches():
    inputs, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(labels)
    return [(x[i : i + 64], y[i : i + 64]) for i in range(0, 1280, 64)]


def _net(*between: nn.Module) -> nn.Module:
    """Make two linear layers; with nothing between them to go dead, they explode to infinity."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), *between, nn.Linear(32, 10))


def _sgd(model, **options):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})


def _update(model, optimizer, loss) -> torch.Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def _distribution(model, optimizer, batch):
    # Validating is the default until torch.compile is used for the first time in the process.
    choice = torch.distributions.Categorical(logits=model(batch[0]), validate_args=True)
    return _update(model, optimizer, -choice.log_prob(batch[1]).mean())


def _clip(model, optimizer, batch):
    optimizer.zero_grad()
    loss = LOSS(model(batch[0]), batch[1])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e30, error_if_nonfinite=True)
    optimizer.step()
    return loss


def _metric(model, optimizer, batch):
    outputs = model(batch[0])
    log_loss(batch[1], outputs.detach().softmax(1).double(), labels=range(10))
    return _update(model, optimizer, LOSS(outputs, batch[1]))


def _float_to_int(model, optimizer, batch):
    loss = LOSS(model(batch[0]), batch[1])
    int(loss.item())
    return _update(model, optimizer, loss)


def _cholesky(model, optimizer, batch):
    outputs = model(batch[0])
    torch.linalg.cholesky(outputs.T @ outputs + 1e-2 * torch.eye(10))
    return _update(model, optimizer, LOSS(outputs, batch[1]))


def _anomaly(model, optimizer, batch):
    with torch.autograd.detect_anomaly(check_nan=True):
        return _update(model, optimizer, LOSS(model(batch[0]), batch[1]))


def _own_check(model, optimizer, batch):
    loss = LOSS(model(batch[0]), batch[1])
    if not math.isfinite(loss.item()):
        raise RuntimeError("the loss exploded")  # says nothing of NaN, but the weights do
    return _update(model, optimizer, loss)


STEPS = [_distribution, _clip, _metric, _float_to_int, _cholesky, _anomaly, _own_check]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("train_step", STEPS, ids=lambda f: f.__name__.strip("_"))
def test_code_that_raises_at_nan_ends_the_sweep(batches, train_step) -> None:
    model = _net()
    before = [p.clone() for p in model.parameters()]
    test = RangeTest(WILD, stop_on_divergence=False)
    record = range_test(model, _sgd(model), batches, train_step=train_step, sweep=test)
    assert record.outcome is Outcome.NON_FINITE
    assert 5 < len(record) < 60
    assert math.isnan(record.loss[-1])
    (note,) = record.notes
    assert f"Step {len(record) - 1} raised" in note
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shapes do not match"), TypeError])
def test_other_exceptions_come_through_after_everything_is_put_back(batches, error) -> None:
    model = _net()
    before = [p.clone() for p in model.parameters()]
    calls = []

    def train_step(net, optimizer, batch):
        calls.append(1)
        if len(calls) == 9:
            raise error
        return _update(net, optimizer, LOSS(net(batch[0]), batch[1]))

    with pytest.raises(error if isinstance(error, type) else type(error)):
        range_test(model, _sgd(model), batches, train_step=train_step)
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_an_error_about_nan_in_the_first_step_is_the_user_s(batches) -> None:
    model = _net()
    nan = [(x * math.nan, y) for x, y in batches]
    with pytest.raises(ValueError, match="invalid values"):
        range_test(model, _sgd(model), nan, train_step=_distribution)


def test_a_scaler_that_saw_no_gradient_is_a_mistake_and_not_an_overflow(batches) -> None:
    model = _net()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    calls = []

    def train_step(net, optimizer, batch):
        optimizer.zero_grad()
        loss = LOSS(net(batch[0]), batch[1])
        calls.append(1)
        if len(calls) < 4:
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    with pytest.raises(AssertionError, match="No inf checks"):
        range_test(model, _sgd(model), batches, train_step=train_step, scaler=scaler)


def test_a_warning_with_every_step_is_shown_once(batches) -> None:
    model = _net()

    def train_step(net, optimizer, batch):
        loss = _update(net, optimizer, LOSS(net(batch[0]), batch[1]))
        warnings.warn(f"the loss is {loss.item()}", stacklevel=1)
        return loss

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        range_test(model, _sgd(model), batches, train_step=train_step, steps=30)
        assert len(shown) == 1
        for number in range(3):
            warnings.warn(f"afterwards {number}", stacklevel=1)
        assert len(shown) == 4


class TestOwnRange:
    @pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
    @pytest.mark.parametrize("clip", [None, 1.0])
    def test_it_sees_the_turn_within_150_steps(self, batches, make, clip) -> None:
        model = _net(nn.ReLU())
        optimizer = make(model.parameters(), lr=0.1)
        record = range_test(model, optimizer, batches, LOSS, max_grad_norm=clip)
        losses = np.nan_to_num(record.loss, nan=np.inf, posinf=np.inf)
        assert len(record) <= 150
        lowest = int(np.argmin(losses))
        assert losses[lowest] < 2.0
        assert np.median(losses[-5:]) > losses[lowest] + 0.2 * (losses[0] - losses[lowest])
        assert not any("still low" in caveat for caveat in record.read().caveats)

    def test_inputs_so_large_that_the_usual_start_diverges(self) -> None:
        """Regression on raw features times a thousand: 1e-7 is far too much already."""
        x, y = load_diabetes(return_X_y=True, scaled=False)
        batches = [(torch.tensor(1e3 * x).float(), torch.tensor(y).float()[:, None])]
        torch.manual_seed(0)
        model = nn.Linear(10, 1)
        record = range_test(model, _sgd(model, momentum=0.0), batches, nn.functional.mse_loss)
        assert record.lr[0] == pytest.approx(1e-13)
        assert "began again from 1e-13" in record.notes[0]
        reading = record.read()
        # The largest stable rate is two over the Hessian's largest eigenvalue.
        matrix = np.concatenate([1e3 * x, np.ones((len(x), 1))], axis=1)
        stable = 2 / (2 / len(x) * np.linalg.eigvalsh(matrix.T @ matrix).max())
        assert stable / 10 < reading.max_lr < 3 * stable
        spent = re.search(r"within (\d+) steps", record.notes[0])
        assert spent is not None
        assert len(record) + int(spent[1]) <= 150

    def test_a_loss_below_zero(self, batches) -> None:
        model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 2))

        def density(outputs, labels):
            mean, log_scale = outputs.unbind(1)
            normal = torch.distributions.Normal(mean, log_scale.exp().clamp(1e-3, 1e3) / 100)
            return -normal.log_prob(labels * 1e-3).mean() - 5

        record = range_test(model, torch.optim.Adam(model.parameters()), batches, density)
        assert min(x for x in record.loss if math.isfinite(x)) < 0
        assert 50 < len(record) <= 150

    def test_a_full_batch_has_no_noise(self, batches) -> None:
        whole = [tuple(torch.cat(part) for part in zip(*batches, strict=True))]
        model = _net()
        record = range_test(model, _sgd(model), whole, LOSS)
        assert 0.1 < record.scout.lr[-1] < 50
        # Once they are learned by heart, no rate makes the loss of so few examples explode.
        assert record.outcome is Outcome.COMPLETED
        assert record.lr[-1] / record.scout.lr[-1] == pytest.approx(8, rel=0.08)
        assert "learned these batches by heart" in " ".join(record.read().caveats)
