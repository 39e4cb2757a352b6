"""Short trial trainings around a reading: which rates to try, and what follows from them.

A sweep shows every rate for a step or two; a trial shows one rate for a whole short cycle. Trials
are biased, too: the shorter a run, the higher the rate that serves it best. So the result lies
between the two.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from cyclr.errors import InputError
from cyclr.rangetest.reading import Reading, Trial

STEPPING = (0.5, 1.0, 2.0, 4.0)
SHARE = 0.2  # of the budget that sweep and trials may cost together
LEAST = 10  # updates below which a cycle says nothing
_TAIL = 0.25  # share of a trial's losses, its last, that it is judged by
_HASTE = math.sqrt(2.0)  # how much too high the best rate of a trial is for a whole run
_TRUST = 0.5  # weight of the trials against the sweep, in the logarithm


def candidates(reading: Reading) -> tuple[float, ...]:
    """List the peak rates to try: half of max_lr, max_lr itself, twice and four times as much."""
    return tuple(factor * reading.max_lr for factor in STEPPING)


def trial_steps(reading: Reading, total_steps: int, share: float = SHARE) -> int:
    """Say how long each trial may be, so that the sweep and all trials stay within the share.

    Args:
        reading: What is to be confirmed; its record says what the sweep has cost.
        total_steps: The budget in updates.
        share: Of the budget, in (0, 1).

    Raises:
        InputError: Less than ten updates would be left for each.
    """
    swept = 0 if reading.record is None else sum(map(len, reading.record.sweeps))
    steps = int((share * total_steps - swept) / len(STEPPING))
    if steps < LEAST:
        least = math.ceil((LEAST * len(STEPPING) + swept) / share)
        raise InputError(
            f"total_steps must be ≥ {least} for trials of {LEAST} updates beside a sweep of "
            f"{swept}, got {total_steps}; go without confirming, or raise its share ({share:g})"
        )
    return steps


def settle(reading: Reading, trials: tuple[Trial, ...]) -> Reading:
    """Conclude from a reading and the trials around it.

    The best trial has the lowest median over the last quarter of its losses::

        max_lr  = √(reading.max_lr · best.max_lr / √2)
        base_lr = moved along, by the same factor

    Args:
        reading: What was confirmed.
        trials: At least one.

    Returns:
        A reading whose rule's name ends in ``" confirmed"``, with the trials and a caveat where
        they contradict the reading.
    """
    best = min(trials, key=score)
    factor = (best.max_lr / _HASTE / reading.max_lr) ** _TRUST
    caveats = reading.caveats
    if not math.isfinite(score(best)):
        factor = min(STEPPING) * 0.5
        caveats = (*caveats, "Every trial diverged, even at half of max_lr; it was divided by 4.")
    return dataclasses.replace(
        reading,
        base_lr=reading.base_lr * factor,
        max_lr=reading.max_lr * factor,
        rule=f"{reading.rule} confirmed",
        caveats=caveats,
        sweeps=(),
        record=None,
        trials=trials,
    )


def score(trial: Trial) -> float:
    """Judge a trial: the median of the last quarter of its losses; infinity if it diverged."""
    if not trial.loss or not all(map(math.isfinite, trial.loss)):
        return math.inf
    return float(np.median(trial.loss[-max(3, round(_TAIL * len(trial.loss))) :]))
