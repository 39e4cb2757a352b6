"""Seconds and peak memory of a range test, ours and the peers', and of a bare loop, in one run.

Every measurement is a process of its own, so that peak memory is its own; the finders take turns.
Seconds are of the processor, with one thread, so that other work on the machine does not count.
Runs in the peers' environment.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.finders.peers import FINDERS
from benchmarks.finders.problem import Problem
from benchmarks.finders.problems import BY_NAME
from benchmarks.finders.sweeps import sweep
from benchmarks.finders.train import Batches, begin, endless

TASKS = ("digits-conv-momentum", "cifar-resnet-momentum")
REPEATS = 3
PAGE = Path(__file__).with_name("cost.md")


def _bare(problem: Problem, seed: int) -> int:
    """Train a hundred steps at a tiny rate, reading the loss of each, as a finder must."""
    model, optimizer = begin(problem, seed)
    for group in optimizer.param_groups:
        group["lr"] = 1e-6
    stream = endless(Batches(problem, seed))
    for _ in range(100):
        inputs, targets = next(stream)
        optimizer.zero_grad()
        loss = problem.loss_fn(model(inputs), targets)
        loss.backward()
        if problem.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), problem.clip)
        optimizer.step()
        loss.item()
    return 100


def _run(who: str, problem: Problem, seed: int) -> int:
    if who == "bare loop":
        return _bare(problem, seed)
    if who == "cyclr":
        return sweep(problem, seed).updates
    steps: int = FINDERS[who](problem, seed)["steps"]
    return steps


def measure_one(who: str, name: str) -> dict[str, Any]:
    """Measure in this process: seconds per step, and by how much memory peaked above the data's."""
    torch.set_num_threads(1)
    problem = BY_NAME[name]
    begin(problem, 0)
    _run(who, problem, 1)  # imports and first allocations are not the finder's
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    steps = _run(who, problem, 0)
    seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "steps": steps,
        "peak": after / 1024,
        "more": (after - before) / 1024,
    }


def write() -> None:
    """Measure everything, and write cost.md."""
    text = markdown()
    PAGE.write_text(
        f"# What finding costs\n\n`python -m benchmarks.finders cost` wrote this.\n\n{text}"
    )
    print(text)


def markdown() -> str:
    """Measure everything, interleaved, and write the table of medians."""
    whos = ("bare loop", "cyclr", *FINDERS)
    seen: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(REPEATS):
        for name in TASKS:
            for who in whos:
                code = (
                    "import json; from benchmarks.finders.cost import measure_one; "
                    f"print('>>>' + json.dumps(measure_one({who!r}, {name!r})))"
                )
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", code],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                line = next(x for x in done.stdout.splitlines()[::-1] if x.startswith(">>>"))
                seen.setdefault((name, who), []).append(json.loads(line[3:]))
    lines = [
        f"Medians of {REPEATS} turns, torch {torch.__version__}, one thread, processor seconds.",
        "",
        "| task | finder | steps | seconds | ms a step | over the bare loop | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in TASKS:
        for who in whos:
            runs = seen[name, who]
            median = {k: statistics.median(run[k] for run in runs) for k in runs[0]}
            ratio = statistics.median(
                (run["seconds"] / run["steps"]) / (bare["seconds"] / bare["steps"])
                for run, bare in zip(runs, seen[name, "bare loop"], strict=True)
            )
            lines.append(
                f"| {name} | {who} | {median['steps']:.0f} | {median['seconds']:.2f} | "
                f"{1000 * median['seconds'] / median['steps']:.2f} | {ratio:.2f}× | "
                f"{median['peak']:.0f} |"
            )
    return "\n".join(lines) + "\n"
