"""Two short trial trainings that challenge a reading: which rates to try, and what follows.

A sweep shows every rate for a step or two, and its reading is careful for the sake of models that
diverge soon after. Whether a model takes more, a trial at four times the rate tells, against one at
the rate itself on the same batches.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from cyclr.errors import InputError
from cyclr.rangetest.reading import Reading, Trial

CHALLENGE = 4.0  # times max_lr is what the challenger trains at
SHARE = 0.2  # of the budget that sweep and trials may cost together
LEAST = 10  # updates below which a cycle says nothing
_TAIL = 0.25  # share of a trial's losses, its last, that it is judged by
_ERRORS = 2.0  # standard errors by which the challenger must be lower
_HASTE = 2.0  # how much too high the better rate of a short run is for a whole one


def candidates(reading: Reading) -> tuple[float, float]:
    """List the peak rates to try: max_lr itself, and the challenger, four times as high."""
    return reading.max_lr, CHALLENGE * reading.max_lr


def trial_steps(swept: int, total_steps: int, share: float = SHARE) -> int:
    """Say how long each trial may be, so that the sweep and both trials stay within the share.

    Args:
        swept: Updates that the sweep has cost, ≥ 0.
        total_steps: The budget in updates.
        share: Of the budget, in (0, 1).

    Raises:
        InputError: Less than ten updates would be left for each.
    """
    steps = int((share * total_steps - swept) / 2)
    if steps < LEAST:
        least = math.ceil((LEAST * 2 + swept) / share)
        raise InputError(
            f"total_steps must be ≥ {least} for two trials of {LEAST} updates beside a sweep of "
            f"{swept}, got {total_steps}; go without confirming, or raise its share ({share:g})"
        )
    return steps


def settle(reading: Reading, trials: tuple[Trial, Trial]) -> Reading:
    """Conclude from a reading and the two trials.

    The challenger wins if the last quarter of its losses lies below the other's by two standard
    errors of their differences, batch by batch::

        max_lr  = challenger / 2, if it wins; otherwise as it was
        base_lr = moved along, by the same factor

    Args:
        reading: What was confirmed.
        trials: At :func:`candidates`, on the same batches.

    Returns:
        A reading whose rule's name ends in ``" confirmed"``, with the trials; with a caveat, and
        both bounds divided by four, if even the trial at max_lr diverged.
    """
    own, challenger = trials
    factor, caveats = 1.0, reading.caveats
    if not _sound(own):
        factor = 1 / CHALLENGE
        caveats = (*caveats, "The trial at max_lr diverged; both bounds were divided by four.")
    elif _sound(challenger) and lead(own, challenger) > _ERRORS:
        factor = challenger.max_lr / _HASTE / own.max_lr
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


def lead(own: Trial, challenger: Trial) -> float:
    """Say by how many standard errors the challenger's last losses are the lower ones."""
    count = max(3, round(_TAIL * len(own.loss)))
    gain = np.asarray(own.loss[-count:]) - np.asarray(challenger.loss[-count:])
    error = float(gain.std(ddof=1)) / math.sqrt(count)
    if error == 0:
        return math.copysign(math.inf, float(gain.mean())) if gain.any() else 0.0
    return float(gain.mean()) / error


def _sound(trial: Trial) -> bool:
    return bool(trial.loss) and all(map(math.isfinite, trial.loss))
