"""Batches, models and optimizers of every form."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from cyclr import ExponentialSweep, LinearSweep, Outcome, RangeTest
from cyclr.errors import DataError, InputError
from cyclr.integrations.torch import Snapshot, range_test

LOSS = nn.functional.cross_entropy
SWEEP = ExponentialSweep(start_lr=1e-3, end_lr=1.0, steps=12)
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(320, 8, generator=GENERATOR)
LABELS = torch.randint(0, 3, (320,), generator=GENERATOR)
PAIRS = [(INPUTS[i : i + 32], LABELS[i : i + 32]) for i in range(0, 320, 32)]
DICTS = [{"x": x, "labels": y, "ids": ["any", "thing"]} for x, y in PAIRS]


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(8, 3)


def _sgd(model, **options):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.05, **options})


class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = _linear()

    def forward(self, x):
        return self.linear(x)


class ByDict(ByName):
    def forward(self, batch):
        return self.linear(batch["x"])


class WithLoss(ByName):
    """As Transformers' models are called, and answer."""

    def forward(self, x=None, labels=None, **_):
        outputs = self.linear(x)
        return {"logits": outputs, "loss": LOSS(outputs, labels)}


def _expected():
    model = _linear()
    return range_test(model, _sgd(model), PAIRS, LOSS, sweep=SWEEP).loss


