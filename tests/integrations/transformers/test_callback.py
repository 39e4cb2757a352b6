"""A recipe inside Transformers' Trainer: what updates use, where it stops, exact resuming."""

import pytest

pytest.importorskip("transformers", reason="needs the extra cyclr[transformers]")

import torch
import transformers

import cyclr
from cyclr import Constant, Recipe, Triangular
from cyclr.errors import SpecError, StateError
from cyclr.integrations.torch import Scheduler
from cyclr.integrations.transformers import CycleCallback, range_test
from integrations.transformers.nets import (
    CYCLE,
    RECIPE,
    Used,
    bert,
    counting,
    gpt2,
    reviews,
    trainer,
    weights,
)


def due(recipe, key="lr", steps=None):
    steps = recipe.total_steps if steps is None else steps
    return pytest.approx([recipe.values(step)[key] for step in range(steps)])


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1.0)


def logged(made, key):
    return [entry[key] for entry in made.state.log_history if key in entry]


class TestSchedulerInTheOptimizersArgument:
    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_every_update_uses_the_recipe_s_values(self, accumulate, tmp_path) -> None:
        def optimizers(model):
            optimizer = adamw(model)
            return optimizer, Scheduler(optimizer, RECIPE)

        used = Used()
        made = trainer(
            tmp_path,
            used,
            optimizers=optimizers,
            max_steps=24,
            gradient_accumulation_steps=accumulate,
        )
        made.train()
        assert used["lr"] == due(RECIPE)
        assert used["momentum"] == due(RECIPE, "momentum")
        assert logged(made, "learning_rate") == due(RECIPE)

    @pytest.mark.parametrize("accumulate", [1, 3])
    @pytest.mark.parametrize("steps", [6, 8, 11])
    def test_resuming_is_exact(self, steps, accumulate, tmp_path) -> None:
        def train(checkpoint=None, **options):
            def optimizers(model):
                optimizer = adamw(model)
                return optimizer, Scheduler(optimizer, RECIPE)

            used = Used()
            made = trainer(
                tmp_path,
                used,
                optimizers=optimizers,
                gradient_accumulation_steps=accumulate,
                **{"max_steps": 24, **options},
            )
            made.train(resume_from_checkpoint=checkpoint)
            return weights(made.model), used.values

        whole, values = train()
        train(max_steps=steps, save_strategy="steps", save_steps=steps)
        half, rest = train(str(tmp_path / f"checkpoint-{steps}"))
        assert rest == values[steps:]
        assert torch.equal(half, whole)


