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


class Steep(nn.Module):
    """Has a loss so steep that it explodes at rates of 1e-7."""

    slope = 1e9

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 1))

    def forward(self, input_ids, labels):
        outputs = self.layers(input_ids / 9).squeeze(1)
        return {"loss": self.slope * (outputs - labels).square().mean(), "logits": outputs}


class Strict(transformers.Trainer):
    """Raises an exception about values that are not finite."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        logits = model(**inputs).logits
        torch.distributions.Categorical(logits=logits, validate_args=True)
        return super().compute_loss(model, inputs, *args, **kwargs)


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

    def test_with_noisy_embeddings(self, tmp_path) -> None:
        def tested(made):
            range_test(made, sweep=SWEEP)

        options = {"neftune_noise_alpha": 5.0}
        places = dict.fromkeys(("before", "between", "within"), tested)
        self.agree(self.train(tmp_path, **options), self.train(tmp_path, **places, **options))


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

    @pytest.mark.parametrize("place", ["before", "within"])
    def test_of_noisy_embeddings(self, place, tmp_path) -> None:
        """NEFTune's noise is there in each update, once, and neither in validation nor after."""
        made = trainer(tmp_path, model=bert(dropout=0.0), neftune_noise_alpha=5.0, max_steps=8)
        embeddings = made.model.get_input_embeddings()
        tokens = torch.stack([row["input_ids"] for row in reviews(8)])
        seen = {True: [], False: []}

        def look(part, args, output) -> None:
            clean = nn.functional.embedding(args[0], part.weight)
            seen[part.training].append(
                (output - clean).abs().max().item() * clean[0].numel() ** 0.5
            )

        def run() -> None:
            hook = embeddings.register_forward_hook(look)  # after a training's own
            hooks = dict(embeddings._forward_hooks)
            record = range_test(
                made,
                sweep=SWEEP,
                validate=lambda model: {"nothing": 0 * model(input_ids=tokens).logits.sum().item()},
                on_step=lambda test: embeddings._forward_hooks.move_to_end(hook.id),
            )
            assert record.metrics["nothing"].steps
            assert dict(embeddings._forward_hooks) == hooks
            hook.remove()

        if place == "within":
            made.add_callback(At(run))
            made.train()
        else:
            run()
        assert not embeddings._forward_hooks
        assert not hasattr(embeddings, "neftune_noise_alpha")
        assert len(seen[True]) == 10
        assert max(seen[False]) < 1e-5
        noisy = seen[True][1:]  # before the first step look() may come first
        assert 4.5 < min(noisy) <= max(noisy) < 5.001

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

    def test_of_rates_that_begin_too_high(self, tmp_path) -> None:
        """The sweep begins again lower from the same weights, and training knows of neither."""

        def train(test):
            made = trainer(
                tmp_path,
                model=Steep(),
                optimizers=lambda model: (torch.optim.SGD(model.parameters(), lr=1e-12), None),
                max_grad_norm=0.0,
                max_steps=4,
                logging_nan_inf_filter=False,
            )
            record = range_test(made) if test else None
            made.train()
            return record, weights(made.model), torch.get_rng_state()

        record, *tested = train(True)
        assert record.scout.lr[0] == pytest.approx(1e-13)
        assert record.lr[-1] < 1e-7
        assert "the sweep began again from 1e-13" in record.notes[0]
        assert min(record.loss) < 0.9 * record.loss[0] < Steep.slope
        _, *plain = train(False)
        assert all(map(torch.equal, tested, plain))

    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_of_a_step_that_raises_because_of_nan(self, accumulate, tmp_path) -> None:
        wild = ExponentialSweep(start_lr=1e-3, end_lr=1e38, steps=3)

        def train(test):
            made = trainer(
                tmp_path, kind=Strict, gradient_accumulation_steps=accumulate, max_steps=4
            )
            record = range_test(made, sweep=wild) if test else None
            made.train()
            return record, weights(made.model), torch.get_rng_state()

        record, *tested = train(True)
        assert record.outcome is Outcome.NON_FINITE
        assert "Step 2 raised ValueError (Expected parameter logits" in record.notes[0]
        _, *plain = train(False)
        assert all(map(torch.equal, tested, plain))


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
