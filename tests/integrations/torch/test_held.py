"""What models, optimizers, data and losses hold in turn is put back as well."""

import copy
import signal

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from cyclr.errors import InputError, StateError
from cyclr.integrations.torch import Scheduler, Snapshot, confirm, range_test
from cyclr.integrations.torch.attributes import Attributes
from cyclr.integrations.torch.batches import to_device
from cyclr.integrations.torch.interrupts import uninterrupted
from cyclr.integrations.torch.modes import to_training
from cyclr.rangetest import Outcome, Reading
from cyclr.schedules import Chain, ExponentialSweep, Triangular

LOSS = nn.functional.cross_entropy
SWEEP = ExponentialSweep(start_lr=1e-3, end_lr=1.0, steps=12)
_DRAW = torch.Generator().manual_seed(0)
BATCHES = [
    (torch.randn(16, 8, generator=_DRAW), torch.randint(3, (16,), generator=_DRAW))
    for _ in range(5)
]


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def _sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def _update(model, optimizer, batch):
    optimizer.zero_grad()
    loss = LOSS(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


def _values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("traced", [True, False])
def test_compiled_by_torchscript(traced: bool) -> None:
    model = torch.jit.trace(_net().eval(), BATCHES[0][0]) if traced else torch.jit.script(_net())
    before = _values(model)
    range_test(model, _sgd(model), BATCHES, LOSS, sweep=SWEEP)
    assert _same(before, _values(model))


class Counting:
    """Batches that count the rounds when they are left, wherever that is."""

    def __init__(self) -> None:
        self.rounds, self.place = 0, 0

    def __iter__(self):
        try:
            for batch in BATCHES[self.rounds % len(BATCHES) :]:
                self.place += 1
                yield batch
        finally:
            self.rounds += 1


def test_what_cleans_up_after_itself_does_so_before() -> None:
    model, data = _net(), Counting()
    range_test(model, _sgd(model), data, LOSS, sweep=ExponentialSweep(
        start_lr=1e-3, end_lr=1.0, steps=7
    ))  # fmt: skip
    assert (data.rounds, data.place) == (0, 0)


def test_a_second_sweep_sees_the_same_batches_of_it() -> None:
    seen: list[float] = []

    def step(model, optimizer, batch):
        seen.append(float(batch[0].sum()))
        return _update(model, optimizer, batch)

    model, data = _net(), Counting()
    optimizer = _sgd(model)
    range_test(model, optimizer, data, train_step=step, sweep=SWEEP)
    reading = Reading(base_lr=1e-5, max_lr=1e-4, rule="mine", outcome=Outcome.COMPLETED)
    second = confirm(reading, model, optimizer, data, train_step=step, total_steps=300).second
    assert (len(second), len(seen)) == (60, SWEEP.steps + 60)
    assert seen[:12] == seen[12:24]
    assert seen[12:17] != seen[17:22]  # of its second round it left the first batch out
    assert (data.rounds, data.place) == (0, 0)


class Average:
    """An average of weights with the usual state dict, which it takes over by reference."""

    def __init__(self, model: nn.Module) -> None:
        self.shadow = _values(model)

    def update(self, model: nn.Module) -> None:
        for name, value in model.named_parameters():
            self.shadow[name].mul_(0.5).add_(value, alpha=0.5)

    def state_dict(self):
        return {"shadow": self.shadow}

    def load_state_dict(self, state) -> None:
        self.shadow = state["shadow"]


def test_a_state_dict_that_is_taken_over_by_reference() -> None:
    model = _net()
    average = Average(model)
    before = {name: value.clone() for name, value in average.shadow.items()}
    with Snapshot(model, average), torch.no_grad():
        for value in model.parameters():
            value.add_(1)
        average.update(model)
    assert _same(before, average.shadow)


class Lookahead(torch.optim.Optimizer):
    """An optimizer around another."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.optimizer = inner
        self.param_groups = inner.param_groups

    def step(self, closure=None):
        return self.optimizer.step(closure)


def test_an_optimizer_within_an_optimizer() -> None:
    model = _net()
    outer = Lookahead(_sgd(model))
    scheduler = Scheduler(outer, Triangular(base_lr=0.01, max_lr=0.1, stepsize=7))
    for batch in BATCHES:
        _update(model, outer, batch)
        scheduler.step()
    before = copy.deepcopy(outer.optimizer.state_dict()["state"])
    range_test(model, outer, BATCHES, LOSS, sweep=SWEEP)
    after = outer.optimizer.state_dict()["state"]
    assert all(_same(before[k], after[k]) for k in before)
    assert before.keys() == after.keys()
    _update(model, outer, BATCHES[0])
    scheduler.step()
    assert scheduler.last_epoch == len(BATCHES) + 1


def test_values_of_groups_keep_their_identity() -> None:
    model = _net()
    beta = torch.tensor(0.9)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=torch.tensor(0.01), betas=(beta, torch.tensor(0.99))
    )
    optimizer.param_groups[0]["net"] = model
    range_test(model, optimizer, BATCHES, LOSS, sweep=SWEEP)
    group = optimizer.param_groups[0]
    assert group["betas"][0] is beta
    assert group["net"] is model
    assert (float(beta), float(group["lr"])) == pytest.approx((0.9, 0.01))


class Scaled:
    """A loss relative to the largest seen, with a network of its own."""

    def __init__(self) -> None:
        self.largest = torch.tensor(1e-6)
        self.net = nn.BatchNorm1d(3)

    def __call__(self, outputs, targets):
        loss = LOSS(self.net(outputs), targets)
        self.largest.copy_(torch.maximum(self.largest, loss.detach()))
        return loss / self.largest


def test_a_loss_begins_anew_with_every_repeat_and_its_network_comes_back() -> None:
    model, loss = _net(), Scaled()
    before = _values(loss.net)
    record = range_test(model, _sgd(model), BATCHES[:1], loss, sweep=SWEEP, repeats=3)
    assert len({sweep.loss[0] for sweep in record.sweeps}) == 1
    assert float(loss.largest) == pytest.approx(1e-6)
    assert _same(before, _values(loss.net))


def test_sparse_tensors_as_attributes() -> None:
    model = _net()
    model.graph = torch.eye(8).to_sparse()
    model.shapes = torch.empty(2, 8, device="meta")
    range_test(model, _sgd(model), BATCHES, LOSS, sweep=SWEEP)
    assert torch.equal(model.graph.to_dense(), torch.eye(8))


def test_parameters_and_networks_in_plain_containers() -> None:
    model = _net()
    model.shadow = {name: copy.deepcopy(p) for name, p in model.named_parameters()}
    model.hidden = [nn.BatchNorm1d(8)]
    shadow = {name: value.clone() for name, value in model.shadow.items()}
    teacher = _values(model.hidden[0])

    def step(net, optimizer, batch):
        net.hidden[0](batch[0])
        loss = _update(net, optimizer, batch)
        with torch.no_grad():
            for name, value in net.named_parameters():
                net.shadow[name].lerp_(value, 0.5)
        return loss

    range_test(model, _sgd(model), BATCHES, train_step=step, sweep=SWEEP)
    assert _same(shadow, model.shadow)
    assert _same(teacher, _values(model.hidden[0]))


class Trainer:
    """An object of the user's whose methods are the step and the validation."""

    def __init__(self) -> None:
        self.best, self.seen, self.weights = np.inf, [], torch.ones(8)

    def train(self, model, optimizer, batch):
        loss = _update(model, optimizer, batch)
        self.best = min(self.best, loss.item())
        self.seen.append(loss.item())
        self.weights *= 0.5
        return loss

    def validate(self, model):
        self.best = -1.0
        return {"val_loss": 1.0}


def test_the_object_behind_the_step_and_the_validation() -> None:
    model, trainer = _net(), Trainer()
    range_test(
        model,
        _sgd(model),
        BATCHES,
        train_step=trainer.train,
        validate=trainer.validate,
        sweep=SWEEP,
    )
    assert (trainer.best, trainer.seen) == (np.inf, [])
    assert torch.equal(trainer.weights, torch.ones(8))


class Prioritized(torch.utils.data.Sampler):
    """A sampler that changes its weights and means as it goes."""

    def __init__(self) -> None:
        self.weights, self.means = torch.ones(64), np.zeros(4)

    def __len__(self) -> int:
        return 64

    def __iter__(self):
        for index in range(64):
            self.weights[index] *= 0.5
            self.means += 1
            yield index


def test_tensors_and_arrays_of_samplers() -> None:
    model, sampler = _net(), Prioritized()
    data = torch.utils.data.TensorDataset(torch.randn(64, 8), torch.randint(3, (64,)))
    loader = torch.utils.data.DataLoader(data, 16, sampler=sampler)
    range_test(model, _sgd(model), loader, LOSS, sweep=SWEEP)
    assert torch.equal(sampler.weights, torch.ones(64))
    assert not sampler.means.any()


def test_accelerates_optimizers() -> None:
    model = _net()
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare_optimizer(_sgd(model))
    record = range_test(model, prepared, BATCHES, LOSS)
    confirmed = confirm(record.read(), model, prepared, BATCHES, LOSS, total_steps=2000)
    assert confirmed.second.optimizer["name"] == "SGD"
    assert confirmed.updates == record.updates + len(confirmed.second)
    second_order = accelerator.prepare_optimizer(torch.optim.LBFGS(model.parameters(), lr=0.1))
    record = range_test(model, second_order, BATCHES[:1], LOSS, sweep=SWEEP)
    assert record.loss[0] == pytest.approx(
        LOSS(model(BATCHES[0][0]), BATCHES[0][1]).item(), rel=1e-5
    )


def test_packed_sequences_are_moved_as_they_want() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    moved = to_device({"x": packed}, torch.device("meta"))["x"]
    assert (moved.data.device.type, moved.batch_sizes.device.type) == ("meta", "cpu")


def test_a_sweep_that_falls_on_its_way_is_refused_at_once() -> None:
    rise = [ExponentialSweep(start_lr=s, end_lr=100 * s, steps=10) for s in (1e-3, 1e-2)]
    model = _net()
    with pytest.raises(InputError, match=r"sweep at step 10 must be ≥ 0\.1, the rate before it"):
        range_test(model, _sgd(model), BATCHES, LOSS, sweep=Chain(schedules=tuple(rise)))


def test_a_waiting_interrupt_is_not_lost_to_an_error() -> None:
    def fail() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise StateError("could not be put back")

    with pytest.raises(KeyboardInterrupt):
        fail()


class Encoded(torch.utils.data.Dataset):
    """Examples through a network, as transforms hold it."""

    def __init__(self) -> None:
        self.encoder = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.encoder[0].weight.requires_grad_(False)

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int):
        with torch.no_grad():
            return self.encoder(BATCHES[index % 5][0])[0], BATCHES[index % 5][1][0]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_network_that_data_hold(tmp_path, on_disk: bool) -> None:
    model, data = _net(), Encoded()
    before = _values(data.encoder)
    loader = torch.utils.data.DataLoader(data, 8)
    folder = tmp_path if on_disk else None
    range_test(model, _sgd(model), loader, LOSS, sweep=SWEEP, snapshot_dir=folder)
    assert _same(before, _values(data.encoder))
    with Snapshot(loader, frozen=False), torch.no_grad():
        data.encoder[1].running_mean.add_(1)
        data.encoder[1].weight.add_(1)
    assert _same(before, _values(data.encoder))


