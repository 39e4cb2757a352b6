"""What a range test could leave behind, one by one: nothing of it may change the training after."""

import collections
import copy
import functools
import random
import signal
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from cyclr import ExponentialSweep, RangeTest, Triangular
from cyclr.errors import InputError
from cyclr.integrations.torch import Scheduler, range_test

LOSS = nn.functional.cross_entropy
SWEEP = ExponentialSweep(start_lr=1e-3, end_lr=10.0, steps=15)
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(320, 8, generator=GENERATOR)
LABELS = torch.randint(0, 3, (320,), generator=GENERATOR)
BATCHES = [(INPUTS[i : i + 32], LABELS[i : i + 32]) for i in range(0, 320, 32)]


def _sgd(model, **options):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.05, "momentum": 0.9, **options})


def _train(model, optimizer, batches, after=lambda: None, steps=12):
    losses = []
    for _, (inputs, labels) in zip(range(steps), batches, strict=False):

        def closure(inputs=inputs, labels=labels):
            optimizer.zero_grad()
            loss = LOSS(model(inputs), labels)
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
        after()
    return losses


def _round(batches):
    while True:
        yield from batches


def _compare(make_model, make_optimizer=_sgd, make_batches=lambda: BATCHES, **options):
    """Train, with and without a range test in between; all of it must be the same, bit for bit."""

    def whole(with_test: bool):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        model = make_model()
        model(INPUTS[:4])  # lazy parts take shape
        optimizer = make_optimizer(model)
        batches = make_batches()
        stream = _round(batches)
        losses = _train(model, optimizer, stream)
        attributes = {n: _plain(vars(m)) for n, m in model.named_modules()}
        if with_test:
            record = range_test(model, optimizer, batches, LOSS, sweep=SWEEP, **options)
            assert len(record) > 5
            assert {n: _plain(vars(m)) for n, m in model.named_modules()} == attributes
        losses += _train(model, optimizer, stream)
        return losses, [t.clone() for t in [*model.parameters(), *model.buffers()]]

    losses, tensors = whole(with_test=False)
    losses_after, tensors_after = whole(with_test=True)
    assert losses_after == losses
    assert all(torch.equal(a, b) for a, b in zip(tensors, tensors_after, strict=True))


def _plain(attributes):
    """Copy what compares with ==."""
    kinds = (int, float, str, list, dict, set, np.ndarray)
    return {
        name: repr(value)
        for name, value in attributes.items()
        if isinstance(value, kinds) and not name.startswith("_")
    }


