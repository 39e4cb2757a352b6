"""What a module finds in the sweep's Trainer: its own limits, and schedulers that do nothing."""

import pytest

pytest.importorskip("lightning", reason="needs the extra cyclr[lightning]")

import torch

from cyclr import ExponentialSweep
from cyclr.integrations.lightning import range_test
from integrations.lightning.nets import Net, digits, sgd, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.*treespec, LeafSpec.*is deprecated",
)
SWEEP = ExponentialSweep(start_lr=1e-4, end_lr=1e-1, steps=40)  # of 29 batches an epoch


def limits(trainer):
    return trainer.max_epochs, trainer.max_steps, trainer.estimated_stepping_batches


class Limited(Net):
    """Notes the Trainer's limits when the optimizer is made, and in each step."""

    def __init__(self, seen) -> None:
        super().__init__()
        self.note = seen.append

    def training_step(self, batch, batch_idx):
        self.note(limits(self.trainer))
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self):
        self.note(limits(self.trainer))
        return super().configure_optimizers()


class TestLimits:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"max_epochs": 3}, (3, -1, 87)),
            ({"max_epochs": 3, "accumulate_grad_batches": 4}, (3, -1, 24)),
            ({"max_epochs": -1, "max_steps": 10}, (-1, 10, 10)),
            ({"max_epochs": None, "max_steps": 10}, (-1, 10, 10)),
            ({"max_epochs": 1, "max_steps": 10}, (1, 10, 10)),
            ({"max_epochs": None}, (1000, -1, 29_000)),
            ({"max_epochs": None, "max_time": "00:01:00:00"}, (-1, -1, float("inf"))),
            ({"max_epochs": 0}, (0, -1, 29)),
            ({"max_epochs": -1}, (-1, -1, float("inf"))),
        ],
        ids=str,
    )
    def test_are_those_of_the_user_s_trainer_and_do_not_end_the_sweep(
        self, options, expected
    ) -> None:
        seen: list = []
        record = range_test(trainer(**options), Limited(seen), digits(), sweep=SWEEP)
        assert len(record) == 40
        assert set(seen) == {expected}

    def test_a_schedule_of_the_length_of_the_training(self) -> None:
        def configure(module):
            optimizer = sgd(module.parameters())
            steps = module.trainer.estimated_stepping_batches
            made = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
            return [optimizer], [{"scheduler": made, "interval": "step"}]

        fitted, module = trainer(max_epochs=1), Net(configure)
        assert len(range_test(fitted, module, digits(), sweep=SWEEP)) == 40
        assert fitted.max_epochs == 1
        fitted.fit(module, digits())
        assert fitted.global_step == 29


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_scheduler_that_monitors_a_validation_does_nothing(interval) -> None:
    rates: list = []

    def configure(module):
        optimizer = sgd(module.parameters())
        made = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        monitored = {"scheduler": made, "monitor": "val_loss", "interval": interval}
        return {"optimizer": optimizer, "lr_scheduler": monitored}

    class Stepped(Net):
        def lr_scheduler_step(self, scheduler, metric) -> None:
            rates.append("scheduler")

        def on_before_optimizer_step(self, optimizer) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    assert len(range_test(trainer(), Stepped(configure), digits(), sweep=SWEEP)) == 40
    assert rates == pytest.approx([SWEEP(step) for step in range(40)])
