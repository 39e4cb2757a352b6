"""One of several data-parallel processes; writes what it saw to a file. Run by test_processes."""

import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from cyclr import ExponentialSweep
from cyclr.errors import InputError
from cyclr.integrations.torch import range_test

LOSS = nn.functional.cross_entropy
GENERATOR = torch.Generator().manual_seed(0)
DATA = TensorDataset(
    torch.randn(320, 8, generator=GENERATOR), torch.randint(0, 3, (320,), generator=GENERATOR)
)


def parts():
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(
        nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    )
    loader = DataLoader(DATA, batch_size=16, sampler=DistributedSampler(DATA, seed=4))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), loader


def trained(with_test: bool) -> list[float]:
    """Train one epoch; the losses of this process."""
    model, optimizer, loader = parts()
    if with_test:
        range_test(model, optimizer, loader, LOSS, repeats=2, steps=30)
    losses = []
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = LOSS(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def whole_sweep() -> dict:
    """Let the sweep find its range; every process tells of losses of its own."""
    model, optimizer, loader = parts()
    own = []

    def loss_fn(outputs, labels):
        loss = LOSS(outputs, labels)
        own.append(loss.item())
        return loss

    record = range_test(
        model,
        optimizer,
        loader,
        loss_fn,
        validate=lambda net: {"val_loss": float(distributed.get_rank())},
    )
    return {"record": record.to_dict(), "own": own}


def failing_in_one() -> dict:
    """Raise over a value that is not finite, in the second process only."""
    torch.manual_seed(0)
    model = nn.Linear(8, 3)

    def train_step(net, optimizer, batch):
        train_step.calls += 1
        if distributed.get_rank() == 1 and train_step.calls == 9:
            raise ValueError("the posterior is not finite")
        return LOSS(net(batch[0]), batch[1])

    train_step.calls = 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sweep = ExponentialSweep(start_lr=1e-3, end_lr=1e-1, steps=20)
    batches = [DATA[:32]]
    return range_test(model, optimizer, batches, train_step=train_step, sweep=sweep).to_dict()


def validating_in_one() -> str:
    """Validate in the first process only, which would wait for the others for ever."""
    model = nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    validate = (lambda _: {"val_loss": 0.0}) if distributed.get_rank() == 0 else None
    try:
        range_test(model, optimizer, [DATA[:32]], LOSS, validate=validate)
    except InputError as error:
        return str(error)
    return ""


def main(rank: int, count: int, meeting_point: str, out: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=count
    )
    result = {
        "sweep": whole_sweep(),
        "failing": failing_in_one(),
        "validating": validating_in_one(),
        "plain": trained(with_test=False),
        "tested": trained(with_test=True),
    }
    Path(out).write_text(json.dumps(result))
    distributed.barrier()
    distributed.destroy_process_group()
    # Everything is said. On a busy machine gloo's threads can outlive the interpreter's teardown,
    # and abort a process that has nothing left to do.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
