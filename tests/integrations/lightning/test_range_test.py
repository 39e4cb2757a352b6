"""The Lightning range test: before, after and within a fit, and what it leaves behind (nothing)."""

import logging
import math
import signal

import pytest

pytest.importorskip("lightning", reason="needs the extra cyclr[lightning]")

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cyclr import ExponentialSweep, LinearSweep, Outcome, RangeTest
from cyclr.errors import DataError, InputError, SpecError
from cyclr.integrations.lightning import CycleCallback, configuration, range_test
from integrations.lightning.nets import RECIPE, Net, digits, sgd, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.*treespec, LeafSpec.*is deprecated",
)
SWEEP = ExponentialSweep(start_lr=1e-4, end_lr=1e-1, steps=12)


class Rates(pl.LightningModule):
    """Notes the rates that its updates use."""

    def __init__(self, configure, manual=False, answer=True) -> None:
        super().__init__()
        self.automatic_optimization = not manual
        self.one, self.two = nn.Linear(64, 10), nn.Linear(64, 10)
        self.configure, self.answer = configure, answer
        self.used = used = []
        self.hook = lambda optimizer, *_: used.append([g["lr"] for g in optimizer.param_groups])

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.one(batch[0]) + self.two(batch[0]), batch[1])
        if not self.automatic_optimization:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
        return loss if self.answer else None

    def on_train_start(self) -> None:
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.optimizer.register_step_pre_hook(self.hook)

    def configure_optimizers(self):
        return self.configure(self)


class At(pl.Callback):
    """Calls a function at the start of one of the batches."""

    def __init__(self, batch, function) -> None:
        self.batch, self.function = batch, function

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == self.batch:
            self.function(trainer, pl_module)


class InValidation(pl.Callback):
    def __init__(self, function) -> None:
        self.function = function

    def on_validation_end(self, trainer, pl_module) -> None:
        self.function(trainer, pl_module)
        assert not torch.is_grad_enabled()


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def adam(module):
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]


