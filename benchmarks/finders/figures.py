"""Sweep and oracle side by side, a figure a task."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.finders import sweeps
from benchmarks.finders.oracle import Judge
from benchmarks.finders.problem import Problem
from benchmarks.finders.store import SEEDS
from benchmarks.finders.table import suggested

FOLDER = Path(__file__).parent / "figures"
_SHOWN = {"cyclr": "C2", "fastai valley": "C1", "torch-lr-finder": "C3", "Lightning": "C4"}


def draw(problem: Problem) -> Path:
    """Draw the three seeds' losses over the rate, and below what training at each rate reached."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, below) = plt.subplots(2, 1, sharex=True, figsize=(6, 5), layout="constrained")
    for seed in SEEDS:
        record = sweeps.load(problem.name, seed)
        lr, loss = np.asarray(record.lr), np.asarray(record.loss)
        start = float(np.nanmedian(loss[:10]))
        roof = start + 0.5 * (start - float(np.nanmin(loss)))
        top.plot(lr, np.minimum(np.nan_to_num(loss, nan=roof, posinf=roof), roof), lw=0.8)
    oracle = Judge(problem.name).whole()
    below.plot(oracle.lr, oracle.mean, "k.-", lw=1)
    for finder, colour in _SHOWN.items():
        for seed in SEEDS:
            rate = suggested(finder, problem.name, seed).lr
            if rate is not None:
                label = finder if seed == 0 else None
                below.axvline(rate, color=colour, lw=1, ls=":", label=label)
    top.set(xscale="log", ylabel="loss in the sweep", title=problem.name)
    below.set(xlabel="learning rate", ylabel="accuracy" if problem.measure == "accuracy" else
              "fall in log loss", xlim=(oracle.lr[0] / 10, oracle.lr[-1] * 2))  # fmt: skip
    below.legend(fontsize="small")
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{problem.name}.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path
