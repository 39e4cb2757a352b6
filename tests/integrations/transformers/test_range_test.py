"""The Transformers range test: before, after and within a training; nothing of it stays."""

import pytest

pytest.importorskip("transformers", reason="needs the extra cyclr[transformers]")

import torch
import transformers
from torch import nn

from cyclr import ExponentialSweep, Outcome, RangeTest
from cyclr.errors import DataError, InputError
from cyclr.integrations.torch import Scheduler
from cyclr.integrations.transformers import CycleCallback, range_test
from integrations.transformers.nets import RECIPE, bert, gpt2, reviews, trainer, weights

SWEEP = ExponentialSweep(start_lr=1e-4, end_lr=1e-2, steps=10)


class At(transformers.TrainerCallback):
    """Calls a function after one of the updates, or between micro-batches."""

    def __init__(self, function, step=5, event="on_step_end") -> None:
        self.function, self.step = function, step
        setattr(self, event, self.react)

    def react(self, args, state, control, **_) -> None:
        if state.global_step == self.step:
            self.function()


class TestLeavesTrainingBitIdentical:
    """The same training with and without a range test somewhere in it."""

    def train(
        self, path, *, before=None, between=None, within=None, event="on_step_end", **options
    ):
        made = trainer(path, max_steps=12, **options)
        if within is not None:
            made.add_callback(At(lambda: within(made), event=event))
        if before is not None:
            before(made)
        made.train()
        if between is not None:
            between(made)
        made.train()
        history = [
            {name: value for name, value in entry.items() if name in ("loss", "learning_rate")}
            for entry in made.state.log_history
        ]
        return history, weights(made.model), torch.get_rng_state()

    def agree(self, one, other) -> None:
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])
        assert torch.equal(one[2], other[2])

    @pytest.mark.parametrize("place", ["before", "between", "within"])
    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_wherever_it_is(self, place, accumulate, tmp_path) -> None:
        records = []

        def run(made):
            records.append(range_test(made, sweep=SWEEP))

        options = {"gradient_accumulation_steps": accumulate, "dataloader_num_workers": 0}
        self.agree(self.train(tmp_path, **options), self.train(tmp_path, **{place: run}, **options))
        assert {len(record) for record in records} == {10}

    def test_between_micro_batches(self, tmp_path) -> None:
        options = {"gradient_accumulation_steps": 3}
        tested = self.train(
            tmp_path,
            within=lambda made: range_test(made, sweep=SWEEP),
            event="on_substep_end",
            **options,
        )
        self.agree(self.train(tmp_path, **options), tested)

    @pytest.mark.parametrize("passed", [False, True])
    def test_with_a_scheduler_or_callback_of_ours(self, passed, tmp_path) -> None:
        def train(function=None):
            def optimizers(model):
                optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
                return optimizer, Scheduler(optimizer, RECIPE) if passed else None

            callbacks = [] if passed else [CycleCallback(RECIPE)]
            made = trainer(tmp_path, *callbacks, optimizers=optimizers, max_steps=24)
            if function is not None:
                made.add_callback(At(lambda: function(made), event="on_pre_optimizer_step"))
            made.train()
            rates = [e["learning_rate"] for e in made.state.log_history if "learning_rate" in e]
            return rates, weights(made.model), torch.get_rng_state()

        self.agree(train(), train(lambda made: range_test(made, sweep=SWEEP)))

    @pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
    def test_after_a_failure_too(self, error, tmp_path) -> None:
        def failing(made):
            def on_step(test):
                if test.step == 4:
                    raise error

            test = RangeTest(SWEEP)
            with pytest.raises(error):
                range_test(made, sweep=test, on_step=on_step)
            assert test.record.outcome is Outcome.INTERRUPTED

        places = dict.fromkeys(("before", "between", "within"), failing)
        self.agree(self.train(tmp_path), self.train(tmp_path, **places))

    def test_in_mixed_precision(self, tmp_path) -> None:
        def tested(made):
            range_test(made, sweep=SWEEP)

        plain = self.train(tmp_path, bf16=True)
        self.agree(plain, self.train(tmp_path, bf16=True, before=tested, within=tested))


