"""What a user may pick instead of finding a rate: optimizers that say they need none.

Each with its defaults, as its README advises: Prodigy and D-Adaptation at a rate of 1 under a
cosine to zero, schedule-free AdamW at its own rate with 5 % warmup and BatchNorm recalibrated.
Runs in the peers' environment.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from benchmarks.finders.problem import Problem
from benchmarks.finders.train import Batches, Result, begin, endless, measure, run

_RECALIBRATE = 50  # batches


def _cosine(optimizer: Any, problem: Problem) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, problem.steps)


def prodigy(problem: Problem, seed: int) -> Result:
    """Train with Prodigy."""
    from prodigyopt import Prodigy

    model, _ = begin(problem, seed)
    optimizer = Prodigy(model.parameters())
    return run(problem, seed, model, optimizer, _cosine(optimizer, problem).step)


def d_adaptation(problem: Problem, seed: int) -> Result:
    """Train with DAdaptAdam."""
    from dadaptation import DAdaptAdam

    model, _ = begin(problem, seed)
    optimizer = DAdaptAdam(model.parameters())
    return run(problem, seed, model, optimizer, _cosine(optimizer, problem).step)


def schedule_free(problem: Problem, seed: int) -> Result:
    """Train with schedule-free AdamW."""
    from schedulefree import AdamWScheduleFree

    model, _ = begin(problem, seed)
    optimizer = AdamWScheduleFree(model.parameters(), warmup_steps=problem.steps // 20)
    optimizer.train()
    run(problem, seed, model, optimizer, lambda: None)
    optimizer.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if norms:
        model.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        stream = endless(Batches(problem, seed))
        with torch.no_grad():
            for _ in range(_RECALIBRATE):
                model(next(stream)[0])
    return measure(problem, model)


OPTIMIZERS = {
    "Prodigy": prodigy,
    "schedule-free AdamW": schedule_free,
    "D-Adaptation": d_adaptation,
}


def reach(name: str, problem: Problem, seed: int) -> Result:
    """Train a task with one of them."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return OPTIMIZERS[name](problem, seed)
