"""Time and memory of a range test against the bare training loop, in one run.

    python benchmarks/sweep/run.py --out benchmarks/sweep/results.md

Time: the bare loop and the range test take turns, so that a busy machine slows both alike; what is
compared is the median over turns of the ratio of their median steps. It is processor time: on a
machine that others use too, time on the clock says more about them. What the range test does once
(remembering, putting back) is timed apart. glibc is told to keep freed memory: by default it gives
memory back or not according to what was freed before, so that whichever loop comes after the
release of a range test's copies is spared page faults, which is not what is to be compared.

Memory: each way runs in a process of its own, whose largest resident size (Linux's VmHWM) is read
at the end; "beyond the loop" is what it takes beyond the bare loop's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from cyclr import ExponentialSweep
from cyclr.experiments.models import small_resnet
from cyclr.integrations.torch import Snapshot, range_test

TURNS = 11
KEEPING = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


class Case(NamedTuple):
    """A training to be timed."""

    make: Callable[[], nn.Module]
    batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    optimizer: type[torch.optim.Optimizer]
    steps: int


class Language(nn.Module):
    """A decoder of a few layers over a small vocabulary: (batch, length) to logits per class."""

    def __init__(self, width: int = 256, layers: int = 6, vocabulary: int = 8192) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Predict the next token everywhere."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.layers(self.embed(tokens), mask=mask, is_causal=True)).transpose(1, 2)


def _tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


CASES = {
    "two layers, batch 64, SGD": Case(
        _tiny, lambda: (torch.randn(64, 64), torch.randint(0, 10, (64,))), torch.optim.SGD, 100
    ),
    "ResNet-8, 24 wide, 32×32, batch 128, SGD": Case(
        lambda: small_resnet(width=24),
        lambda: (torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))),
        torch.optim.SGD,
        10,
    ),
    "Transformer, 6 layers, 256 wide, batch 8×128, AdamW": Case(
        Language,
        lambda: (torch.randint(0, 8192, (8, 128)), torch.randint(0, 8192, (8, 128))),
        torch.optim.AdamW,
        10,
    ),
}


class Training(NamedTuple):
    """A model, its optimizer and a few batches."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: list[tuple[torch.Tensor, torch.Tensor]]


def _training(case: Case) -> Training:
    torch.manual_seed(0)
    model = case.make()
    options: dict[str, Any] = {"momentum": 0.9} if case.optimizer is torch.optim.SGD else {}
    optimizer = case.optimizer(model.parameters(), lr=1e-4, **options)
    training = Training(model, optimizer, [case.batch() for _ in range(4)])
    bare_loop(training, 3)  # allocators and the optimizer's state
    return training


def bare_loop(training: Training, steps: int) -> list[float]:
    """Train, reading each loss; seconds per step."""
    model, optimizer, batches = training
    model.train()
    times = []
    for step in range(steps):
        begin = time.process_time()
        inputs, targets = batches[step % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.process_time() - begin)
    return times


def sweep(training: Training, steps: int, folder: str | None = None) -> list[float]:
    """Run a range test over rates that do not diverge; seconds per step."""
    marks: list[float] = []
    range_test(
        training.model,
        training.optimizer,
        training.batches,
        nn.functional.cross_entropy,
        sweep=ExponentialSweep(start_lr=1e-7, end_lr=1e-5, steps=steps),
        snapshot_dir=folder,
        on_step=lambda _: marks.append(time.process_time()),
    )
    return [after - before for before, after in itertools.pairwise(marks)]


def around(training: Training, folder: str | None) -> float:
    """Remember everything and put it back; seconds on the clock."""
    begin = time.perf_counter()
    with Snapshot(training.model, training.optimizer, folder=folder):
        pass
    return time.perf_counter() - begin


def timed(case: Case) -> dict[str, float]:
    """Let the two take turns."""
    training = _training(case)
    bare: list[float] = []
    swept: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TURNS):
            bare.append(statistics.median(bare_loop(training, case.steps)[1:]))
            swept.append(statistics.median(sweep(training, case.steps)))
        memory = statistics.median(around(training, None) for _ in range(TURNS))
        disk = statistics.median(around(training, folder) for _ in range(TURNS))
    return {
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "bare": statistics.median(bare),
        "swept": statistics.median(swept),
        "ratio": statistics.median(s / b for s, b in zip(swept, bare, strict=True)),
        "in memory": memory,
        "on disk": disk,
    }


def peak(name: str, way: str) -> float:
    """Run one way in a process of its own; its largest resident size in MB."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak", name, way],
        capture_output=True,
        text=True,
        check=True,
        env={k: v for k, v in os.environ.items() if k not in KEEPING},
    )
    return float(json.loads(done.stdout))


def _peak_here(name: str, way: str) -> None:
    case = CASES[name]
    training = _training(case)
    bare_loop(training, 5)
    with tempfile.TemporaryDirectory() as folder:
        if way != "loop":
            sweep(training, 5, folder if way == "disk" else None)
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    print(json.dumps(int(found[1]) / 1024))


def report(results: dict[str, dict[str, float]], peaks: dict[str, dict[str, float]]) -> str:
    """Word the results as a page."""
    lines = [
        "# The range test: time and memory against the bare loop",
        "",
        "`python benchmarks/sweep/run.py --out benchmarks/sweep/results.md`",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"threads of torch: {torch.get_num_threads()}. glibc keeps freed memory. Processor time, "
        f"medians of {TURNS} turns of each, taken alternately.",
        "",
        "| training | parameters | bare loop, ms a step | in a sweep, ms a step | more by | "
        "remember and put back, s: memory | disk |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, r in results.items():
        lines.append(
            f"| {name} | {r['parameters']:,.0f} | {1e3 * r['bare']:.3g} | {1e3 * r['swept']:.3g} "
            f"| {100 * (r['ratio'] - 1):+.1f} % | {r['in memory']:.3g} "
            f"| {r['on disk']:.3g} |"
        )
    lines += [
        "",
        "| training | peak of the bare loop, MB | sweep beyond the loop, MB | "
        "with `snapshot_dir`, MB |",
        "|---|---|---|---|",
    ]
    for name, p in peaks.items():
        lines.append(
            f"| {name} | {p['loop']:.0f} | {p['memory'] - p['loop']:+.0f} "
            f"| {p['disk'] - p['loop']:+.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "WAY"))
    options = parser.parse_args()
    if options.peak:
        _peak_here(*options.peak)
        return
    if not KEEPING.keys() <= os.environ.keys():  # glibc reads them once, at the start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEPING})
    results = {name: timed(case) for name, case in CASES.items()}
    peaks = {
        name: {
            way: statistics.median(peak(name, way) for _ in range(3))
            for way in ("loop", "memory", "disk")
        }
        for name in CASES
    }
    page = report(results, peaks)
    print(page)
    if options.out:
        Path(options.out).write_text(page)


if __name__ == "__main__":
    main()