class Counting(nn.Module):
    """A model that does everything one should not: counts, collects, draws, averages by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)
        self.calls = 0
        self.history: list[float] = []
        self.seen = collections.Counter()
        self.nested = {"depths": [0, {"deep": 0}]}
        self.average = torch.zeros(3)
        self.array = np.zeros(3)
        self.rng = np.random.default_rng(1)
        self.dice = random.Random(2)

    def forward(self, x):
        self.calls += 1
        self.history.append(float(x.sum()))
        self.seen[len(x)] += 1
        self.nested["depths"][1]["deep"] += 1
        outputs = self.linear(x)
        with torch.no_grad():
            self.average.lerp_(outputs.mean(0), 0.1)
        self.array += 1
        scale = 1 + 0.1 * self.rng.random() + 0.1 * self.dice.random() + 1e-3 * self.calls
        return outputs * scale + 0.01 * self.average + 1e-4 * float(self.array.sum())


def _tied():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(8, 8), nn.Linear(8, 8)
            self.decode.weight = self.encode.weight
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(torch.tanh(self.decode(torch.tanh(self.encode(x)))))

    return Tied()


def _old_norms():
    first = nn.utils.spectral_norm(nn.Linear(8, 8))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(8, 3))


def _lazy():
    return nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.LazyLinear(3))


def _hooked():
    model = nn.Sequential(nn.Linear(8, 3))
    model.count = 0

    def count(module, args):
        module.count += 1
        return (args[0] * (1 + 0.01 * module.count),)

    model.register_forward_pre_hook(count)
    return model


def _partly_frozen():
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 3))
    model[0].requires_grad_(False)
    model[1].eval()
    return model


MODELS = {
    "attributes": Counting,
    "tied weights": _tied,
    "spectral norm": lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Linear(8, 3)
    ),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 3))),
    "old spectral norm": _old_norms,
    "orthogonal": lambda: nn.Sequential(
        parametrizations.orthogonal(nn.Linear(8, 8)), nn.Linear(8, 3)
    ),
    "lazy": _lazy,
    "forward hooks": _hooked,
    "partly frozen": _partly_frozen,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_models_of_every_kind(make) -> None:
    _compare(make)


OPTIMIZERS = {
    "lbfgs": lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=3),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, amsgrad=True),
    "adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=0.01),
    "rprop": lambda m: torch.optim.Rprop(m.parameters(), lr=0.01),
    "asgd": lambda m: torch.optim.ASGD(m.parameters(), lr=0.01),
    "nesterov": lambda m: _sgd(m, nesterov=True, weight_decay=1e-3),
    "tensor rate": lambda m: torch.optim.Adam(m.parameters(), lr=torch.tensor(0.01)),
    "fused": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, fused=True),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_of_every_kind(make) -> None:
    _compare(lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)), make)


def test_an_optimizer_with_attributes_of_its_own() -> None:
    class Odd(torch.optim.SGD):
        updates = 0

        def step(self, closure=None):
            self.updates += 1
            self.param_groups[0]["lr"] *= 1 + 0.01 * self.updates
            self.state["whole run"] = self.state.get("whole run", 0) + 1  # not keyed by parameter
            return super().step(closure)

    _compare(lambda: nn.Linear(8, 3), lambda m: Odd(m.parameters(), lr=0.01))


def test_sparse_gradients() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.EmbeddingBag(16, 3, sparse=True)

        def forward(self, x):
            return self.table((x.abs() * 8).long().clamp(max=15))

    _compare(Bag, lambda m: torch.optim.SparseAdam(list(m.parameters()), lr=0.01))
    _compare(Bag, lambda m: torch.optim.SGD(m.parameters(), lr=0.1))


class Streaming(IterableDataset):
    """Goes on where it stopped, in an order of its own."""

    def __init__(self) -> None:
        self.position = 0
        self.rng = np.random.default_rng(3)

    def __iter__(self):
        for _ in range(100):
            self.position += 1
            row = int(self.rng.integers(320))
            yield INPUTS[row] + 1e-3 * self.position, LABELS[row]


class Drawing(Dataset):
    """Augments with generators of its own, inside a data set inside another."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.torch_rng = torch.Generator().manual_seed(seed)
        self.served: dict[int, int] = {}

    def __len__(self) -> int:
        return 320

    def __getitem__(self, row):
        self.served[row] = self.served.get(row, 0) + 1
        noise = 0.1 * torch.randn(8, generator=self.torch_rng) + 0.1 * self.rng.normal()
        return INPUTS[row] + noise + 0.01 * self.served[row], LABELS[row]


class Cycling:
    """Not a loader at all, but iterable again and again, each time from another place."""

    def __init__(self) -> None:
        self.epoch = 0

    def __iter__(self):
        self.epoch += 1
        for index in range(10):
            yield BATCHES[(index + self.epoch) % 10]


def _shuffled(**options):
    data = TensorDataset(INPUTS, LABELS)
    return lambda: DataLoader(data, batch_size=32, shuffle=True, **options)


LOADERS = {
    "iterable": lambda: DataLoader(Streaming(), batch_size=16),
    "own generators": lambda: DataLoader(
        Subset(Drawing(5), range(200)), batch_size=32, shuffle=True
    ),
    "weighted sampler": lambda: DataLoader(
        TensorDataset(INPUTS, LABELS),
        batch_size=32,
        sampler=torch.utils.data.WeightedRandomSampler(
            torch.rand(320), 320, generator=torch.Generator().manual_seed(1)
        ),
    ),
    "workers": _shuffled(num_workers=2, persistent_workers=True),
    "no iterable at all": Cycling,
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_data_of_every_kind(make) -> None:
    _compare(lambda: nn.Linear(8, 3), make_batches=make)


@pytest.mark.parametrize("options", [{"repeats": 3}, {"group": 0}, {"accumulate": 2}])
def test_options(options) -> None:
    _compare(lambda: nn.Sequential(nn.Linear(8, 6), nn.Dropout(0.2), nn.Linear(6, 3)), **options)


def test_a_snapshot_on_disk(tmp_path) -> None:
    _compare(
        lambda: nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)),
        lambda m: torch.optim.Adam(m.parameters(), lr=0.01),
        snapshot_dir=tmp_path,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_optimizer_has_no_state_afterwards() -> None:
    model = nn.Linear(8, 3)
    optimizer = torch.optim.Adam(model.parameters())
    range_test(model, optimizer, BATCHES, LOSS, sweep=SWEEP)
    assert dict(optimizer.state) == {}
    assert isinstance(optimizer.state, collections.defaultdict)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert "_opt_called" not in vars(optimizer)


