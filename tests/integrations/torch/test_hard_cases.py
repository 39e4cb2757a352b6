"""What other people's models, losses and optimizers hold: put back too, and refused in words."""

import collections
import functools

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from cyclr.errors import InputError, StateError
from cyclr.integrations.torch import Snapshot, range_test
from cyclr.integrations.torch.nonfinite import blames_values
from cyclr.rangetest import Outcome, RangeTest

LOSS = nn.functional.cross_entropy


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def _batches(count: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = torch.randn(count, 16, 6, generator=torch.Generator().manual_seed(1))
    return [(part, part[:, :3].argmax(1)) for part in x]


def _sweep(model: nn.Module, loss: object = LOSS, **options: object) -> object:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return range_test(model, optimizer, _batches(), loss, steps=30, **options)  # type: ignore[arg-type]


class Odd(nn.Module):
    """A net with a tensor that copy_ alone does not fill."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.net, self.calls = _net(), collections.deque([0], maxlen=100)
        self.raw = bytearray(b"ab")
        if what == "expanded buffer":
            self.register_buffer("extra", torch.ones(1).expand(4))
        elif what == "inference buffer":
            with torch.inference_mode():
                self.register_buffer("extra", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(self.calls))
        self.raw.extend(b"c")
        return self.net(x)


@pytest.mark.parametrize("what", ["expanded buffer", "inference buffer", "expanded gradient"])
def test_tensors_that_are_not_plain_come_back_with_all_the_rest(what: str) -> None:
    model = Odd(what)
    if what == "expanded gradient":
        bias = model.net[0].bias
        bias.grad = torch.ones(1).expand(bias.shape)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _sweep(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert list(model.calls) == [0]
    assert model.raw == b"ab"
    if what == "expanded gradient":
        assert torch.equal(bias.grad, torch.ones(bias.shape))


def test_what_cannot_be_put_back_does_not_keep_the_rest_from_it() -> None:
    class Stubborn(nn.Linear):
        def get_extra_state(self) -> int:
            return 1

        def set_extra_state(self, state: int) -> None:
            raise PermissionError("read only")

    model = nn.Sequential(Stubborn(3, 3), nn.Linear(3, 3))
    before = [p.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    memory = Snapshot(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    torch.rand(3)
    message = "1 of the things .* could not be put back, the rest is as it was; the first: Permis"
    with pytest.raises(StateError, match=message):
        memory.restore()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), random)


class Centres:
    """A loss of one's own, an object with a tensor and a counter."""

    def __init__(self) -> None:
        self.centre, self.calls = torch.zeros(3), 0

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.centre += outputs.detach().mean(0)
        self.calls += 1
        return LOSS(outputs, targets)

    def of(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self(outputs, targets)


class Counting(nn.CrossEntropyLoss):
    """A loss that counts in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return super().forward(outputs, targets)


@pytest.mark.parametrize("form", ["object", "bound method", "partial"])
def test_a_loss_that_remembers_is_as_it_was(form: str) -> None:
    loss = Centres()
    forms = {"object": loss, "bound method": loss.of, "partial": functools.partial(loss.of)}
    _sweep(_net(), forms[form])
    assert loss.calls == 0
    assert torch.equal(loss.centre, torch.zeros(3))


def test_a_module_behind_a_partial_function_is_as_it_was() -> None:
    loss = Counting()
    _sweep(_net(), functools.partial(loss))
    assert float(loss.count) == 0


def test_a_validation_that_changes_the_type_leaves_weights_as_they_were() -> None:
    model = _net()
    before = [p.clone() for p in model.parameters()]

    def halve(model: nn.Module) -> dict[str, float]:
        model.half()
        model.float()
        model.half()
        return {"val_loss": 1.0}

    with pytest.raises(RuntimeError):
        _sweep(model, validate=halve)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_a_part_frozen_in_eval_mode_takes_no_part_in_the_sweep() -> None:
    model = _net().train()
    model[1].eval()
    seen = []
    model[1].register_forward_hook(lambda part, *_: seen.append(part.training))
    _sweep(model)
    assert set(seen) == {False}
    model.eval()  # the whole of it, as after a validation, is a mode that was forgotten
    _sweep(model)
    assert seen[-1] is True
    assert model.training is False


@pytest.mark.parametrize(
    ("error", "values"),
    [
        (RuntimeError("replay buffer overflow: capacity 100 reached"), False),
        (ValueError("infinite loader has no length"), False),
        (KeyError("nan"), False),
        (TypeError("inf"), False),
        (RuntimeError("the loss is NaN"), True),
        (RuntimeError("loss exploded"), True),
        (OverflowError("math range error"), True),
    ],
)
def test_a_mistake_in_code_is_not_taken_for_values(error: Exception, values: bool) -> None:
    assert blames_values(error, [_net()]) is values


def test_only_what_is_trained_is_looked_at_for_values() -> None:
    model, error = _net(), RuntimeError("capacity 100 reached")
    model.mask = nn.Parameter(torch.full((3,), -torch.inf), requires_grad=False)
    model[0].weight.grad = torch.full_like(model[0].weight, 1e12)  # of a loss in other units
    assert not blames_values(error, [model])
    model[0].weight.grad[0, 0] = torch.nan
    assert blames_values(error, [model])


def test_accelerates_optimizer_is_swept() -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = _net()
    plain = torch.optim.RAdam(model.parameters(), lr=0.1)
    prepared = accelerate.Accelerator(cpu=True).prepare_optimizer(plain)
    records = [
        range_test(model, optimizer, _batches(), LOSS, steps=30) for optimizer in (prepared, plain)
    ]
    assert records[0] == records[1]
    assert records[0].optimizer["name"] == "RAdam"


def test_hooks_on_every_optimizer_hear_nothing() -> None:
    heard: list[int] = []
    handle = register_optimizer_step_post_hook(lambda *_: heard.append(1))
    try:
        _sweep(_net())
        assert heard == []
        optimizer = torch.optim.SGD(_net().parameters(), lr=0.1)
        optimizer.step()
        assert heard == [1]
    finally:
        handle.remove()


def test_a_group_swept_alone_leaves_a_shared_tensor_rate_to_the_others() -> None:
    model, rate = _net(), torch.tensor(1e-3)
    parts = [{"params": model[0].parameters()}, {"params": model[3].parameters()}]
    optimizer = torch.optim.Adam(parts, lr=rate)
    others = []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: object) -> torch.Tensor:
        inputs, targets = batch  # type: ignore[misc]
        optimizer.zero_grad()
        loss = LOSS(model(inputs), targets)
        loss.backward()
        optimizer.step()
        others.append(float(optimizer.param_groups[1]["lr"]))
        return loss

    range_test(model, optimizer, _batches(), train_step=step, steps=30, group=0)
    assert others == pytest.approx([1e-3] * len(others))
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert float(rate) == pytest.approx(1e-3)


def test_an_optimizer_without_a_rate_is_refused() -> None:
    model = _net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(InputError, match="lr must be a number in every parameter group, got None"):
        range_test(model, optimizer, _batches(), LOSS)


def test_a_range_test_that_has_run_is_refused() -> None:
    test = RangeTest(steps=30)
    _sweep_with = _net()
    optimizer = torch.optim.SGD(_sweep_with.parameters(), lr=0.1)
    record = range_test(_sweep_with, optimizer, _batches(), LOSS, sweep=test)
    assert record.outcome is not Outcome.INTERRUPTED
    with pytest.raises(InputError, match=r"a range test that has made \d+ updates already"):
        range_test(_sweep_with, optimizer, _batches(), LOSS, sweep=test)


def test_a_batch_that_is_not_finite_is_not_sought_at_ever_lower_rates() -> None:
    batches = _batches(8)
    batches[4] = (torch.full((16, 6), torch.nan), batches[4][1])
    batches[5] = batches[4]
    model = _net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    record = range_test(model, optimizer, batches, LOSS)
    assert record.outcome is Outcome.NON_FINITE
    assert [note for note in record.notes if "began again" in note] == [
        "The loss became nan within 6 steps from a rate of 1e-07; the sweep began again from 1e-13."
    ]
