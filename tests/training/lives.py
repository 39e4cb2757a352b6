"""Trains in processes forked from one that is warm, so that each can be killed and costs little.

    python lives.py FOLDER KILLS SEED

trains once without disturbance into FOLDER/whole, then into FOLDER/cut with KILLS real SIGKILLs at
random moments, every third of them while a checkpoint is being written, and prints what happened as
JSON. Nothing here touches torch before it forks: threads would not survive it.
"""

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # the first optimizer would import it, in every life anew
from accelerate.utils import set_seed
from torch import nn

from cyclr import Opposite, Recipe, Triangular2
from cyclr.training import fit, make_loader

STEPS = 480
CYCLE = Triangular2(base_lr=0.01, max_lr=0.1, stepsize=60, cycles=4)
RECIPE = Recipe(
    lr=CYCLE,
    momentum=Opposite(schedule=CYCLE, bottom=0.01, top=0.1, low=0.85, high=0.95),
    total_steps=STEPS,
)


def net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3)
    )


def noisy(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


def over(progress: mmap.mmap) -> bool:
    done, most = struct.unpack("qq", progress[:])
    return done >= most


def train(folder: Path, progress: mmap.mmap) -> None:
    """One life: from the beginning, or from where the last one left off."""
    torch.set_num_threads(1)
    set_seed(0)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(330, 8, generator=generator)
    targets = (inputs.sum(1) > 0).long() + (inputs[:, 0] > 1).long()
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    batches = iter(range(10**9))

    def loss_fn(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        progress[:8] = struct.pack("q", next(batches))
        while over(progress):
            time.sleep(0.001)  # the kill is late, and must not find a finished run
        chance = 1 + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return chance * nn.functional.cross_entropy(outputs, wanted)

    fit(
        model,
        optimizer,
        make_loader((inputs[:300], targets[:300]), 32, seed=5, augment=noisy),
        loss_fn,
        RECIPE,
        validation=make_loader((inputs[300:], targets[300:]), 32, train=False),
        folder=folder,
        resume=folder.exists(),
        on_remark=lambda _: None,
        checkpoint_every=7,
        keep=2,
        ema_decay=0.98,
        probe_every=5,
        max_grad_norm=1.0,
        accumulate=2,
        validate_every=50,
    )


def live(folder: Path, progress: mmap.mmap, most: int = 10**9) -> int:
    """Fork a life that lasts for at most so many batches; give its process."""
    progress[:] = struct.pack("qq", 0, most)
    process = os.fork()
    if process == 0:
        try:
            train(folder, progress)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return process


def kill_at_random(folder: Path, progress: mmap.mmap, aim: bool, chance: random.Random) -> str:
    """Let a life train for some batches and kill it; with aim, when a checkpoint is written."""
    after = chance.randrange(72)
    delay = chance.random() * 0.002
    process = live(folder, progress, most=after + 40)
    while struct.unpack("qq", progress[:])[0] < after:
        check_alive(process)
    checkpoints = folder / "checkpoints"
    if aim:
        while not list(checkpoints.glob(".step-*.partial")) and not over(progress):
            check_alive(process)
    else:
        time.sleep(delay)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "while writing" if list(checkpoints.glob(".step-*")) else "between"


def check_alive(process: int) -> None:
    if os.waitpid(process, os.WNOHANG) != (0, 0):
        raise SystemExit("a life ended before it was killed")


def main(folder: Path, kills: int, seed: int) -> None:
    progress = mmap.mmap(-1, 16)
    chance = random.Random(seed)
    _, status = os.waitpid(live(folder / "whole", progress), 0)
    assert status == 0
    moments = [kill_at_random(folder / "cut", progress, n % 3 == 0, chance) for n in range(kills)]
    _, status = os.waitpid(live(folder / "cut", progress), 0)
    assert status == 0
    sys.stdout.write(json.dumps(moments) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
