"""Started by torchrun in two processes: trains, and writes what each process saw.

python -m torch.distributed.run --nproc-per-node=2 two.py FOLDER CASE
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

sys.path.insert(0, str(Path(__file__).parents[1]))

import small_runs
from cyclr import ExponentialSweep
from cyclr.errors import Interrupted
from cyclr.experiments.pipeline import Parts, find
from cyclr.experiments.task import Task
from cyclr.training import make_loader


def plain_net() -> nn.Module:
    """A net without BatchNorm, whose statistics would be each process's own."""
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


def plain_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def uneven() -> object:
    """Batches of 15, which two processes cannot halve."""
    inputs, targets = small_runs.data()
    return make_loader((inputs[:200], targets[:200]), 15, seed=5, augment=small_runs.noisy)


def train(folder: Path, **options: object) -> dict[str, object]:
    torch.manual_seed(0)
    losses: list[float] = []
    model = options.pop("model", None) or plain_net()
    run = small_runs.run(
        folder,
        model=model,
        loss=options.pop("loss", plain_loss),
        batches=options.pop("batches", None) or uneven(),
        on_step=lambda line: losses.append(line["loss"]),
        **options,
    )
    return {
        "losses": losses,
        "sharded": all(hasattr(parameter, "to_local") for parameter in model.parameters()),
        "steps": run.steps,
        "metrics": dict(run.metrics),
        "outcome": run.outcome,
    }


def curve(folder: Path) -> dict[str, object]:
    return train(folder / "run", max_grad_norm=1.0)


def curve_unclipped(folder: Path) -> dict[str, object]:
    return train(folder / "run")


def accumulated(folder: Path) -> dict[str, object]:
    return train(folder / "run", accumulate=2)


def sweep(folder: Path) -> dict[str, object]:
    inputs, targets = small_runs.data()
    task = Task(
        name="two",
        model=plain_net,
        train=(inputs, targets),
        loss_fn=plain_loss,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    )
    torch.manual_seed(0)
    model = plain_net()
    before = [p.clone() for p in model.parameters()]
    parts = Parts(
        task=task,
        seed=0,
        model=model,
        optimizer=task.optimizer(model.parameters()),
        batches=uneven(),
        validation=None,
        batch_size=task.batch_size,
    )
    record = find(parts, sweep=ExponentialSweep(start_lr=1e-3, end_lr=30.0, steps=40))
    same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    return {"losses": list(record.loss), "outcome": record.outcome.value, "traceless": same}


def stopping(folder: Path) -> dict[str, object]:
    """A metric that never gains: every process must stop at the same cycle's end."""
    return train(
        folder / "run",
        metrics={"never": lambda outputs, targets: torch.zeros(len(targets))},
        monitor="+val_never",
        on_plateau="stop",
        plateau_cycles=2,
    )


def signalled(folder: Path) -> dict[str, object]:
    """A signal reaches the second process alone, and both stop; then the run is gone on with."""
    rank = int(os.environ.get("RANK", "0"))

    def act() -> None:
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    stop = small_runs.StopAfter(17, act)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        stop(outputs, targets)
        return plain_loss(outputs, targets)

    try:
        train(folder / "run", loss=loss)
    except Interrupted as stopped:
        step = stopped.step
    else:
        raise AssertionError("nobody stopped")
    return {"stopped": step, **train(folder / "run", resume=True)}


def extended(folder: Path) -> dict[str, object]:
    """A finished run is extended, by a model that was given in eval mode."""
    seen: set[bool] = set()

    class Watched(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled():
                seen.add(self.training)
            return super().forward(inputs)

    def model() -> nn.Module:
        torch.manual_seed(0)
        return Watched(8, 2).eval()

    train(folder / "run", model=model())
    longer = train(folder / "run", model=model(), resume=True, extend=1)
    return {"modes": sorted(seen), **longer}


def different(folder: Path) -> dict[str, object]:
    inputs, targets = small_runs.data()
    seed = int(os.environ.get("RANK", "0"))
    return train(folder / "run", batches=make_loader((inputs, targets), 16, seed=seed))


def sharded(folder: Path) -> dict[str, object]:
    """FSDP2 by torch's fully_shard, as Accelerate's plugin ignores CPUs; cut off, gone on with."""
    PartialState(cpu=True)
    mesh = init_device_mesh("cpu", (2,))

    def spread() -> nn.Module:
        torch.manual_seed(0)
        model = plain_net()
        for layer in (model[0], model[2]):
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    class Crash(Exception):
        pass

    def crash() -> None:
        raise Crash

    stop = small_runs.StopAfter(45, crash)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        stop(outputs, targets)
        return plain_loss(outputs, targets)

    with contextlib.suppress(Crash):
        train(folder / "run", loss=loss, model=spread())
    return train(folder / "run", model=spread(), resume=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, case = Path(sys.argv[1]), sys.argv[2]
    found = globals()[case](place)
    rank = os.environ.get("RANK", "alone")
    (place / f"{rank}.json").write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # neither goes while the other may still need it
        torch.distributed.destroy_process_group()
        # Not through the interpreter's shutdown, where gloo's threads now and then abort a process
        # whose work is done and written.
        os._exit(0)
