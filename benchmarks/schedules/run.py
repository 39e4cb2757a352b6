"""Time cyclr's schedules against torch's and optax's own, in one run.

    python benchmarks/schedules/run.py --out benchmarks/schedules/results.md

Every figure is the median of several repeats, interleaved so that a busy machine slows all alike.
What counts are the ratios. All is measured in processor time, so that other work on the machine
does not count. "Per step" includes what a scheduler costs inside ``optimizer.step()`` (torch's
wrapper, our hook): both are timed around an optimizer whose update does nothing, and the time of
that optimizer without any scheduler is subtracted.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import cyclr
from cyclr.integrations.torch import Scheduler

REPEATS = 9
STEPS = 20_000
MILLION = 1_000_000
GOALS = (
    "Goals: at least 5× less time per step than each peer; at least 300× for a million steps;",
    "nothing measurable in a jitted step, where the constant measured twice shows what is noise.",
)
RULE = {columns: "|" + "---|" * columns for columns in (3, 4)}


class Idle(torch.optim.SGD):
    """An optimizer whose update does nothing."""

    def step(self, closure: object = None) -> None:
        """Do nothing."""


def _optimizer() -> Idle:
    return Idle([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)


def _recipe(lr: cyclr.Schedule, base: float, top: float) -> cyclr.Recipe:
    momentum = cyclr.Opposite(schedule=lr, bottom=base, top=top, low=0.85, high=0.95)
    return cyclr.Recipe(lr=lr, momentum=momentum, total_steps=MILLION)


def _ours(kind: str) -> Callable[[], object]:
    def make() -> tuple[Idle, Scheduler]:
        optimizer = _optimizer()
        if kind == "cyclic":
            lr = cyclr.Triangular2(base_lr=0.001, max_lr=0.1, stepsize=2000)
            return optimizer, Scheduler(optimizer, _recipe(lr, 0.001, 0.1))
        one = cyclr.OneCycle(max_lr=0.1, total_steps=MILLION, anneal="cosine", phases="two")
        return optimizer, Scheduler(optimizer, _recipe(one, one.base, 0.1))

    return make


def _torch_cyclic() -> tuple[Idle, object]:
    optimizer = _optimizer()
    return optimizer, torch.optim.lr_scheduler.CyclicLR(
        optimizer, 0.001, 0.1, step_size_up=2000, mode="triangular2"
    )


def _torch_one_cycle() -> tuple[Idle, object]:
    optimizer = _optimizer()
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=MILLION)


def _per_step(make: Callable[[], tuple[Idle, object]] | None) -> float:
    """Seconds per training step with a scheduler, or without one."""
    optimizer, scheduler = (_optimizer(), None) if make is None else make()
    begin = time.process_time()
    if scheduler is None:
        for _ in range(STEPS):
            optimizer.step()
    else:
        for _ in range(STEPS):
            optimizer.step()
            scheduler.step()
    return (time.process_time() - begin) / STEPS


def _array(schedule: cyclr.Schedule) -> float:
    steps = np.arange(MILLION)
    begin = time.process_time()
    schedule(steps)
    return time.process_time() - begin


def _medians(timers: dict[str, Callable[[], float]], repeats: int = REPEATS) -> dict[str, float]:
    """Run all timers in turn, several times over."""
    seen: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(repeats):
        for name, timer in timers.items():
            seen[name].append(timer())
    return {name: statistics.median(values) for name, values in seen.items()}


def per_step_rows() -> list[str]:
    """Compare the cost of a step."""
    cost = _medians(
        {
            "none": lambda: _per_step(None),
            "CyclicLR": lambda: _per_step(_torch_cyclic),
            "cyclr Triangular2": lambda: _per_step(_ours("cyclic")),
            "OneCycleLR": lambda: _per_step(_torch_one_cycle),
            "cyclr OneCycle": lambda: _per_step(_ours("one")),
        }
    )
    net = {name: value - cost["none"] for name, value in cost.items()}
    rows = ["| scheduler, with momentum cycling | µs per step | ours is faster by |", RULE[3]]
    for peer, own in (("CyclicLR", "cyclr Triangular2"), ("OneCycleLR", "cyclr OneCycle")):
        rows.append(f"| torch {peer} | {net[peer] * 1e6:.2f} | |")
        rows.append(f"| {own} | {net[own] * 1e6:.2f} | {net[peer] / net[own]:.1f}× |")
    return rows


def array_rows() -> list[str]:
    """Compare a million steps as one array with looping a peer over as many."""
    schedules = {
        "Triangular2": cyclr.Triangular2(base_lr=0.001, max_lr=0.1, stepsize=2000),
        "OneCycle": cyclr.OneCycle(max_lr=0.1, total_steps=MILLION, anneal="cosine", phases="two"),
        "WarmRestarts": cyclr.WarmRestarts(max_lr=0.1, period=1000, multiplier=2),
    }
    peers = {
        "Triangular2": ("CyclicLR", _torch_cyclic),
        "OneCycle": ("OneCycleLR", _torch_one_cycle),
        "WarmRestarts": ("CosineAnnealingWarmRestarts", _torch_restarts),
    }
    timers = {name: (lambda s=s: _array(s)) for name, s in schedules.items()}
    timers |= {peer: (lambda make=make: _per_step(make)) for peer, make in peers.values()}
    timers["none"] = lambda: _per_step(None)
    cost = _medians(timers)
    rows = ["| a million steps | looped peer, s | ours as one array, ms | ratio |", RULE[4]]
    for name, (peer, _) in peers.items():
        loop = (cost[peer] - cost["none"]) * MILLION
        rows.append(
            f"| {name}, torch {peer} | {loop:.2f} | {cost[name] * 1e3:.1f} | "
            f"{loop / cost[name]:.0f}× |"
        )
    return rows


def _torch_restarts() -> tuple[Idle, object]:
    optimizer = _optimizer()
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=1000, T_mult=2
    )


def jit_rows() -> list[str]:
    """Compare a jitted optax step at a constant rate with one under a schedule."""
    import jax
    import jax.numpy as jnp
    import optax

    def timer(rate: object) -> Callable[[], float]:
        optimizer = optax.sgd(rate, momentum=0.9)
        weights = jnp.ones((256, 256))
        state = optimizer.init(weights)

        @jax.jit
        def step(weights, state):
            grads = 2 * weights @ weights
            updates, state = optimizer.update(grads, state)
            return optax.apply_updates(weights, updates), state

        step(weights, state)

        def run() -> float:
            w, s = weights, state
            begin = time.process_time()
            for _ in range(50):
                w, s = step(w, s)
            jax.block_until_ready(w)
            return (time.process_time() - begin) / 50

        return run

    ours = cyclr.Triangular2(base_lr=1e-6, max_lr=1e-5, stepsize=2000)
    cost = _medians(
        {
            "constant": timer(1e-5),
            "constant, once more": timer(1e-5),
            "optax cosine": timer(optax.cosine_decay_schedule(1e-5, 10_000)),
            "cyclr Triangular2": timer(ours),
        },
        repeats=60,
    )
    # The same twice shows how much is noise.
    rows = ["| jitted optax step, 256×256 | µs per step | over a constant rate |", RULE[3]]
    for name, value in cost.items():
        over = 100 * (value / cost["constant"] - 1)
        rows.append(f"| {name} | {value * 1e6:.1f} | {over:+.1f} % |")
    return rows


def main() -> None:
    """Run all three and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    lines = [
        "# Schedules: time against the peers' own",
        "",
        "`python benchmarks/schedules/run.py --out benchmarks/schedules/results.md`",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {platform.machine()}, {torch.get_num_threads()} threads. "
        f"Medians of {REPEATS} interleaved repeats (60 for the jitted step), processor time.",
        "",
        *per_step_rows(),
        "",
        *array_rows(),
        "",
        *jit_rows(),
        "",
        *GOALS,
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
