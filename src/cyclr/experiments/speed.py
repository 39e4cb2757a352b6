"""Steps per second of the experiments' loop beside a bare one's, in one go."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from cyclr.experiments.trainer import Trainer, loss_of


def compare_speed(trainer: Trainer, *, blocks: int = 5, seconds: float = 4.0) -> dict[str, float]:
    """Time the loop beside a bare loop on the same net; the trainer itself is left as it is.

    The bare loop is forward, loss, backward and torch's SGD on one batch over and over: no data, no
    schedule, no curves. The two take turns, and time of the processor is what counts, so that other
    processes do not.

    Args:
        trainer: A run, begun or finished.
        blocks: How often each has its turn, ≥ 1; the medians count.
        seconds: Roughly how long it may take.

    Returns:
        ``steps_per_cpu_second``, ``bare_steps_per_cpu_second`` and ``ratio``, the first over the
        second.
    """
    # Only step() must not move on past the recipe: a copy starts again from the beginning.
    twin = Trainer(trainer.spec, trainer.data)
    twin.net.load_state_dict(copy.deepcopy(trainer.net.state_dict()))
    twin.net.train()
    bare = _bare_step(trainer)
    one = min(_time(twin.advance, 1), _time(twin.advance, 1))
    _time(bare, 1)
    steps = max(1, min(int(seconds / (2 * blocks * one)), trainer.spec.steps // (blocks + 1), 20))
    pairs = [(_time(twin.advance, steps), _time(bare, steps)) for _ in range(blocks)]
    ours = steps / statistics.median(pair[0] for pair in pairs)
    theirs = steps / statistics.median(pair[1] for pair in pairs)
    return {
        "steps_per_cpu_second": round(ours, 3),
        "bare_steps_per_cpu_second": round(theirs, 3),
        "ratio": round(ours / theirs, 3),
    }


def _bare_step(trainer: Trainer) -> Callable[[], Any]:
    net = copy.deepcopy(trainer.net)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9, foreach=True)
    inputs, labels = trainer.batches(0)
    enabled = trainer.spec.precision == "bfloat16"

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            outputs = net(inputs)
        loss_of(outputs, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _time(call: Callable[[], Any], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - started
