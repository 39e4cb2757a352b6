"""Small modules, data and Trainers for the tests of the Lightning integration."""

import lightning.pytorch as pl
import torch
import torchmetrics
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cyclr import Opposite, Recipe, Triangular2

CYCLE = Triangular2(base_lr=0.01, max_lr=0.1, stepsize=4, cycles=3)
RECIPE = Recipe(
    lr=CYCLE,
    momentum=Opposite(schedule=CYCLE, bottom=0.01, top=0.1, low=0.85, high=0.95),
    total_steps=24,
)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1.0, momentum=0.9)


def trainer(*callbacks, **options):
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": -1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": list(callbacks),
            **options,
        }
    )


def digits(batch_size=64, shuffle=False, **options):
    inputs, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(labels))
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle, **options)


class Net(pl.LightningModule):
    """A classifier of digits that also counts, keeps a list, and feeds a metric."""

    def __init__(self, configure=None, on_batch=lambda: None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
        )
        self.accuracy = torchmetrics.MeanMetric()
        self.configure = configure or (lambda module: sgd(module.parameters()))
        self.on_batch = on_batch
        self.batches = 0
        self.losses = []
        self.notes = {"seen": {"labels": set()}}

    def training_step(self, batch, batch_idx):
        self.on_batch()
        inputs, labels = batch
        outputs = self.body(inputs.to(self.body[0].weight.dtype))
        loss = nn.functional.cross_entropy(outputs, labels)
        self.batches += 1
        self.losses.append(loss.item())
        self.notes["seen"]["labels"].update(labels.tolist())
        right = (outputs.argmax(1) == labels).float().mean()
        self.accuracy.update(right)
        self.log("train_accuracy", right)
        self.logger and self.logger.experiment.add_scalar("loss", loss)
        return loss

    def configure_optimizers(self):
        return self.configure(self)


class Used(pl.Callback):
    """Notes what each of the optimizers' updates uses."""

    def __init__(self) -> None:
        self.values = []

    def on_fit_start(self, trainer, pl_module) -> None:
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(self._note)

    def _note(self, optimizer, *_) -> None:
        group = optimizer.param_groups[0]
        momentum = group["betas"][0] if "betas" in group else group["momentum"]
        self.values.append(
            {"lr": float(group["lr"]), "momentum": momentum, "decay": group["weight_decay"]}
        )

    def __getitem__(self, key):
        return [values[key] for values in self.values]