class TestDicts:
    @pytest.mark.parametrize("make", [ByName, ByDict])
    def test_with_a_loss_of_outputs_and_batch(self, make) -> None:
        model = make()
        record = range_test(
            model, _sgd(model), DICTS, lambda out, batch: LOSS(out, batch["labels"]), sweep=SWEEP
        )
        assert record.loss == _expected()

    @pytest.mark.parametrize("wrap", [lambda m: m, lambda m: torch.compile(m, backend="eager")])
    def test_with_outputs_that_have_the_loss(self, wrap) -> None:
        model = wrap(WithLoss())
        assert range_test(model, _sgd(model), DICTS, sweep=SWEEP).loss == _expected()

    def test_micro_batches_of_dicts(self) -> None:
        model = WithLoss()
        halves = [
            {"x": d["x"][part], "labels": d["labels"][part]}
            for d in DICTS
            for part in (slice(16), slice(16, None))
        ]
        record = range_test(model, _sgd(model), halves, sweep=SWEEP, accumulate=2)
        assert record.loss == pytest.approx(_expected(), rel=1e-5)

    def test_outputs_without_a_loss_are_an_error(self) -> None:
        model = ByName()
        with pytest.raises(DataError, match=r"need a loss_fn\(outputs, batch\)"):
            range_test(model, _sgd(model), DICTS)

    def test_nested_inputs(self) -> None:
        class Nested(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = _linear()

            def forward(self, inputs):
                return self.linear(inputs["parts"][0][0])

        model = Nested()
        batches = [({"parts": [(x, "note")]}, y) for x, y in PAIRS]
        assert range_test(model, _sgd(model), batches, LOSS, sweep=SWEEP).loss == _expected()


def test_a_transformers_model_and_its_tokens() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2, use_cache=False
    )
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.randint(0, 16, (4, 8))
    batch = transformers.BatchEncoding(
        {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    record = range_test(model, optimizer, [batch])
    assert min(record.loss) < record.loss[0] - 0.5
    assert 1e-4 < record.read().max_lr < 1


def test_a_step_that_gives_several_numbers() -> None:
    model = _linear()

    def train_step(net, optimizer, batch):
        outputs = net(batch[0])
        loss = LOSS(outputs, batch[1])
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        accuracy = (outputs.argmax(1) == batch[1]).float().mean()
        return {"loss": loss, "accuracy": accuracy, "gradient_norm": norm, "skipped": None}

    record = range_test(model, _sgd(model), PAIRS, train_step=train_step, sweep=SWEEP)
    assert set(record.metrics) == {"accuracy", "gradient_norm"}
    assert record.metrics["accuracy"].steps == tuple(range(12))
    with pytest.raises(InputError, match='give the loss under the name "loss"'):
        range_test(model, _sgd(model), PAIRS, train_step=lambda *_: {"nll": 1.0})


def test_several_metrics_at_intervals_beside_the_loss_over_epochs() -> None:
    """The paper's sweep: linear, over epochs, with validation."""
    model = _linear()

    def validate(net):
        outputs = net(INPUTS)
        accuracy = (outputs.argmax(1) == LABELS).float().mean()
        return {"val_loss": LOSS(outputs, LABELS), "val_accuracy": accuracy}

    record = range_test(
        model,
        _sgd(model),
        PAIRS,
        LOSS,
        sweep=LinearSweep(start_lr=0.0, end_lr=2.0, steps=40),
        validate=validate,
        validate_every=len(PAIRS) // 5,
    )
    assert record.steps_per_epoch == 10
    assert record.metrics["val_loss"].steps == tuple(range(0, 40, 2))
    assert record.read().rule == "accuracy"
    assert record.read("decade", metric="val_loss").metric == "val_loss"


class TestIterable:
    class Stream(IterableDataset):
        def __iter__(self):
            yield from zip(INPUTS, LABELS, strict=True)

    def test_a_stream_without_a_length(self) -> None:
        model = _linear()
        loader = DataLoader(self.Stream(), batch_size=32)
        record = range_test(model, _sgd(model), loader, LOSS, sweep=SWEEP)
        assert record.loss == _expected()
        assert record.steps_per_epoch is None

    def test_a_stream_that_is_empty(self) -> None:
        class Nothing(IterableDataset):
            def __iter__(self):
                return iter(())

        model = _linear()
        with pytest.raises(DataError, match="not a single batch"):
            range_test(model, _sgd(model), DataLoader(Nothing()), LOSS)

    def test_a_data_set_with_a_length_fills_in_the_epoch(self) -> None:
        class Rows(Dataset):
            def __len__(self):
                return 320

            def __getitem__(self, row):
                return INPUTS[row], LABELS[row]

        model = _linear()
        loader = DataLoader(Rows(), batch_size=32)
        record = range_test(model, _sgd(model), loader, LOSS, sweep=SWEEP)
        assert record.steps_per_epoch == 10


class TestGroups:
    def _model(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
        groups = [
            {"params": model[0].parameters(), "lr": 0.01},
            {"params": model[2].parameters(), "lr": 0.1},
        ]
        return model, torch.optim.SGD(groups, momentum=0.9)

    def _rates(self, **options):
        model, optimizer = self._model()
        seen = []
        optimizer.register_step_pre_hook(
            lambda o, *_: seen.append(tuple(g["lr"] for g in o.param_groups))
        )
        record = range_test(model, optimizer, PAIRS, LOSS, sweep=SWEEP, **options)
        assert [g["lr"] for g in optimizer.param_groups] == [0.01, 0.1]
        return record, seen

    def test_together_they_keep_their_ratio(self) -> None:
        record, seen = self._rates()
        assert [large for _, large in seen] == list(record.lr)
        assert [small for small, _ in seen] == pytest.approx([lr / 10 for lr in record.lr])

    @pytest.mark.parametrize("group", [0, 1])
    def test_one_at_a_time_while_the_other_keeps_its_rate(self, group) -> None:
        record, seen = self._rates(group=group)
        assert [rates[group] for rates in seen] == list(record.lr)
        assert {rates[1 - group] for rates in seen} == {(0.01, 0.1)[1 - group]}
        assert record.optimizer["group"] == group

    @pytest.mark.parametrize("group", [-1, 2])
    def test_a_group_that_is_not_there(self, group) -> None:
        with pytest.raises(InputError, match=f"group must be from 0 to 1, got {group}"):
            self._rates(group=group)


class TestAdversaries:
    """A GAN: two models, two optimizers, one step of one's own."""

    def _parts(self):
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        critic = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        opt_g = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=(0.5, 0.9))
        opt_d = torch.optim.Adam(critic.parameters(), lr=4e-4, betas=(0.5, 0.9))
        return [generator, critic], [opt_g, opt_d]

    @staticmethod
    def _round(models, optimizers, batch):
        (generator, critic), (opt_g, opt_d) = models, optimizers
        fake = generator(torch.randn(32, 4))
        critic_loss = (critic(fake.detach()) - critic(batch[0])).mean()
        opt_d.zero_grad()
        critic_loss.backward()
        nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
        opt_d.step()
        generator_loss = -critic(fake).mean()
        opt_g.zero_grad()
        generator_loss.backward()
        opt_g.step()
        return {"loss": critic_loss, "generator": generator_loss}

    def test_both_are_swept_with_their_ratio_and_put_back(self) -> None:
        models, optimizers = self._parts()
        before = [p.clone() for model in models for p in model.parameters()]
        seen = []
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
        record = range_test(models, optimizers, PAIRS, train_step=self._round, sweep=SWEEP)
        assert seen[0::2] == list(record.lr)  # the critic's, whose rate is the larger one
        assert seen[1::2] == pytest.approx([lr / 4 for lr in record.lr])
        assert record.optimizer == {"name": "Adam", "momentum": 0.5, "weight_decay": 0.0}
        assert len(record.metrics["generator"].steps) == len(record)
        after = [p for model in models for p in model.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert [o.param_groups[0]["lr"] for o in optimizers] == [1e-4, 4e-4]
        assert all(not optimizer.state for optimizer in optimizers)

    def test_through_ask_and_tell_with_a_snapshot_around_it(self) -> None:
        models, optimizers = self._parts()
        before = [p.clone() for model in models for p in model.parameters()]
        test = RangeTest(SWEEP, optimizer={"name": "Adam", "momentum": 0.5})
        with Snapshot(*models, *optimizers):
            stream = itertools.cycle(PAIRS)
            for lr in test:
                optimizers[0].param_groups[0]["lr"] = lr / 4
                optimizers[1].param_groups[0]["lr"] = lr
                test.tell(**self._round(models, optimizers, next(stream)))
        record = test.record
        assert len(record.metrics["generator"].steps) == len(record) == 12
        after = [p for model in models for p in model.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def test_one_of_them_alone(self) -> None:
        models, optimizers = self._parts()
        record = range_test(models, optimizers, PAIRS, train_step=self._round, sweep=SWEEP, group=1)
        assert record.optimizer["group"] == 1

    def test_without_a_step_of_ones_own(self) -> None:
        models, optimizers = self._parts()
        with pytest.raises(InputError, match=r"with several optimizers .* pass train_step"):
            range_test(models, optimizers, PAIRS, LOSS)

    @pytest.mark.parametrize("parts", [([], 1), (1, [])])
    def test_an_empty_list(self, parts) -> None:
        models, optimizers = self._parts()
        model = models if parts[0] else []
        optimizer = optimizers if parts[1] else []
        with pytest.raises(InputError, match="at least one model and one optimizer"):
            range_test(model, optimizer, PAIRS, train_step=self._round)


class TestPrecision:
    def test_a_scaler_that_skips_updates_does_not_stop_the_sweep(self) -> None:
        """Float16 gradients overflow at first; the scaler halves its scale and goes on."""
        model = _linear()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
        record = range_test(
            model,
            _sgd(model, momentum=0.9),
            PAIRS,
            LOSS,
            scaler=scaler,
            autocast=torch.bfloat16,
            max_grad_norm=1.0,
        )
        assert all(math.isfinite(loss) for loss in record.loss[:20])
        assert record.outcome is not Outcome.INTERRUPTED
        assert scaler.get_scale() == 2.0**120


def test_repeats_see_the_batches_that_come_next() -> None:
    model = _linear()
    record = range_test(model, _sgd(model), PAIRS, LOSS, sweep=SWEEP, repeats=3)
    assert len(record.sweeps) == 3
    first, second, third = record.sweeps
    # Twelve steps over ten batches: the second sweep begins with the third batch.
    with torch.no_grad():
        assert second.loss[0] == LOSS(model(PAIRS[2][0]), PAIRS[2][1]).item()
        assert third.loss[0] == LOSS(model(PAIRS[4][0]), PAIRS[4][1]).item()
    assert first.loss == _expected()
    assert record.read("decade").max_lr_interval is not None


def test_a_test_of_ones_own_is_the_first_of_the_repeats() -> None:
    model = _linear()
    test = RangeTest(SWEEP)
    watched = []
    record = range_test(
        model, _sgd(model), PAIRS, LOSS, sweep=test, repeats=2, on_step=watched.append
    )
    assert test.record == record.sweeps[0]
    assert len({id(t) for t in watched}) == 2
    assert len(watched) == 24


@pytest.mark.parametrize("repeats", [0, 1.5])
def test_repeats_out_of_range(repeats) -> None:
    model = _linear()
    with pytest.raises(InputError, match="repeats must be an int ≥ 1"):
        range_test(model, _sgd(model), PAIRS, LOSS, repeats=repeats)
