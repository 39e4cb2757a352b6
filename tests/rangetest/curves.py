"""Losses as a function of the rate whose turn is known, and what a range test makes of them."""

import math

import numpy as np

from cyclr import RangeRecord, RangeTest


def curve(turn: float, *, end: str = "explodes", low: float = 0.8, noise: float = 0.05, seed=0):
    """Make a loss of 2.3 that falls before ``turn`` and then explodes, or goes to a plateau.

    What has exploded is ruined: it stays where its highest rate took it, until another sweep begins
    decades below.
    """
    rng = np.random.default_rng(seed)
    highest = -math.inf

    def loss(lr: float) -> float:
        nonlocal highest
        decades = math.log10(lr / turn)
        highest = max(highest, decades) if decades > highest - 2 else decades
        value = 2.3 - (2.3 - low) / (1 + math.exp(-3 * (decades + 1.5)))
        if end == "explodes":
            value += 0.02 * math.exp(min(6 * highest, 60))
        else:
            share = 1 / (1 + math.exp(-8 * decades))
            value += share * (float(end) - value)
        return value + rng.normal(0, noise)

    return loss


def sweep_over(loss, **options) -> RangeRecord:
    """Run a range test over a function of the rate."""
    test = RangeTest(**options)
    for lr in test:
        test.tell(loss=float(loss(lr)))
    return test.record
