"""Time a training step of ``fit`` against a bare loop, Lightning's and Transformers' Trainers.

    python benchmarks/training/run.py --out benchmarks/training/results.md

All train the same model on the same tensors with the same SGD under a one-cycle policy, in one
process and one thread, one after another in every repeat, so that a busy machine slows all alike.
A step's time is the mean between optimizer updates after a warm-up, with whatever each does in
between (``fit`` logs every step to disk and probes every 50th; the others log nothing). The figure
is the median over the repeats, and so is the difference to the bare loop of the same repeat.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

import cyclr
from cyclr.experiments.models import small_resnet
from cyclr.training import Settings, fit, make_loader
from cyclr.training.probes import Probes

LOSS = nn.functional.cross_entropy
WARM_UP = 0.2  # share of the steps not counted


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, its data, and how long to train."""

    name: str
    model: Callable[[], nn.Module]
    inputs: torch.Tensor
    targets: torch.Tensor
    batch: int
    steps: int


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Clock:
    """Notes when an optimizer makes its updates."""

    read = staticmethod(CLOCKS["wall"])

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.times: list[float] = []
        read = type(self).read
        optimizer.register_step_post_hook(lambda *_: self.times.append(read()))

    def per_step(self, steps: int) -> float:
        """Give the mean time between updates, in seconds."""
        assert len(self.times) == steps, f"{len(self.times)} updates instead of {steps}"
        first = int(WARM_UP * steps)
        return (self.times[-1] - self.times[first]) / (steps - 1 - first)


def _sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)


def _one_cycle(optimizer: Any, steps: int) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=steps + 1)


def bare(case: Case) -> float:
    """Write the loop out by hand, indexing tensors."""
    model = case.model()
    optimizer = _sgd(model)
    clock, scheduler = Clock(optimizer), _one_cycle(optimizer, case.steps)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            order = torch.randperm(len(case.inputs))
            for i in range(len(order) // case.batch):
                index = order[i * case.batch : (i + 1) * case.batch]
                yield case.inputs[index], case.targets[index]

    stream = batches()
    model.train()
    for _ in range(case.steps):
        inputs, targets = next(stream)
        loss = LOSS(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return clock.per_step(case.steps)


def _fit(case: Case, **options: Any) -> float:
    model = case.model()
    optimizer = _sgd(model)
    clock = Clock(optimizer)
    lr = cyclr.OneCycle(max_lr=0.05, total_steps=case.steps)
    momentum = cyclr.Opposite(schedule=lr, bottom=0.005, top=0.05, low=0.85, high=0.95)
    recipe = cyclr.Recipe(lr=lr, momentum=momentum, total_steps=case.steps)
    with tempfile.TemporaryDirectory() as place:
        loader = make_loader((case.inputs, case.targets), case.batch)
        fit(model, optimizer, loader, LOSS, recipe, folder=Path(place) / "run", **options)
    return clock.per_step(case.steps)


def ours(case: Case) -> float:
    """Run fit as it comes, into a folder."""
    return _fit(case)


def unprobed(case: Case) -> float:
    """Run fit without probes."""
    return _fit(case, probe_every=None)


def _loader(case: Case) -> Any:
    """Give the peers whole batches, as cheaply as a DataLoader can."""
    data = TensorDataset(case.inputs, case.targets)
    sampler = BatchSampler(RandomSampler(data), case.batch, drop_last=True)
    return DataLoader(data, sampler=sampler, batch_size=None)


def lightning(case: Case) -> float:
    """Run Lightning's Trainer without logger, bars and checkpoints."""
    import lightning as light

    class Module(light.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = case.model()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            inputs, targets = batch
            return LOSS(self.net(inputs), targets)

        def configure_optimizers(self) -> Any:
            optimizer = _sgd(self)
            self.clock = Clock(optimizer)
            scheduler = {"scheduler": _one_cycle(optimizer, case.steps), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    module = Module()
    quiet = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False
    )
    trainer = light.Trainer(max_steps=case.steps, max_epochs=-1, accelerator="cpu", **quiet)
    trainer.fit(module, _loader(case))
    return module.clock.per_step(case.steps)


def transformers(case: Case) -> float:
    """Run Transformers' Trainer without reports and saves."""
    from transformers import Trainer, TrainingArguments

    class Own(Trainer):
        def get_train_dataloader(self) -> Any:
            return _loader(case)  # Accelerate cannot wrap loaders of whole batches

        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
            return LOSS(model(inputs[0]), inputs[1])

    model = case.model()
    optimizer = _sgd(model)
    clock = Clock(optimizer)
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            output_dir=place,
            max_steps=case.steps,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            max_grad_norm=0.0,
            per_device_train_batch_size=case.batch,
        )
        scheduler = _one_cycle(optimizer, case.steps)
        data = TensorDataset(case.inputs, case.targets)
        Own(model, arguments, train_dataset=data, optimizers=(optimizer, scheduler)).train()
    return clock.per_step(case.steps)


LOOPS: dict[str, Callable[[Case], float]] = {
    "a bare loop": bare,
    "cyclr's fit": ours,
    "cyclr's fit, without probes": unprobed,
    "Lightning's Trainer": lightning,
    "Transformers' Trainer": transformers,
}


def probe(case: Case, samples: int = 100) -> float:
    """Time one probe alone, in seconds: its three looks and reading it."""
    model = case.model()
    LOSS(model(case.inputs[: case.batch]), case.targets[: case.batch]).backward()
    probes = Probes(model.parameters(), 3)
    begun = Clock.read()
    for _ in range(samples):
        probes.before(0, 0.1)
        probes.after()
        seen = probes.after()
        assert seen is not None
        probes.read(seen)
    return (Clock.read() - begun) / samples


def cases(scale: float) -> list[Case]:
    """Make the two tasks: tiny steps, where a loop's own cost shows, and realistic ones."""
    torch.manual_seed(0)
    tiny, tiny_targets = torch.randn(8192, 32), torch.randint(0, 10, (8192,))
    images, labels = torch.randn(2048, 1, 28, 28), torch.randint(0, 10, (2048,))
    return [
        Case(
            name="a net of two layers, batches of 32",
            model=lambda: nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)),
            inputs=tiny,
            targets=tiny_targets,
            batch=32,
            steps=int(2000 * scale),
        ),
        Case(
            name="a residual net of eight layers, batches of 32 images",
            model=lambda: small_resnet(channels=1, width=16),
            inputs=images,
            targets=labels,
            batch=32,
            steps=int(200 * scale),
        ),
    ]


