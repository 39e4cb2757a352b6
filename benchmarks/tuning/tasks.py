"""The tasks: training data split in two, for training and for choosing, and a test set for neither.

Every arm trains on the same first part, chooses by the loss on the second, and is scored once on
the test set.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cyclr import Task
from cyclr.experiments import data as built_in
from cyclr.experiments.models import digits_net, small_resnet

DATA = Path(os.environ.get("CYCLR_DATA", "../shared/data"))
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # what the built-in tasks have

Images = built_in.Images


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of the data is used, and how long training is.

    Attributes:
        images: Training images, the held out ones included.
        held: How many of them are held out to choose by.
        test: Images to score on.
        batch_size: Examples per update.
        epochs: Of the full training.
    """

    images: int
    held: int
    test: int
    batch_size: int
    epochs: int

    @property
    def steps(self) -> int:
        """Updates of the full training."""
        return self.epochs * ((self.images - self.held) // self.batch_size)

    def to_dict(self) -> dict[str, int]:
        """Write it as plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task to tune.

    Attributes:
        name: Of the task.
        load: Gives images to train on and to score on.
        model: Makes the net.
        size: See there.
    """

    name: str
    load: Callable[[], tuple[Images, Images]]
    model: Callable[[], nn.Module]
    size: Size

    def parts(self) -> tuple[Images, Images, Images]:
        """Give what is trained on, what is chosen by and what is scored on."""
        train, test = self.load()
        order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))
        kept = order[: self.size.images]
        first, second = kept[self.size.held :], kept[: self.size.held]
        return (
            _pick(train, first),
            _pick(train, second),
            Images(*(t[: self.size.test] for t in test)),
        )

    def task(self) -> Task:
        """Make the task as cyclr has it; its validation data is what is chosen by."""
        train, held, _ = self.parts()
        return Task(
            name=self.name,
            model=self.model,
            train=tuple(train),
            validation=tuple(held),
            loss_fn=nn.functional.cross_entropy,
            optimizer=_sgd,
            batch_size=self.size.batch_size,
            epochs=self.size.epochs,
            prepare=_standardize(train.images),
        )


def _pick(images: Images, index: torch.Tensor) -> Images:
    return Images(images.images[index], images.labels[index])


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def _standardize(images: torch.Tensor) -> Callable[[Any], Any]:
    pixels = images.float()
    mean, deviation = float(pixels.mean()), float(pixels.std())
    return lambda batch: (batch.float() - mean) / deviation


@functools.cache
def _cifar10() -> tuple[Images, Images]:
    return built_in.image_dataset(str(DATA / "cifar10"), size=32)


CASES = [
    Case(
        name="digits",
        load=built_in.digits,
        model=digits_net,
        size=Size(images=1438, held=288, test=359, batch_size=32, epochs=40),
    ),
    Case(
        name="fashion-mnist",
        load=functools.cache(built_in.fashion_mnist),
        model=functools.partial(small_resnet, channels=1, width=8),
        size=Size(images=10_000, held=2000, test=10_000, batch_size=64, epochs=12),
    ),
    Case(
        name="cifar10",
        load=_cifar10,
        model=functools.partial(small_resnet, width=8),
        size=Size(images=10_000, held=2000, test=10_000, batch_size=64, epochs=12),
    ),
]

BY_NAME = {case.name: case for case in CASES}