class TestRestores:
    def test_the_trainer_and_the_model(self, tmp_path) -> None:
        made = trainer(tmp_path, bf16=True)
        attributes, inside = dict(vars(made)), dict(vars(made.model))
        state = made.model.state_dict()
        before = {name: value.clone() for name, value in state.items()}
        gradients = made.accelerator.gradient_state  # shared with every other Trainer
        loaders = gradients.dataloader_references
        range_test(made, sweep=SWEEP)
        assert vars(made) == attributes
        assert made.optimizer is None
        assert vars(made.model) == inside
        assert all(torch.equal(before[name], state[name]) for name in before)
        assert made.state.log_history == []
        assert not made.accelerator._models
        assert not made.accelerator._optimizers
        assert not made.accelerator._dataloaders
        assert gradients.dataloader_references == loaders

    def test_the_user_s_optimizer(self, tmp_path) -> None:
        def optimizers(model):
            groups = [{"params": model.bert.parameters(), "lr": 0.1}]
            groups.append({"params": model.classifier.parameters()})
            return torch.optim.SGD(groups, lr=0.4, momentum=0.9), None

        made = trainer(tmp_path, optimizers=optimizers)
        optimizer, before = made.optimizer, repr(made.optimizer.state_dict())
        used = []
        optimizer.register_step_pre_hook(
            lambda inner, *_: used.append([group["lr"] for group in inner.param_groups])
        )
        record = range_test(made, sweep=SWEEP)
        assert made.optimizer is optimizer
        assert repr(optimizer.state_dict()) == before
        assert used == [pytest.approx([SWEEP(k) / 4, SWEEP(k)]) for k in range(10)]
        assert record.optimizer == {"name": "SGD", "momentum": 0.9, "weight_decay": 0.0}


class TestRecord:
    def test_losses_are_those_that_the_trainer_would_log(self, tmp_path) -> None:
        """Micro-batches of unequal numbers of tokens included, which the Trainer weighs."""
        rows = [{"input_ids": row["input_ids"]} for row in reviews(48)]
        for i, row in enumerate(rows):
            row["labels"] = row["input_ids"].clone()
            row["labels"][: i % 5] = -100

        def make():
            made = trainer(
                tmp_path,
                model=gpt2(),
                gradient_accumulation_steps=2,
                max_steps=6,
                learning_rate=1e-3,
                lr_scheduler_type="constant",
                max_grad_norm=0.5,
            )
            made.train_dataset = rows
            return made

        trained = make()
        trained.train()
        logged = [entry["loss"] for entry in trained.state.log_history if "loss" in entry]
        tested = make()
        sweep = ExponentialSweep(start_lr=1e-3 * (1 - 1e-9), end_lr=1e-3, steps=6)
        record = range_test(tested, sweep=sweep)
        assert record.steps_per_epoch == 3
        # The data's order is drawn from the global generator, which both begin with alike.
        assert list(record.loss) == pytest.approx(logged, rel=1e-4)

    def test_measures_while_it_runs(self, tmp_path) -> None:
        made, seen = trainer(tmp_path), []
        record = range_test(
            made,
            steps=10,
            validate=lambda model: {"val_accuracy": 0.5 + 0 * next(model.parameters()).sum()},
            validate_every=5,
            on_step=lambda test: seen.append(test.step),
        )
        assert record.metrics["val_accuracy"].steps == (0, 5)
        assert seen == list(range(1, len(record) + 1))

    def test_of_data_without_a_length(self, tmp_path) -> None:
        class Endless(torch.utils.data.IterableDataset):
            def __iter__(self):
                yield from reviews(40)

        made = trainer(tmp_path)
        made.train_dataset = Endless()
        record = range_test(made, sweep=SWEEP)
        assert len(record) == 10
        assert record.steps_per_epoch is None

    def test_of_a_loss_of_the_user_s_that_logs(self, tmp_path) -> None:
        class Own(transformers.Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, **_):
                labels = inputs.pop("labels")
                outputs = model(**inputs)
                loss = nn.functional.cross_entropy(outputs.logits, labels) + 100
                self.log({"mine": loss.item()})
                return (loss, outputs) if return_outputs else loss

        made = trainer(tmp_path, kind=Own)
        record = range_test(made, sweep=SWEEP)
        assert min(record.loss) > 100
        assert made.state.log_history == []


class TestErrors:
    def test_wrong_arguments(self, tmp_path) -> None:
        with pytest.raises(InputError, match="trainer must be a Transformers Trainer, got Bert"):
            range_test(bert())
        with pytest.raises(InputError, match="steps is the length of the default sweep"):
            range_test(trainer(tmp_path), sweep=SWEEP, steps=5)

    def test_several_devices(self, tmp_path) -> None:
        made = trainer(tmp_path)
        made.args._n_gpu = 2
        with pytest.raises(InputError, match="trainer must be on one device, got 2"):
            range_test(made)

    def test_empty_data(self, tmp_path) -> None:
        made = trainer(tmp_path)
        made.train_dataset = []
        with pytest.raises(DataError, match="not a single batch"):
            range_test(made)
