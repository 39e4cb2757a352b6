"""The Transformers integration, through the public conformance checks, inside real Trainers."""

import copy

import pytest

pytest.importorskip("transformers", reason="needs the extra cyclr[transformers]")

import torch
import transformers

from cyclr.integrations.base import Integration, Interruption
from cyclr.integrations.torch import Scheduler
from cyclr.integrations.transformers import CycleCallback, range_test
from cyclr.testing import check_integration
from integrations.stepping import Stepped
from integrations.transformers.nets import Used, trainer


class Pause(transformers.TrainerCallback):
    """Stops the training after each update, until it is told to go on."""

    def __init__(self, stepped, used) -> None:
        self.stepped, self.used = stepped, used

    def on_train_begin(self, *_, **__) -> None:
        self.stepped.pause()

    def on_step_end(self, args, state, control, **_) -> None:
        control.should_training_stop = False  # the checks look beyond the end
        if control.should_save:
            control.should_save = False
        self.stepped.pause(self.used.values[-1])


class Failing(transformers.Trainer):
    """Raises an exception within a training step on request."""

    def compute_loss(self, *args, **kwargs):
        if self.batches == self.fail_at:
            raise Interruption
        self.batches += 1
        self.log({"batches": self.batches})
        return super().compute_loss(*args, **kwargs)


class Transformers(Integration):
    def __init__(self, path, *, callback=False, make=None, **options) -> None:
        self.path, self.callback, self.options = path, callback, options
        self.make = make or (lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9))
        self.stepped = None

    def begin(self, recipe, checkpoint=None) -> None:
        if self.stepped is not None:
            self.stepped.halt()

        def optimizers(model):
            optimizer = self.make(model.parameters())
            return optimizer, None if self.callback else Scheduler(optimizer, recipe)

        def train(stepped):
            used = Used()
            callbacks = [CycleCallback(recipe)] if self.callback else []
            self.trainer = trainer(
                self.path,
                *callbacks,
                used,
                Pause(stepped, used),
                optimizers=optimizers,
                kind=Failing,
                **self.options,
            )
            self.trainer.batches, self.trainer.fail_at = 0, None
            self.trainer.train(resume_from_checkpoint=checkpoint)

        self.stepped = Stepped(train)

    def update(self):
        return self.stepped.update()

    def state(self):
        self.stepped.call(lambda: self.trainer._save_checkpoint(self.trainer.model, None))
        return str(self.path / f"checkpoint-{self.trainer.state.global_step}")

    def resume(self, recipe, state) -> None:
        self.begin(recipe, checkpoint=state)

    def range_test(self, sweep, *, fail_at=None):
        self.trainer.batches, self.trainer.fail_at = 0, fail_at
        try:
            return self.stepped.call(lambda: range_test(self.trainer, sweep=sweep))
        finally:
            self.trainer.fail_at = None

    def fingerprint(self):
        made = self.trainer
        gradients = made.accelerator.gradient_state
        return repr(
            [
                made.model.state_dict(),
                [parameter.grad for parameter in made.model.parameters()],
                [part.training for part in made.model.modules()],
                made.optimizer.state_dict(),
                len(made.optimizer.optimizer._optimizer_step_post_hooks),
                made.lr_scheduler.state_dict(),
                made.lr_scheduler.get_last_lr(),
                copy.deepcopy(vars(made.state)),
                copy.deepcopy(vars(made.control)),
                sorted(vars(made)),
                getattr(made, "_tr_loss", None),
                [id(x) for x in (made.model, made.model_wrapped, made.optimizer)],
                [len(getattr(made.accelerator, f"_{x}")) for x in ("models", "dataloaders")],
                [len(getattr(made.accelerator, f"_{x}")) for x in ("optimizers", "schedulers")],
                gradients.sync_gradients,
                [id(loader) for loader in gradients.dataloader_references],
                torch.get_rng_state().tolist(),
            ]
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"callback": True},
        {"gradient_accumulation_steps": 3},
        {"callback": True, "gradient_accumulation_steps": 3},
        {"callback": True, "lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
    ],
    ids=[
        "scheduler",
        "callback",
        "scheduler-accumulate",
        "callback-accumulate",
        "over-plateau",
    ],
)
def test_transformers_conforms(options, tmp_path) -> None:
    handle = Transformers(tmp_path, **options)
    check_integration(handle)
    handle.stepped.halt()