class TestSchedulers:
    def _whole(self, make, with_test):
        torch.manual_seed(0)
        model = nn.Linear(8, 3)
        optimizer = _sgd(model)
        scheduler = make(optimizer)
        rates = []

        def after():
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])

        stream = _round(BATCHES)
        losses = _train(model, optimizer, stream, after)
        if with_test:
            range_test(model, optimizer, BATCHES, LOSS, sweep=SWEEP)
            after()  # no update since the last call: a cyclr Scheduler must stay where it is
        elif not isinstance(scheduler, Scheduler):
            after()
        else:
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        losses += _train(model, optimizer, stream, after)
        return losses, rates

    @pytest.mark.parametrize(
        "make",
        [
            lambda o: Scheduler(o, Triangular(base_lr=0.01, max_lr=0.1, stepsize=7)),
            lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=40),
            lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 7),
            lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 1 / (1 + k)),
        ],
        ids=["cyclr", "one-cycle", "restarts", "lambda"],
    )
    def test_a_live_one_does_not_notice(self, make) -> None:
        assert self._whole(make, with_test=True) == self._whole(make, with_test=False)

    def test_hooks_before_an_update_run_and_those_after_it_do_not(self) -> None:
        model = nn.Linear(8, 3)
        optimizer = _sgd(model)
        before, after = [], []
        optimizer.register_step_pre_hook(lambda *_: before.append(1))
        handle = optimizer.register_step_post_hook(lambda *_: after.append(1))
        record = range_test(model, optimizer, BATCHES, LOSS, sweep=SWEEP)
        assert (len(before), len(after)) == (len(record), 0)
        _train(model, optimizer, BATCHES, steps=1)
        assert len(after) == 1
        handle.remove()
        _train(model, optimizer, BATCHES, steps=1)
        assert len(after) == 1

    def test_hooks_come_back_after_an_exception(self) -> None:
        model = nn.Linear(8, 3)
        optimizer = _sgd(model)
        heard = []
        optimizer.register_step_post_hook(lambda *_: heard.append(1))
        with pytest.raises(ZeroDivisionError):
            range_test(model, optimizer, BATCHES, LOSS, on_step=lambda test: 1 / 0)
        _train(model, optimizer, BATCHES, steps=1)
        assert heard == [1]


def test_an_averaged_model_beside_it_stays_out_of_it() -> None:
    model = nn.Linear(8, 3)
    optimizer = _sgd(model)
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    _train(model, optimizer, BATCHES, steps=3)
    before = copy.deepcopy(average.state_dict())
    range_test(model, optimizer, BATCHES, LOSS, sweep=SWEEP)
    assert all(torch.equal(before[name], value) for name, value in average.state_dict().items())


class TestSettings:
    def test_what_a_step_changes_of_torch_s_settings_comes_back(self) -> None:
        model = nn.Linear(8, 3)
        before = self._settings()

        def train_step(net, optimizer, batch):
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.deterministic = True
            torch.use_deterministic_algorithms(True)
            torch.autograd.set_detect_anomaly(True)
            optimizer.zero_grad()
            loss = LOSS(net(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            torch.set_default_dtype(torch.float64)
            return loss

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            range_test(model, _sgd(model), BATCHES, train_step=train_step, sweep=SWEEP)
        assert self._settings() == before

    def test_a_validation_that_forgets_to_enable_gradients(self) -> None:
        model = nn.Linear(8, 3)

        def validate(net):
            torch.set_grad_enabled(False)
            return {"val_loss": LOSS(net(INPUTS), LABELS).item()}

        record = range_test(model, _sgd(model), BATCHES, LOSS, sweep=SWEEP, validate=validate)
        assert len(record.metrics["val_loss"].steps) == len(record)
        assert torch.is_grad_enabled()

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_called_where_gradients_are_off_it_still_trains(self, context) -> None:
        model = nn.Linear(8, 3)
        optimizer = _sgd(model)
        with context():
            record = range_test(model, optimizer, BATCHES, LOSS, sweep=SWEEP)
            assert not torch.is_grad_enabled()
        assert len(set(record.loss)) == len(record)
        assert torch.is_grad_enabled()

    def _settings(self):
        cudnn = torch.backends.cudnn
        return (
            cudnn.enabled,
            cudnn.benchmark,
            cudnn.deterministic,
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_anomaly_enabled(),
            torch.is_grad_enabled(),
        )


def test_parametrizations_stay_registered() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 3)))
    before = [id(p) for p in model.parameters()]
    range_test(model, _sgd(model), BATCHES, LOSS, sweep=SWEEP)
    assert parametrize.is_parametrized(model[0], "weight")
    assert [id(p) for p in model.parameters()] == before


