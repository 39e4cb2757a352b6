"""A small training with everything random in it, to be cut off, resumed and compared."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file
from torch import nn

from cyclr import Opposite, Recipe, Triangular
from cyclr.training import Run, fit, make_loader

CYCLE = Triangular(base_lr=0.01, max_lr=0.1, stepsize=10, cycles=3)
RECIPE = Recipe(
    lr=CYCLE,
    momentum=Opposite(schedule=CYCLE, bottom=0.01, top=0.1, low=0.85, high=0.95),
    total_steps=60,
)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(230, 8, generator=generator)
    return inputs, (inputs.sum(1) > 0).long()


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2)
    )


def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    chance = 1 + 0.1 * random.random() + 0.1 * float(np.random.rand())
    return chance * nn.functional.cross_entropy(outputs, targets)


def noisy(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


def run(
    folder: Path | None,
    *,
    recipe: Recipe = RECIPE,
    batches: Any = None,
    model: nn.Module | None = None,
    make_optimizer: Any = None,
    seed: int = 0,
    loss: Any = loss_fn,
    **options: Any,
) -> Run:
    """Train, or go on: everything is built anew, from the same seed."""
    set_seed(seed)
    inputs, targets = data()
    model = net() if model is None else model
    if make_optimizer is None:
        optimizer: Any = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    else:
        optimizer = make_optimizer(model.parameters())
    if batches is None:
        batches = make_loader((inputs[:200], targets[:200]), 16, seed=5, augment=noisy)
    held = make_loader((inputs[200:], targets[200:]), 16, train=False)
    options = {"on_remark": lambda _: None, "checkpoint_every": 7, "probe_every": 5, **options}
    return fit(model, optimizer, batches, loss, recipe, validation=held, folder=folder, **options)


class StopAfter:
    """A loss that sends a signal, raises, or does anything else at a training batch."""

    def __init__(self, batch: int, act: Any) -> None:
        self.left, self.act = batch, act

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if outputs.requires_grad:  # not in an evaluation
            self.left -= 1
            if self.left == 0:
                self.act()
        return loss_fn(outputs, targets)


def steps(folder: Path) -> list[int]:
    """List the steps of a run's checkpoints."""
    return sorted(int(p.name[5:]) for p in (folder / "checkpoints").iterdir() if p.name[0] != ".")


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_same(one: Any, two: Any, where: str = "state") -> None:
    """Compare nested plain data and tensors, bit for bit."""
    assert type(one) is type(two), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype, where
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    else:
        assert one == two, where


def assert_same_run(one: Path, two: Path, step: int = 60) -> None:
    """Compare what two runs came to: log, weights, optimizer, generators, data, everything."""
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    ends = [folder / "checkpoints" / f"step-{step:08d}" for folder in (one, two)]
    assert_same(*(load_file(str(end / "model.safetensors")) for end in ends))
    assert_same(*(torch.load(end / "state.pt", weights_only=True) for end in ends))