def measure(case: Case, repeats: int) -> dict[str, list[float]]:
    """Time every loop in turn, repeats times."""
    found: dict[str, list[float]] = {name: [] for name in LOOPS}
    for repeat in range(repeats + 1):
        for name, loop in LOOPS.items():
            seconds = loop(case)
            print(case.name, repeat, name, f"{seconds * 1e3:.3f} ms", file=sys.stderr, flush=True)
            if repeat:  # the first round imports and warms up
                found[name].append(seconds)
    return found


def table(case: Case, found: dict[str, list[float]]) -> list[str]:
    """Write one task's figures."""
    base = found["a bare loop"]
    lines = [f"**{case.name}**", "", "| loop | ms per step | over the bare loop | |"]
    lines.append("|---|---|---|---|")
    for name, times in found.items():
        extra = statistics.median(t - b for t, b in zip(times, base, strict=True))
        share = statistics.median(t / b - 1 for t, b in zip(times, base, strict=True))
        ms = statistics.median(times) * 1e3
        lines.append(f"| {name} | {ms:.3f} | {extra * 1e3:+.3f} ms | {share:+.1%} |")
    every = Settings().probe_every
    assert every is not None
    seconds = statistics.median(probe(case) for _ in range(5))
    share = seconds / (every * statistics.median(base))
    lines += ["", f"A probe takes {seconds * 1e3:.3f} ms; every {every}th step, {share:.2%} of it."]
    return [*lines, ""]


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where to write the tables; by default stdout")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu counts the process's own time, for a machine that is busy with other work",
    )
    arguments = parser.parse_args()
    Clock.read = staticmethod(CLOCKS[arguments.clock])
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    lines = [
        "# Training: a step's time against other loops",
        "",
        f"`python benchmarks/training/run.py {' '.join(sys.argv[1:])}`",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, one "
        f"thread, {arguments.clock} time. Medians of {arguments.repeats} interleaved repeats.",
        "",
    ]
    for case in cases(arguments.scale):
        lines += table(case, measure(case, arguments.repeats))
    text = "\n".join(lines)
    print(text) if arguments.out is None else arguments.out.write_text(text)


if __name__ == "__main__":
    main()