def test_a_lazy_model_is_refused_before_anything_happens() -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(InputError, match="run one forward pass first"):
        range_test(model, _sgd(model), BATCHES, LOSS)
    assert isinstance(model[0].weight, nn.UninitializedParameter)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_not_compiled_again() -> None:
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    model = torch.compile(plain, backend=backend)
    optimizer = _sgd(model)
    stream = _round(BATCHES)
    _train(model, optimizer, stream)
    compiled = len(graphs)
    test = RangeTest(SWEEP)
    range_test(model, optimizer, BATCHES, LOSS, sweep=test)
    assert len(graphs) == compiled
    _train(model, optimizer, stream)
    assert len(graphs) == compiled
    torch._dynamo.reset()


class ScaledLoss(nn.Module):
    """A loss with a parameter, and a count of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, outputs, labels):
        self.calls += 1
        return LOSS(outputs * self.scale, labels)


@pytest.mark.parametrize("on_disk", [False, True])
def test_parameters_outside_of_the_model_come_back(tmp_path, on_disk) -> None:
    model, loss_fn = nn.Linear(8, 3), ScaledLoss()
    optimizer = torch.optim.SGD([*model.parameters(), *loss_fn.parameters()], lr=0.1, momentum=0.9)
    loss_fn(model(INPUTS), LABELS).backward()
    gradient = loss_fn.scale.grad.clone()
    range_test(
        model, optimizer, BATCHES, loss_fn, sweep=SWEEP, snapshot_dir=tmp_path if on_disk else None
    )
    assert torch.equal(loss_fn.scale, torch.ones(3))
    assert torch.equal(loss_fn.scale.grad, gradient)
    assert float(loss_fn.calls) == 1


def test_parameters_of_a_head_that_only_the_optimizer_knows_come_back() -> None:
    model, head = nn.Linear(8, 3), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([*model.parameters(), head])
    record = range_test(model, optimizer, BATCHES, lambda o, y: LOSS(o * head, y), sweep=SWEEP)
    assert len(record) > 5
    assert torch.equal(head, torch.ones(3))
    assert head.grad is None


class Wrapped:
    """Reads from a loader of its own, as many libraries' loaders do."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.parts = {
            "loader": DataLoader(
                TensorDataset(INPUTS, LABELS), batch_size=32, shuffle=True, generator=generator
            )
        }

    def __iter__(self):
        yield from self.parts["loader"]


class Jitter:
    """A transform, and a collate function, with a random generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, x):
        return x + float(self.rng.normal())

    def batch(self, examples):
        inputs, labels = zip(*examples, strict=True)
        return self(torch.stack(inputs)), torch.stack(labels)


class Transformed(Dataset):
    """A data set with a chain of transforms."""

    def __init__(self) -> None:
        self.transforms = [Jitter(), Jitter()]

    def __len__(self) -> int:
        return len(INPUTS)

    def __getitem__(self, i):
        x = INPUTS[i]
        for transform in self.transforms:
            x = transform(x)
        return x, LABELS[i]


@pytest.mark.parametrize(
    "make_batches",
    [
        Wrapped,
        lambda: DataLoader(Transformed(), batch_size=32),
        lambda: DataLoader(TensorDataset(INPUTS, LABELS), 32, collate_fn=Jitter().batch),
        lambda: DataLoader(
            TensorDataset(INPUTS, LABELS), 32, collate_fn=functools.partial(Jitter().batch)
        ),
    ],
    ids=["wrapper", "transforms", "bound collate function", "partial"],
)
def test_what_the_data_is_made_with_comes_back(make_batches) -> None:
    _compare(lambda: nn.Linear(8, 3), make_batches=make_batches)


def test_a_second_interruption_waits_until_all_is_back() -> None:
    class Slow(nn.Linear):
        def get_extra_state(self):
            return 0

        def set_extra_state(self, state) -> None:
            signal.raise_signal(signal.SIGINT)  # impatient, in the middle of it

    model = nn.Sequential(Slow(8, 8), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in model.state_dict().items() if name[-1] != "e"}
    optimizer = _sgd(model)
    rate = optimizer.param_groups[0]["lr"]

    def stop(test) -> None:
        if test.step == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        range_test(model, optimizer, BATCHES, LOSS, sweep=SWEEP, on_step=stop)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert optimizer.param_groups[0]["lr"] == rate
    assert not optimizer.state
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
