"""How often pure noise ends a sweep that should go on, kind by kind.

    python benchmarks/sweep/noise.py

Nothing is trained: the losses are drawn, and do not depend on the rate. A sweep that finds its own
range must then run to its longest. Also printed: the steps of sweeps whose loss does turn.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np

from cyclr import RangeTest

SWEEPS = 300
Draw = Callable[[np.random.Generator, int], float]

KINDS: dict[str, Draw] = {
    "normal": lambda rng, _: rng.normal(2.3, 0.3),
    "Laplace": lambda rng, _: rng.laplace(),
    "uniform": lambda rng, _: rng.uniform(),
    "lognormal": lambda rng, _: rng.lognormal(),
    "Student t, 2 degrees of freedom": lambda rng, _: rng.standard_t(2),
    "Cauchy": lambda rng, _: rng.standard_cauchy(),
}


def flat(draw: Draw, seed: int) -> int:
    """Run one sweep over noise; how many steps it took."""
    rng = np.random.default_rng(seed)
    test = RangeTest()
    for _ in test:
        test.tell(loss=float(draw(rng, test.step)))
    return len(test.record)  # without a way back, which follows an end that came too early


def blocks(seed: int) -> Draw:
    """Batches sorted into blocks of five that are alike: a data set that was not shuffled."""
    levels = np.random.default_rng(1000 + seed).normal(2.3, 0.3, 10)
    return lambda rng, step: levels[step // 5 % 10] + rng.normal(0, 0.05)


def turning(turn: float, plateau: float | None, seed: int) -> tuple[int, float]:
    """Run one sweep whose loss falls and turns; its steps, and decades gone beyond the turn."""
    rng = np.random.default_rng(seed)
    test = RangeTest()
    for lr in test:
        decades = math.log10(lr / turn)
        loss = 2.3 - 1.5 / (1 + math.exp(-3 * (decades + 1.5)))
        if plateau is None:
            loss += 0.02 * math.exp(min(6 * decades, 60))
        else:
            loss += (plateau - loss) / (1 + math.exp(-8 * decades))
        test.tell(loss=loss + rng.normal(0, 0.05))
    return len(test.record), math.log10(test.record.lr[-1] / turn)


def main() -> None:
    """Print both tables."""
    print("| noise | sweeps ended early, of 300 |\n|---|---|")
    for name, draw in KINDS.items():
        early = sum(flat(draw, seed) < 150 for seed in range(SWEEPS))
        print(f"| {name} | {early} |")
    early = sum(flat(blocks(seed), seed) < 150 for seed in range(SWEEPS))
    print(f"| blocks of five alike | {early} |")
    print("\n| the loss turns at | and then | steps, median | decades beyond |\n|---|---|---|---|")
    for turn in (1e-4, 1e-2, 0.3, 3.0, 100.0, 1e4):
        for plateau in (None, 1.7, 2.3, 5.0):
            runs = [turning(turn, plateau, seed) for seed in range(30)]
            words = "explodes" if plateau is None else f"stays at {plateau} (from 2.3)"
            steps, beyond = (statistics.median(values) for values in zip(*runs, strict=True))
            print(f"| {turn:g} | {words} | {steps:g} | {beyond:.1f} |")


if __name__ == "__main__":
    main()
