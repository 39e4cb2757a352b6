"""Where the callback begins, what it resumes, and beside what it refuses to."""

import json
from typing import ClassVar

import pytest

pytest.importorskip("transformers", reason="needs the extra cyclr[transformers]")

import torch
import transformers

from cyclr import Triangular
from cyclr.errors import InputError, StateError
from cyclr.integrations.transformers import CycleCallback
from integrations.transformers.nets import RECIPE, Used, trainer, weights

OTHER = RECIPE.replace(lr=Triangular(base_lr=1e-5, max_lr=1e-3, stepsize=20), total_steps=40)
SAVING = {"save_strategy": "steps", "save_steps": 7}


def due(recipe, start=0, key="lr"):
    return pytest.approx([recipe.values(k)[key] for k in range(start, recipe.total_steps)])


def constant(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return optimizer, transformers.get_constant_schedule(optimizer)


def run(path, recipe=RECIPE, *, checkpoint=None, callback=None, **options):
    used = Used()
    made = trainer(path, CycleCallback(recipe) if callback is None else callback, used, **options)
    made.train(resume_from_checkpoint=None if checkpoint is None else str(path / checkpoint))
    return made, used


class TestFreshTraining:
    """It begins the recipe at its beginning, whatever ran before."""

    @pytest.mark.parametrize("optimizers", [(None, None), constant], ids=["own", "user's"])
    def test_after_a_stage_without_the_callback(self, optimizers, tmp_path) -> None:
        used = Used()
        made = trainer(tmp_path, used, optimizers=optimizers, max_steps=7)
        made.train()
        made.args.max_steps = 100
        made.add_callback(CycleCallback(RECIPE))
        used.values.clear()
        made.train()
        assert used["lr"] == due(RECIPE)
        assert used["momentum"] == due(RECIPE, key="momentum")

    @pytest.mark.parametrize("optimizers", [(None, None), constant], ids=["own", "user's"])
    def test_after_another_with_it(self, optimizers, tmp_path) -> None:
        made, used = run(tmp_path, optimizers=optimizers)
        used.values.clear()
        made.train()
        assert used["lr"] == due(RECIPE)

    def test_after_one_that_failed(self, tmp_path) -> None:
        class Failing(transformers.Trainer):
            def training_step(self, *args, **kwargs):
                if self.state.global_step == 5 and not self.failed:
                    self.failed = True
                    raise KeyError("a mistake")
                return super().training_step(*args, **kwargs)

        used = Used()
        made = trainer(tmp_path, CycleCallback(RECIPE), used, kind=Failing, optimizers=constant)
        made.failed = False
        with pytest.raises(KeyError, match="a mistake"):
            made.train()
        used.on_train_end()
        used.values.clear()
        made.train()
        assert used["lr"] == due(RECIPE)


class TestResuming:
    def test_in_a_second_stage_of_a_user_s_scheduler_is_exact(self, tmp_path) -> None:
        def train(checkpoint=None, **options):
            used = Used()
            made = trainer(tmp_path, used, optimizers=constant, max_steps=4)
            made.train()
            made.args.max_steps = 100
            for name, value in options.items():
                setattr(made.args, name, value)
            made.add_callback(CycleCallback(RECIPE))
            used.values.clear()
            made.train(resume_from_checkpoint=checkpoint)
            return weights(made.model), used["lr"]

        whole, rates = train(save_strategy=transformers.trainer_utils.SaveStrategy.STEPS)
        assert rates == due(RECIPE)
        half, rest = train(str(tmp_path / "checkpoint-8"))
        assert rest == due(RECIPE, 8)
        assert torch.equal(half, whole)

    def test_under_another_recipe_is_an_error(self, tmp_path) -> None:
        run(tmp_path, **SAVING)
        with pytest.raises(StateError, match=r"saved under another recipe: .*allow_change=True"):
            run(tmp_path, OTHER, checkpoint="checkpoint-7")
        longer = RECIPE.replace(total_steps=32)
        with pytest.raises(StateError, match=r"'total_steps': 24.*instead of .*'total_steps': 32"):
            run(tmp_path, longer, checkpoint="checkpoint-7")

    def test_under_another_recipe_if_meant(self, tmp_path) -> None:
        run(tmp_path, **SAVING)
        changed = CycleCallback(OTHER, allow_change=True)
        _, used = run(tmp_path, callback=changed, checkpoint="checkpoint-7", **SAVING)
        assert used["lr"] == due(OTHER, 7)
        _, used = run(tmp_path, OTHER, checkpoint="checkpoint-14")  # of the changed one
        assert used["lr"] == due(OTHER, 14)

    def test_with_other_notes_is_none(self, tmp_path) -> None:
        run(tmp_path, **SAVING)
        told = RECIPE.replace(notes=("found on a Monday",), steps_per_epoch=8)
        _, used = run(tmp_path, told, checkpoint="checkpoint-7")
        assert used["lr"] == due(RECIPE, 7)

    def test_from_a_checkpoint_without_the_recipe(self, tmp_path) -> None:
        """As they were saved before the callback had a state; and it saves more of them."""
        whole, _ = run(tmp_path, **SAVING)
        file = tmp_path / "checkpoint-7" / "trainer_state.json"
        state = json.loads(file.read_text())
        del state["stateful_callbacks"]["CycleCallback"]
        file.write_text(json.dumps(state))
        rest, used = run(tmp_path, checkpoint="checkpoint-7", **SAVING)
        assert used["lr"] == due(RECIPE, 7)
        assert torch.equal(weights(rest.model), weights(whole.model))
        with pytest.raises(StateError, match="another recipe"):
            run(tmp_path, OTHER, checkpoint="checkpoint-14")

    def test_with_the_callback_as_the_checkpoint_has_it(self, tmp_path) -> None:
        run(tmp_path, callback=CycleCallback(RECIPE, evaluate=True), **SAVING)
        made, used = run(
            tmp_path,
            OTHER,
            checkpoint="checkpoint-7",
            restore_callback_states_from_checkpoint=True,
        )
        assert used["lr"] == due(RECIPE, 7)
        evaluated = [e["step"] for e in made.state.log_history if "eval_loss" in e]
        assert evaluated == [8, 16, 24]


class TestTwoCallbacks:
    def test_are_an_error(self, tmp_path) -> None:
        made = trainer(tmp_path, CycleCallback(RECIPE), CycleCallback(OTHER))
        with pytest.raises(StateError, match=r"two CycleCallbacks.*keep one: trainer\.remove_"):
            made.train()

    def test_are_so_when_resuming_and_for_subclasses(self, tmp_path) -> None:
        class Own(CycleCallback):
            pass

        run(tmp_path, **SAVING)
        made = trainer(tmp_path, CycleCallback(RECIPE), Own(RECIPE))
        with pytest.raises(StateError, match="two CycleCallbacks"):
            made.train(str(tmp_path / "checkpoint-7"))

    def test_one_after_the_other_are_none(self, tmp_path) -> None:
        made, used = run(tmp_path)
        made.add_callback(CycleCallback(OTHER))
        with pytest.raises(StateError, match="two CycleCallbacks"):
            made.train()
        used.on_train_end()
        made.remove_callback(CycleCallback)  # the first, as the message says
        used.values.clear()
        made.train()
        assert used["lr"] == due(OTHER)


class TestSavingTheBestOnly:
    options: ClassVar = {
        "save_strategy": "best",
        "eval_strategy": "steps",
        "eval_steps": 6,
        "metric_for_best_model": "loss",
        "greater_is_better": False,
    }

    def test_goes_on_with_evaluations_at_stopping_points(self, tmp_path) -> None:
        made, _ = run(tmp_path, **self.options)
        losses = {e["step"]: e["eval_loss"] for e in made.state.log_history if "eval_loss" in e}
        assert sorted(losses) == [6, 8, 12, 16, 18, 24]
        saved = {int(path.name.removeprefix("checkpoint-")) for path in tmp_path.iterdir()}
        steps = sorted(losses)
        assert saved == {
            step
            for i, step in enumerate(steps)
            if all(losses[step] < losses[earlier] for earlier in steps[:i])
        }

    def test_leaves_it_to_the_trainer_without_evaluations(self, tmp_path) -> None:
        """What is not evaluated is not known to be the best."""
        made, _ = run(tmp_path, callback=CycleCallback(RECIPE, evaluate=False), **self.options)
        saved = {int(path.name.removeprefix("checkpoint-")) for path in tmp_path.iterdir()}
        assert saved <= {6, 12, 18, 24}
        assert made.state.best_global_step in saved

    def test_does_not_go_with_saving_at_every_stopping_point(self, tmp_path) -> None:
        with pytest.raises(InputError, match=r'save=True does not go with save_strategy="best"'):
            run(tmp_path, callback=CycleCallback(RECIPE, save=True), **self.options)

    def test_is_had_together_with_it_as_the_error_says(self, tmp_path) -> None:
        made, _ = run(
            tmp_path,
            callback=CycleCallback(RECIPE, save=True),
            **{
                **self.options,
                "save_strategy": "steps",
                "save_steps": 6,
                "load_best_model_at_end": True,
            },
        )
        saved = {int(path.name.removeprefix("checkpoint-")) for path in tmp_path.iterdir()}
        assert saved == {6, 8, 12, 16, 18, 24}
        assert made.state.best_global_step in saved
