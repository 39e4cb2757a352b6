"""The Lightning integration, through the public conformance checks, inside real Trainers."""

import itertools

import pytest

pytest.importorskip("lightning", reason="needs the extra cyclr[lightning]")

import lightning.pytorch as pl
import torch

from cyclr.integrations.base import Integration, Interruption
from cyclr.integrations.lightning import CycleCallback, configuration, range_test
from cyclr.testing import check_integration
from integrations.lightning.nets import Net, Used, digits, sgd, trainer
from integrations.stepping import Stepped

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.*treespec, LeafSpec.*is deprecated",  # Lightning's own use of torch
    # Which batches follow does not matter here; test_callback.py resumes the data too.
    "ignore:You're resuming from a checkpoint that ended before the epoch ended",
)


class Pause(pl.Callback):
    """Stops the fit after each update, until it is told to go on."""

    def __init__(self, stepped, used) -> None:
        self.stepped, self.used, self.updates = stepped, used, 0

    def on_train_start(self, trainer, pl_module) -> None:
        self.updates = trainer.global_step
        self.stepped.pause()

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step > self.updates:
            self.updates = trainer.global_step
            self.stepped.pause(self.used.values[-1])


class Lightning(Integration):
    def __init__(self, path, *, callback=False, make=sgd, **options) -> None:
        self.path, self.callback, self.make, self.options = path, callback, make, options
        self.numbers = itertools.count()
        self.stepped = None

    def begin(self, recipe, ckpt_path=None) -> None:
        if self.stepped is not None:
            self.stepped.halt()

        def configure(module):
            optimizer = self.make(module.parameters())
            return optimizer if self.callback else configuration(optimizer, recipe)

        def fit(stepped):
            used = Used()
            callbacks = [CycleCallback(recipe)] if self.callback else []
            # min_steps, because the checks look beyond the end, where the callback stops.
            options = {"min_steps": recipe.total_steps + 5, **self.options}
            self.trainer = trainer(*callbacks, used, Pause(stepped, used), **options)
            self.module = Net(configure, self.on_batch)
            self.trainer.fit(self.module, digits(shuffle=True), ckpt_path=ckpt_path)

        self.batches, self.fail_at = 0, None
        self.stepped = Stepped(fit)

    def on_batch(self) -> None:
        if self.batches == self.fail_at:
            raise Interruption
        self.batches += 1

    def update(self):
        return self.stepped.update()

    def state(self):
        path = self.path / f"{next(self.numbers)}.ckpt"
        self.stepped.call(lambda: self.trainer.save_checkpoint(path))
        return path

    def resume(self, recipe, state) -> None:
        self.begin(recipe, ckpt_path=state)

    def range_test(self, sweep, *, fail_at=None):
        self.batches, self.fail_at = 0, fail_at
        try:
            return self.stepped.call(lambda: range_test(self.trainer, self.module, sweep=sweep))
        finally:
            self.fail_at = None

    def fingerprint(self):
        trainer, module = self.trainer, self.module
        callbacks = [callback.state_dict() for callback in trainer.callbacks]
        parts = [
            module.state_dict(),
            [parameter.grad for parameter in module.parameters()],
            [part.training for part in module.modules()],
            module.batches,
            module.losses,
            module.notes,
            module.accuracy.metric_state,
            [optimizer.state_dict() for optimizer in trainer.optimizers],
            [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
            callbacks,
            trainer.fit_loop.state_dict(),
            {name: float(value) for name, value in trainer.callback_metrics.items()},
            (trainer.should_stop, trainer.state.stage, trainer.state.status, trainer.max_epochs),
            torch.get_rng_state().tolist(),
        ]
        assert module.trainer is trainer
        return repr(parts)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"callback": True},
        {"accumulate_grad_batches": 3},
        {"callback": True, "accumulate_grad_batches": 3},
        {"callback": True, "make": lambda p: torch.optim.AdamW(p, lr=1.0)},
    ],
    ids=["configured", "callback", "configured-accumulate", "callback-accumulate", "adamw"],
)
def test_lightning_conforms(options, tmp_path) -> None:
    handle = Lightning(tmp_path, **options)
    check_integration(handle)
    handle.stepped.halt()
