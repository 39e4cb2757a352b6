"""A task that trains in a moment."""

from typing import Any

import torch
from torch import nn

from cyclr import Task
from cyclr.experiments.data import digits


def small_task(**changes: Any) -> Task:
    (inputs, targets), (held, held_targets) = digits()
    fields: dict[str, Any] = {
        "name": "small digits",
        "model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        "train": (inputs[:512], targets[:512]),
        "validation": (held, held_targets),
        "loss_fn": nn.functional.cross_entropy,
        "optimizer": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        "batch_size": 64,
        "epochs": 4,
        "prepare": lambda images: images.float() / 8 - 1,
    }
    return Task(**{**fields, **changes})
