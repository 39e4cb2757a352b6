"""A training whose data come from worker processes, to be ended together with them."""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cyclr import Recipe, Triangular
from cyclr.training import Run, fit

RECIPE = Recipe(lr=Triangular(base_lr=0.01, max_lr=0.1, stepsize=10, cycles=1), total_steps=20)


class Slow(torch.utils.data.Dataset[Any]):
    """Examples that take a while, so that the workers are at work."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.01)
        return torch.full((4,), index / 64), index % 2


def main(folder: Path, *, resume: bool = False) -> tuple[Run, nn.Module]:
    """Train, saying when each update begins."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    batches = torch.utils.data.DataLoader(Slow(), 8, shuffle=True, num_workers=1)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sys.stdout.write("update\n")
        sys.stdout.flush()
        return nn.functional.cross_entropy(outputs, targets)

    how: dict[str, Any] = {"checkpoint_every": 4, "on_remark": lambda _: None}
    return fit(model, optimizer, batches, loss, RECIPE, folder=folder, resume=resume, **how), model


if __name__ == "__main__":
    main(Path(sys.argv[1]))