class TestCallback:
    def test_drives_what_updates_use_and_stops_at_the_end_of_a_cycle(self, tmp_path) -> None:
        recipe = RECIPE.replace(weight_decay=Triangular(base_lr=0.0, max_lr=0.01, stepsize=5))
        used = Used()
        made = trainer(tmp_path, CycleCallback(recipe), used, weight_decay=0.1)
        made.train()
        assert made.state.global_step == 24 == recipe.stopping_points[-1]
        assert used["lr"] == due(recipe)
        assert used["momentum"] == due(recipe, "momentum")
        assert used["decay"] == due(recipe, "weight_decay")
        assert logged(made, "learning_rate") == due(recipe)
        plain = made.optimizer.param_groups[1]  # biases and norms, which Trainer does not decay
        assert plain["weight_decay"] == 0
        assert plain["lr"] == pytest.approx(CYCLE(24))

    def test_evaluates_and_saves_at_ends_of_cycles(self, tmp_path) -> None:
        made = trainer(
            tmp_path,
            CycleCallback(RECIPE),
            eval_strategy="steps",
            eval_steps=1000,
            save_strategy="steps",
            save_steps=1000,
        )
        made.train()
        evaluated = [e["step"] for e in made.state.log_history if "eval_loss" in e]
        assert evaluated == [8, 16, 24] == list(RECIPE.stopping_points)
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "checkpoint-16",
            "checkpoint-24",
            "checkpoint-8",
        ]

    def test_does_not_do_so_twice_at_the_end_of_an_epoch(self, tmp_path) -> None:
        saved = []

        class Watch(transformers.TrainerCallback):
            def on_save(self, args, state, control, **_) -> None:
                saved.append(state.global_step)

        made = trainer(
            tmp_path, CycleCallback(RECIPE), Watch(), eval_strategy="epoch", save_strategy="epoch"
        )
        made.train()  # eight updates an epoch, and a cycle
        evaluated = [e["step"] for e in made.state.log_history if "eval_loss" in e]
        assert evaluated == saved == [8, 16, 24]

    def test_leaves_both_to_the_trainer_if_told_so(self, tmp_path) -> None:
        made = trainer(
            tmp_path,
            CycleCallback(RECIPE, evaluate=False, save=True),
            eval_strategy="steps",
            eval_steps=10,
        )
        made.train()
        evaluated = [e["step"] for e in made.state.log_history if "eval_loss" in e]
        assert evaluated == [10, 20]
        assert len(list(tmp_path.iterdir())) == 3

    @pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "reduce_lr_on_plateau"])
    def test_wins_over_any_scheduler_of_the_trainer(self, kind, tmp_path) -> None:
        used = Used()
        options = {}
        if kind == "reduce_lr_on_plateau":  # it lowers the rate after every evaluation
            options = {"eval_strategy": "steps", "eval_steps": 1}
            options["lr_scheduler_kwargs"] = {"patience": 0, "threshold": 1e9}
        made = trainer(tmp_path, CycleCallback(RECIPE), used, lr_scheduler_type=kind, **options)
        made.train()
        assert used["lr"] == due(RECIPE)
        assert logged(made, "learning_rate") == due(RECIPE)

    @pytest.mark.parametrize("accumulate", [1, 3])
    @pytest.mark.parametrize("steps", [6, 8, 11])
    def test_resuming_is_exact(self, steps, accumulate, tmp_path) -> None:
        def train(checkpoint=None, **options):
            used = Used()
            made = trainer(
                tmp_path,
                CycleCallback(RECIPE),
                used,
                gradient_accumulation_steps=accumulate,
                **options,
            )
            made.train(resume_from_checkpoint=checkpoint)
            return weights(made.model), used.values

        whole, values = train()
        train(save_strategy="steps", save_steps=steps)
        half, rest = train(str(tmp_path / f"checkpoint-{steps}"))
        assert rest == values[steps:]
        assert torch.equal(half, whole)

    def test_resuming_a_finished_training_says_so(self, tmp_path) -> None:
        trainer(tmp_path, CycleCallback(RECIPE, save=True)).train()
        with pytest.raises(StateError, match="made 24 updates and the recipe ends after 24"):
            trainer(tmp_path, CycleCallback(RECIPE)).train(str(tmp_path / "checkpoint-24"))

    def test_an_end_within_a_cycle_is_warned_of(self, tmp_path) -> None:
        with pytest.warns(UserWarning, match="ends after 10 updates, before the recipe's 24"):
            trainer(tmp_path, CycleCallback(RECIPE), max_steps=10).train()

    def test_together_with_a_scheduler_of_ours_is_an_error(self, tmp_path) -> None:
        def optimizers(model):
            optimizer = adamw(model)
            return optimizer, Scheduler(optimizer, RECIPE)

        with pytest.raises(StateError, match="the Trainer has a cyclr Scheduler"):
            trainer(tmp_path, CycleCallback(RECIPE), optimizers=optimizers).train()

    def test_wrong_recipes_are_errors(self, tmp_path) -> None:
        with pytest.raises(SpecError, match=r"recipe must be a cyclr Recipe, got Triangular2"):
            CycleCallback(CYCLE)
        moving = Recipe(lr=CYCLE, momentum=Constant(value=0.9), total_steps=5)
        with pytest.raises(SpecError, match="neither momentum nor betas"):
            trainer(
                tmp_path,
                CycleCallback(moving),
                optimizers=lambda model: (torch.optim.Adadelta(model.parameters()), None),
            ).train()


@pytest.mark.parametrize("make", [lambda: bert(dropout=0.0), gpt2], ids=["bert", "gpt2"])
def test_range_test_plan_and_training_of_tiny_text(make, tmp_path) -> None:
    made = trainer(tmp_path, model=make(), per_device_train_batch_size=16, max_steps=1000)
    made.train_dataset = reviews(128) if make is not gpt2 else counting(128)
    # By a rule that the way back does not move: where this net trains again, chance decides.
    reading = range_test(made, steps=60).read(rule="knee")
    recipe = cyclr.plan(reading, total_steps=160)
    made.add_callback(CycleCallback(recipe))
    made.train()
    assert made.state.global_step == recipe.total_steps
    losses = logged(made, "loss")
    assert sum(losses[-8:]) < 0.25 * sum(losses[:8])
