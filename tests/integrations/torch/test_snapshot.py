"""Snapshots: everything back, exactly, in place."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from cyclr.errors import InputError
from cyclr.integrations.torch import Snapshot


class Counter(nn.Module):
    """A module with extra state, a lazily made buffer and a replaced one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("seen", torch.zeros(1), persistent=False)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.seen = self.seen + 1
        if "late" not in self._buffers:
            self.register_buffer("late", torch.ones(1))
        return self.norm(self.linear(x))

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def _train(model, optimizer, steps=3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 2)).square().sum().backward()
        optimizer.step()


def _everything(model, optimizer):
    """Copy all there is to compare."""
    state = {id(p): copy.deepcopy(dict(s)) for p, s in optimizer.state.items()}
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    return {
        "tensors": {k: v.clone() for k, v in [*model.named_parameters(), *model.named_buffers()]},
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "calls": model.calls,
        "state": state,
        "groups": groups,
    }


def _assert_same(a, b) -> None:
    assert a.keys() == b.keys() if isinstance(a, dict) else len(a) == len(b)
    pairs = [(a[k], b[k]) for k in a] if isinstance(a, dict) else list(zip(a, b, strict=True))
    for x, y in pairs:
        if torch.is_tensor(x):
            assert torch.equal(x, y)
        elif isinstance(x, dict | list):
            _assert_same(x, y)
        else:
            assert x == y


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.AdamW(p, lr=0.1),
        lambda p: torch.optim.Adam(p, lr=torch.tensor(0.1), capturable=False, foreach=False),
        lambda p: torch.optim.LBFGS(p, lr=0.1),
    ],
    ids=["sgd", "adamw", "tensor-lr", "lbfgs"],
)
def test_all_state_comes_back(make, steps_before) -> None:
    torch.manual_seed(0)
    model = Counter()
    optimizer = make(model.parameters())

    def train(steps):
        for _ in range(steps):

            def closure():
                optimizer.zero_grad()
                loss = model(torch.randn(8, 2)).square().sum()
                loss.backward()
                return loss

            optimizer.step(closure)

    train(steps_before)
    model.norm.eval()
    before = _everything(model, optimizer)
    with Snapshot(model, optimizer):
        model.train()
        train(3)
        optimizer.param_groups[0]["lr"] = 55.0
        optimizer.param_groups[0]["novelty"] = 1
    _assert_same(_everything(model, optimizer), before)


def test_parameters_gradients_and_optimizer_state_keep_their_identity() -> None:
    model = Counter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    _train(model, optimizer)
    parameter = model.linear.weight
    grad, buffer = parameter.grad, optimizer.state[parameter]["momentum_buffer"]
    mean = model.norm.running_mean
    with Snapshot(model, optimizer):
        _train(model, optimizer)
        optimizer.zero_grad(set_to_none=True)
    assert model.linear.weight is parameter
    assert parameter.grad is grad
    assert optimizer.state[parameter]["momentum_buffer"] is buffer
    assert model.norm.running_mean is mean


def test_random_generators_come_back() -> None:
    own = torch.Generator().manual_seed(3)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item(), torch.rand(1, generator=own)

    with Snapshot(own):
        first = draw()
    assert draw() == first


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_restores_and_passes_through(error) -> None:
    model = Counter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = _everything(model, optimizer)

    def fail():
        with Snapshot(model, optimizer):
            _train(model, optimizer)
            raise error

    with pytest.raises(error):
        fail()
    _assert_same(_everything(model, optimizer), before)


def test_weights_that_became_nan_come_back() -> None:
    model = Counter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = _everything(model, optimizer)
    with Snapshot(model, optimizer):
        optimizer.param_groups[0]["lr"] = 1e30
        _train(model, optimizer, 5)
        assert torch.isnan(model.linear.weight).any()
    _assert_same(_everything(model, optimizer), before)


def test_anything_with_a_state_dict_comes_back() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with Snapshot(scaler):
        scaler.load_state_dict({**scaler.state_dict(), "scale": 1024.0})
    assert scaler.state_dict()["scale"] == 8.0


def test_restoring_twice_is_the_same_as_once() -> None:
    model = Counter()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = _everything(model, optimizer)
    snapshot = Snapshot(model, optimizer)
    for _ in range(2):
        _train(model, optimizer)
        snapshot.restore()
        _assert_same(_everything(model, optimizer), before)


def test_lazy_parameters_are_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match="run one forward pass first"):
        Snapshot(nn.LazyLinear(3))