class TestLeavesTrainingBitIdentical:
    """The same training with and without a range test somewhere in it."""

    def train(self, *callbacks, before=None, between=None, configure=adam, **options):
        data = digits(shuffle=True)
        data.generator = torch.Generator().manual_seed(7)
        fitted, module = trainer(*callbacks, max_epochs=2, **options), Net(configure)
        if before is not None:
            before(fitted, module, data)
        fitted.fit(module, data)
        if between is not None:
            between(fitted, module, data)
        fitted.fit_loop.max_epochs = 3
        fitted.fit(module, data)
        return module.losses, weights(module), torch.get_rng_state()

    def agree(self, one, other) -> None:
        assert one[0] == other[0]
        assert same(one[1], other[1])
        assert torch.equal(one[2], other[2])

    @pytest.mark.parametrize("place", ["before", "between"])
    @pytest.mark.parametrize("configure", [adam, lambda module: sgd(module.parameters())])
    def test_outside_a_fit(self, place, configure) -> None:
        def run(fitted, module, data):
            record = range_test(fitted, module, data, sweep=SWEEP)
            assert record.outcome is Outcome.COMPLETED

        self.agree(self.train(configure=configure), self.train(configure=configure, **{place: run}))

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_in_the_middle_of_a_fit(self, accumulate) -> None:
        records = []
        callback = At(5, lambda *parts: records.append(range_test(*parts, sweep=SWEEP)))
        options = {"accumulate_grad_batches": accumulate}
        self.agree(self.train(**options), self.train(callback, **options))
        assert [len(record) for record in records] == [12, 12, 12]

    def test_in_the_middle_with_persistent_workers(self) -> None:
        def train(*callbacks):
            data = digits(shuffle=True, num_workers=1, persistent_workers=True)
            module = Net(adam)
            trainer(*callbacks, max_epochs=2).fit(module, data)
            return module.losses, weights(module), torch.get_rng_state()

        callback = At(5, lambda *parts: range_test(*parts, sweep=SWEEP))
        self.agree(train(), train(callback))

    def test_within_a_validation(self) -> None:
        class Validated(Net):
            def validation_step(self, batch, batch_idx) -> None:
                assert not torch.is_grad_enabled()

        def train(*callbacks):
            module = Validated()
            fitted = trainer(*callbacks, max_epochs=2, num_sanity_val_steps=0)
            fitted.fit(module, digits(shuffle=True), digits())
            return module.losses, weights(module), torch.get_rng_state()

        records = []
        callback = InValidation(lambda *parts: records.append(range_test(*parts, sweep=SWEEP)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pl.Trainer, "fit", _ignoring_workers(pl.Trainer.fit))
            self.agree(train(), train(callback))
        assert [len(record) for record in records] == [12, 12]

    def test_with_a_cycle_callback_and_a_returned_optimizer_of_long_standing(self) -> None:
        """The module returns the same optimizer each time; nobody learns of the sweep's updates."""

        def train(*callbacks):
            optimizers = []

            def configure(module):
                optimizers[:] = optimizers or [sgd(module.parameters())]
                return optimizers[0]

            module = Net(configure)
            fitted = trainer(CycleCallback(RECIPE), *callbacks)
            fitted.fit(module, digits(shuffle=True))
            assert fitted.global_step == 24
            return module.losses, weights(module), torch.get_rng_state()

        self.agree(train(), train(At(5, lambda *parts: range_test(*parts, sweep=SWEEP))))

    @pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
    def test_after_a_failure_too(self, error) -> None:
        def failing(fitted, module, data):
            def on_step(test):
                if test.step == 5:
                    raise error

            handler = signal.getsignal(signal.SIGINT)
            test = RangeTest(SWEEP)
            with pytest.raises(error):
                range_test(fitted, module, data, sweep=test, on_step=on_step)
            assert signal.getsignal(signal.SIGINT) is handler
            assert len(test.record) == 5
            assert test.record.outcome is Outcome.INTERRUPTED

        self.agree(self.train(), self.train(before=failing, between=failing))
        within = At(3, lambda fitted, module: failing(fitted, module, None))
        self.agree(self.train(), self.train(within))


def _ignoring_workers(fit):
    import warnings

    def quiet(*args, **kwargs):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The 'val_dataloader' does not have many workers")
            return fit(*args, **kwargs)

    return quiet


class TestRestores:
    def test_the_module_s_attributes_and_trainer(self) -> None:
        module = Net()
        fitted = trainer()
        range_test(fitted, module, digits(), sweep=SWEEP)
        assert module._trainer is None
        assert (module.batches, module.losses) == (0, [])
        assert module.notes == {"seen": {"labels": set()}}
        assert float(module.accuracy.weight) == 0
        assert "setup" not in vars(module)
        assert "configure_callbacks" not in vars(module)
        assert fitted.lightning_module is None
        assert fitted.state.status == "initializing"
        assert (fitted.global_step, fitted.current_epoch) == (0, 0)

    def test_a_data_module(self) -> None:
        class Data(pl.LightningDataModule):
            def __init__(self) -> None:
                super().__init__()
                self.generator = torch.Generator().manual_seed(3)
                self.calls = []

            def setup(self, stage) -> None:
                self.calls.append(stage)
                self.data = digits().dataset

            def train_dataloader(self):
                return DataLoader(self.data, 64, shuffle=True, generator=self.generator)

        data, module = Data(), Net()
        state = data.generator.get_state()
        record = range_test(trainer(), module, data, sweep=SWEEP)
        assert len(record) == 12
        assert record.steps_per_epoch == 29
        assert data.calls == []
        assert not hasattr(data, "data")
        assert data.trainer is None
        assert torch.equal(data.generator.get_state(), state)

    def test_the_module_s_own_data_and_setup(self) -> None:
        class Whole(Net):
            def setup(self, stage) -> None:
                self.extra = nn.Linear(2, 2)

            def train_dataloader(self):
                return digits(shuffle=True)

        module = Whole()
        before = weights(module)
        assert len(range_test(trainer(), module, sweep=SWEEP)) == 12
        assert same(before, weights(module))
        assert not hasattr(module, "extra")

    @pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
    def test_the_weights_type(self, precision) -> None:
        module = Net()
        before = weights(module)
        fitted = trainer(precision=precision)
        range_test(fitted, module, digits(), sweep=SWEEP)
        assert {p.dtype for p in module.parameters()} == {torch.float32}
        assert same(before, weights(module))

    def test_loggers_levels(self) -> None:
        log = logging.getLogger("lightning.pytorch")
        level = log.level
        range_test(trainer(), Net(), digits(), sweep=SWEEP)
        assert log.level == level


class TestRecord:
    def test_holds_the_sweep_the_losses_and_what_it_ran_with(self) -> None:
        module, seen = Net(), []
        record = range_test(
            trainer(),
            module,
            digits(),
            sweep=LinearSweep(start_lr=0.001, end_lr=0.5, steps=40),
            metrics=("train_accuracy",),
            on_step=lambda test: seen.append(test.step),
        )
        assert record.lr == pytest.approx([record.sweep(step) for step in range(40)])
        assert record.optimizer == {"name": "SGD", "momentum": 0.9, "weight_decay": 0.0}
        assert record.steps_per_epoch == 29
        assert seen == list(range(1, 41))
        assert record.metrics["train_accuracy"].steps == tuple(range(40))
        assert record.metrics["train_accuracy"].values[-1] > 0.7
        assert record.loss[0] > record.loss[20] > 0

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_a_validation_is_measured_before_updates(self, accumulate: int) -> None:
        inputs, labels = next(iter(digits()))
        modes = []

        def validate(module):
            modes.append((module.training, module.body.training, torch.is_grad_enabled()))
            return {"val_loss": nn.functional.cross_entropy(module.body(inputs), labels)}

        def tested(**options):
            options = {"sweep": SWEEP, **options}
            return range_test(
                trainer(accumulate_grad_batches=accumulate), Net(), digits(), **options
            )

        untouched = Net().eval()
        record = tested(validate=validate, validate_every=5)
        assert record.loss == tested().loss  # dropout draws the same
        assert record.metrics["val_loss"].steps == (0, 5, 10)
        assert modes == [(False, False, False)] * 3
        with torch.no_grad():
            first = float(nn.functional.cross_entropy(untouched.body(inputs), labels))
        assert record.metrics["val_loss"].values[0] == pytest.approx(first, rel=1e-6)

    def test_and_read_where_the_data_are_few(self) -> None:
        few = next(iter(digits(256)))
        inputs, labels = next(iter(digits(300)))

        def validate(module):
            return {"val_loss": nn.functional.cross_entropy(module.body(inputs), labels)}

        loader = DataLoader(TensorDataset(*few), batch_size=32)
        record = range_test(trainer(), Net(), loader, validate=validate)
        assert record.steps_per_epoch == 8
        assert record.metrics["val_loss"].steps == tuple(range(len(record)))
        assert record.read().metric == "val_loss"

    @pytest.mark.parametrize("given", [{}, {"optimizer": {"name": "Mine"}, "steps_per_epoch": 7}])
    def test_a_test_of_the_user_s_learns_what_it_ran_with(self, given) -> None:
        test = RangeTest(SWEEP, **given)
        fitted = trainer(accumulate_grad_batches=2)
        record = range_test(fitted, Net(), digits(), sweep=test)
        assert record == test.record
        facts = {"name": "SGD", "momentum": 0.9, "weight_decay": 0.0}
        assert record.optimizer == given.get("optimizer", facts)
        assert record.steps_per_epoch == given.get("steps_per_epoch", 15)

    def test_the_losses_are_those_of_plain_torch(self) -> None:
        """Of a sum over micro-batches too, each divided as Lightning divides it."""

        def plain(size):
            module = Net()
            module.body[3].p = 0.0
            optimizer, losses = sgd(module.parameters()), []
            stream = iter(list(digits(size)) * 3)
            for step in range(12):
                optimizer.param_groups[0]["lr"] = SWEEP(step)
                inputs, labels = next(stream)
                loss = nn.functional.cross_entropy(module.body(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            return losses

        module = Net()
        module.body[3].p = 0.0
        record = range_test(trainer(), module, digits(64), sweep=SWEEP)
        assert list(record.loss) == pytest.approx(plain(64), rel=1e-6)

    def test_accumulates_and_clips_as_the_trainer_does(self) -> None:
        fitted = trainer(accumulate_grad_batches=4, gradient_clip_val=1e-9)
        module = Net()
        record = range_test(fitted, module, digits(), sweep=SWEEP)
        assert record.steps_per_epoch == 8
        # Clipped to nothing, the weights stay, and so does the loss, up to the batches.
        assert max(record.loss) - min(record.loss) < 0.3
        assert 2.0 < sum(record.loss) / 12 < 2.6
        free = range_test(trainer(accumulate_grad_batches=4), module, digits(), sweep=SWEEP)
        assert free.loss[-1] < record.loss[-1] - 0.3

    def test_keeps_ratios_between_optimizers_and_groups(self) -> None:
        def configure(module):
            groups = [{"params": [module.one.weight]}, {"params": [module.one.bias], "lr": 0.1}]
            return [torch.optim.SGD(groups, lr=0.2), torch.optim.SGD(module.two.parameters(), 0.4)]

        module = Rates(configure, manual=True)
        record = range_test(trainer(), module, digits(), sweep=SWEEP)
        used: list = []
        module.used = used
        module.hook = lambda optimizer, *_: used.append([g["lr"] for g in optimizer.param_groups])
        test = RangeTest(SWEEP)
        copies: list = []
        range_test(
            trainer(), module, digits(), sweep=test, on_step=lambda _: copies.append(list(used))
        )
        assert len(record) == 12
        rates = [SWEEP(step) for step in range(12)]
        assert copies[-1] == [
            pytest.approx(rate) for lr in rates for rate in ([lr * 0.5, lr * 0.25], [lr])
        ]

    @pytest.mark.parametrize("manual", [False, True])
    def test_schedulers_of_the_module_do_nothing(self, manual) -> None:
        copies: list = []

        def configure(module):
            optimizer = sgd(module.parameters())
            made = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
            return [optimizer], [{"scheduler": made, "interval": "step"}]

        class Scheduled(Rates):
            def optimizers(self):
                optimizer = super().optimizers()
                return [optimizer] if manual else optimizer

            def training_step(self, batch, batch_idx):
                loss = super().training_step(batch, batch_idx)
                if manual:
                    self.lr_schedulers().step()
                return loss

        module = Scheduled(configure, manual=manual)
        range_test(
            trainer(),
            module,
            digits(),
            sweep=SWEEP,
            on_step=lambda _: copies.append(list(module.used)),
        )
        assert copies[-1] == [pytest.approx([SWEEP(step)]) for step in range(12)]

    def test_of_a_module_with_a_recipe_of_ours(self) -> None:
        module = Net(lambda m: configuration(sgd(m.parameters()), RECIPE))
        record = range_test(trainer(), module, digits(), sweep=SWEEP)
        assert record.outcome is Outcome.COMPLETED
        assert record.optimizer["momentum"] == pytest.approx(0.95)

    def test_starts_from_the_optimizers_state_in_a_fit(self) -> None:
        losses = {}

        def note(name):
            def sweep(fitted, module):
                tiny = LinearSweep(start_lr=1e-12, end_lr=1e-3, steps=2)
                states = []

                def on_step(test):
                    states.append(fitted.optimizers[0] is not module.trainer.optimizers[0])
                    state = next(iter(module.trainer.optimizers[0].state.values()))
                    states.append(float(state["step"]))

                range_test(fitted, module, sweep=tiny, on_step=on_step)
                losses[name] = states

            return sweep

        fitted = trainer(At(6, note("middle")), max_steps=8)
        fitted.fit(Net(lambda m: torch.optim.Adam(m.parameters())), digits())
        assert losses["middle"] == [True, 7.0, True, 8.0]

    def test_ends_by_itself_when_the_loss_diverges_or_is_not_finite(self) -> None:
        record = range_test(trainer(), Net(), digits(), steps=100)
        assert record.outcome is Outcome.DIVERGED
        assert len(record) < 100

        class Broken(Net):
            def training_step(self, batch, batch_idx):
                return super().training_step(batch, batch_idx) * math.nan

        record = range_test(trainer(), Broken(), digits(), sweep=SWEEP)
        assert record.outcome is Outcome.NON_FINITE

    def test_goes_round_a_collection_of_loaders(self) -> None:
        class Two(Net):
            def training_step(self, batch, batch_idx):
                return super().training_step(batch["one"], batch_idx)

        data = {"one": digits(512, shuffle=True), "two": digits(1024, shuffle=True)}
        assert len(range_test(trainer(), Two(), data, sweep=SWEEP)) == 12

    def test_user_loggers_callbacks_and_checkpoints_see_nothing(self, tmp_path) -> None:
        called = []

        class Watch(pl.Callback):
            def on_train_batch_end(self, *_) -> None:
                called.append("callback")

        class WithCallbacks(Net):
            def configure_callbacks(self):
                return [Watch()]

        logger = pl.loggers.CSVLogger(tmp_path)
        fitted = trainer(Watch(), logger=logger, enable_checkpointing=True)
        fitted.checkpoint_callback.dirpath = str(tmp_path)
        range_test(fitted, WithCallbacks(), digits(), sweep=SWEEP)
        assert called == []
        assert list(tmp_path.iterdir()) == []


class TestErrors:
    def test_wrong_arguments(self) -> None:
        module, data = Net(), digits()
        with pytest.raises(InputError, match="trainer must be a Lightning Trainer, got Net"):
            range_test(module, data)
        with pytest.raises(InputError, match="steps is the length of the default sweep"):
            range_test(trainer(), module, data, sweep=SWEEP, steps=5)
        with pytest.raises(DataError, match="re-iterable, not an iterator"):
            range_test(trainer(), module, iter(data))
        with pytest.raises(SpecError, match="sweep must be a cyclr schedule"):
            range_test(trainer(), module, data, sweep=0.1)
        with pytest.raises(InputError, match="trainer must be on one device, got 2"):
            range_test(trainer(devices=2), module, data)

    def test_a_range_test_that_has_been_driven(self) -> None:
        def fail(module):
            raise AssertionError("nothing is to be made")

        half = RangeTest(SWEEP)
        half.tell(loss=half.ask() or 5.0)
        whole = RangeTest(SWEEP)
        range_test(trainer(), Net(), digits(), sweep=whole)
        record = whole.record
        for used, count in ((half, 1), (whole, 12)):
            with pytest.raises(InputError, match=f"has made {count} updates already"):
                range_test(trainer(), Net(fail), digits(), sweep=used)
        assert whole.record == record

    @pytest.mark.filterwarnings("ignore:Total length of .DataLoader. across ranks is zero")
    def test_empty_data(self) -> None:
        empty = DataLoader(TensorDataset(torch.zeros(0, 64), torch.zeros(0, dtype=torch.long)))
        with pytest.raises(DataError, match="not a single batch"):
            range_test(trainer(), Net(), empty)

    def test_manual_optimization_that_returns_no_loss(self) -> None:
        module = Rates(
            lambda m: [sgd(m.one.parameters()), sgd(m.two.parameters())], manual=True, answer=False
        )
        with pytest.raises(InputError, match=r"Rates\.training_step must return the loss"):
            range_test(trainer(), module, digits())

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"validate": lambda _: 0.3}, "what validate gave must be a mapping of metrics"),
            ({"validate": 3}, "validate must be a function, got 3"),
            ({"validate_every": 3}, "validate_every needs validate"),
            (
                {"validate": lambda _: {"train_accuracy": 0.3}, "metrics": ("train_accuracy",)},
                "training_step and validate both gave 'train_accuracy'",
            ),
        ],
    )
    def test_a_validation_that_cannot_be_made(self, options, words: str) -> None:
        with pytest.raises(InputError, match=words):
            range_test(trainer(), Net(), digits(), **options)

    def test_a_metric_that_is_not_logged(self) -> None:
        with pytest.raises(InputError, match=r"'accuracy', which .*logged \['train_accuracy'\]"):
            range_test(trainer(), Net(), digits(), metrics=("accuracy",))
