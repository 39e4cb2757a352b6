"""The torch integration, through the public conformance checks."""

import copy

import pytest
import torch
from torch import nn

from cyclr import Recipe
from cyclr.integrations.base import Integration, Interruption
from cyclr.integrations.torch import Scheduler, range_test
from cyclr.testing import check_integration, check_values, recipes


class Torch(Integration):
    def __init__(self, make=lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9)) -> None:
        self.make = make

    def begin(self, recipe) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.optimizer = self.make(self.model.parameters())
        self.scheduler = Scheduler(self.optimizer, recipe)
        self.inputs = torch.randn(8, 3)

    def _train(self, inputs):
        self.optimizer.zero_grad()
        loss = self.model(inputs).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss

    def update(self):
        group = self.optimizer.param_groups[0]
        momentum = group["betas"][0] if "betas" in group else group["momentum"]
        used = {"lr": float(group["lr"]), "momentum": float(momentum)}
        self._train(self.inputs)
        self.scheduler.step()
        return used

    def state(self):
        return {"opt": self.optimizer.state_dict(), "sched": self.scheduler.state_dict()}

    def resume(self, recipe, state) -> None:
        self.begin(recipe)
        self.optimizer.load_state_dict(copy.deepcopy(state["opt"]))
        self.scheduler.load_state_dict(state["sched"])

    def range_test(self, sweep, *, fail_at=None):
        calls = 0

        def step(model, optimizer, batch):
            nonlocal calls
            if calls == fail_at:
                raise Interruption
            calls += 1
            return self._train(batch)

        return range_test(self.model, self.optimizer, [self.inputs], train_step=step, sweep=sweep)

    def fingerprint(self):
        return repr(self.optimizer.state_dict()) + repr(self.model.state_dict())


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9),
        lambda p: torch.optim.AdamW(p, lr=1.0),
        lambda p: torch.optim.Adam(p, lr=torch.tensor(1.0), foreach=False),
        lambda p: torch.optim.RMSprop(p, lr=1.0, momentum=0.9),
    ],
    ids=["sgd", "adamw", "adam-tensor-lr", "rmsprop"],
)
def test_torch_conforms(make) -> None:
    check_integration(Torch(make))


class TestTheChecksCanFail:
    def test_a_scheduler_one_step_late_is_caught(self) -> None:
        class Late(Torch):
            def update(self):
                used = super().update()
                return {**used, "lr": float(self.optimizer.param_groups[0]["lr"])}

        with pytest.raises(AssertionError, match="step 0: lr used"):
            check_values(Late(), recipes()["triangular2"])

    def test_a_resume_from_the_start_is_caught(self) -> None:
        class Forgetful(Torch):
            def resume(self, recipe, state) -> None:
                self.begin(recipe)

        with pytest.raises(AssertionError, match="resumed triangular2, step 6"):
            check_integration(Forgetful())

    def test_a_range_test_that_leaves_a_trace_is_caught(self) -> None:
        class Careless(Torch):
            def range_test(self, sweep, *, fail_at=None):
                record = super().range_test(sweep, fail_at=fail_at)
                self._train(self.inputs)
                return record

        with pytest.raises(AssertionError, match="left a trace"):
            check_integration(Careless())

    def test_momentum_that_stays_is_caught(self) -> None:
        class Still(Torch):
            def update(self):
                return {**super().update(), "momentum": 0.9}

        recipe: Recipe = recipes()["one-cycle"]
        with pytest.raises(AssertionError, match=r"momentum used 0\.9"):
            check_values(Still(), recipe)