def test_the_object_behind_the_step_may_hold_and_save_all_that_is_trained() -> None:
    class Whole(Trainer):
        def __init__(self, model, optimizer) -> None:
            super().__init__()
            self.model, self.optimizer, self.teacher = model, optimizer, _net()

        def state_dict(self):
            raise AssertionError("that would be everything once more")

        def load_state_dict(self, state) -> None:
            raise AssertionError("that would be everything once more")

    model = _net()
    optimizer = _sgd(model)
    trainer = Whole(model, optimizer)
    before = _values(trainer.teacher)

    range_test(model, optimizer, BATCHES, train_step=trainer.train, sweep=SWEEP)
    assert trainer.seen == []
    assert _same(before, _values(trainer.teacher))


def test_examples_are_not_copied() -> None:
    class Listed:
        def __init__(self) -> None:
            self.examples = [torch.ones(8) for _ in range(101)]
            self.weights = [torch.ones(8) for _ in range(3)]

    data = Listed()
    with Attributes(data, most=10_000):
        for tensor in (*data.examples, *data.weights):
            tensor.zero_()
    assert not any(tensor.any() for tensor in data.examples)
    assert all(tensor.all() for tensor in data.weights)


def test_the_mode_of_a_wrapped_model_is_its_own() -> None:
    model = nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.5)).eval()
    wrapper = nn.DataParallel(model)
    assert wrapper.training
    to_training(wrapper)
    assert model.training
    model[1].eval()
    to_training(wrapper)
    assert not model[1].training  # frozen while the rest trains
