"""What the peers' own functions suggest on our records, for the tests of our copies of their rules.

Their code does the smoothing and the picking; what is ours is feeding it losses that have been
recorded already. Runs in the peers' environment.
"""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace

import torch

from benchmarks.finders import sweeps
from benchmarks.finders.problems import PROBLEMS
from benchmarks.finders.store import CACHE, SEEDS
from cyclr.rangetest import RangeRecord

PATH = CACHE / "peer_rules.json"


def fastai(record: RangeRecord) -> dict[str, float]:
    """Feed fastai's smoother, stopping rule and suggestions."""
    from fastai.callback.schedule import minimum, slide, steep, valley
    from fastai.learner import AvgSmoothLoss

    smoother, best, smooth = AvgSmoothLoss(), float("inf"), []
    smoother.val = torch.zeros((), dtype=torch.float64)  # in the precision of our records
    for loss in record.loss:
        smoother.accumulate(SimpleNamespace(loss=torch.tensor(loss, dtype=torch.float64)))
        smooth.append(float(smoother.value))
        best = min(best, smooth[-1])
        if smooth[-1] > 4 * best:
            break
    skip = (record.sweep.total_steps or 0) // 10
    rates = torch.tensor(record.lr[: len(smooth)], dtype=torch.float64)[skip:-5]
    losses = torch.tensor(smooth, dtype=torch.float64)[skip:-5]
    rules = {"valley": valley, "slide": slide, "minimum": minimum, "steep": steep}
    return {name: float(rule(rates, losses, 100)[0]) for name, rule in rules.items()}


def torch_lr_finder(record: RangeRecord) -> dict[str, float]:
    """Feed torch-lr-finder's plot, which makes its suggestion, with a history smoothed its way."""
    import matplotlib.pyplot as plt
    from torch_lr_finder import LRFinder

    smooth: list[float] = []
    for loss in record.loss:
        smooth.append(0.05 * loss + 0.95 * smooth[-1] if smooth else loss)
        if smooth[-1] > 5 * min(smooth):
            break
    finder = LRFinder.__new__(LRFinder)
    finder.history = {"lr": list(record.lr[: len(smooth)]), "loss": smooth}
    _, axes = plt.subplots()
    with contextlib.redirect_stdout(io.StringIO()):
        _, lr = finder.plot(ax=axes)
    plt.close("all")
    return {"steepest": float(lr)}


def run() -> None:
    """Ask both about every record that has only finite losses, and keep the answers."""
    import matplotlib as mpl

    mpl.use("Agg")
    answers = {}
    for problem in PROBLEMS:
        for seed in SEEDS:
            record = sweeps.quick(problem.name, seed)
            if all(map(torch.isfinite, torch.tensor(record.loss))):
                answers[f"{problem.name}-{seed}"] = {**fastai(record), **torch_lr_finder(record)}
    PATH.write_text(json.dumps(answers, indent=0, sort_keys=True) + "\n")
