"""Three short trial trainings that test a reading: which rates to try, and what follows.

A sweep shows every rate for a step or two, and its reading is careful for the sake of models that
diverge soon after. Whether a model takes more, a trial at eight times the rate tells, against one
at the rate itself on the same batches. A third looks further in the direction that these two point
to: whether still more is better, or less.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from cyclr.errors import InputError, RecordError
from cyclr.rangetest import divergence
from cyclr.rangetest.reading import Reading, Trial
from cyclr.rangetest.rules.basin import CHANCE, find_basin
from cyclr.rangetest.rules.bounds import readable_part

LOWER, HIGHER = 0.5, 8.0  # times max_lr is what the other trials train at
CONFIRMED = " confirmed"  # what the rule's name of such a reading ends in
SHARE = 0.2  # of the budget that sweep and trials may cost together
LEAST = 10  # updates below which a cycle says nothing
_COUNT = 3  # of trials
_TAIL = 0.25  # share of a trial's losses, its last, that it is judged by
_ERRORS = 2.0  # standard errors by which another rate must be better
_WAY = 0.5  # how far to go to the winner, of the distance in the logarithm
_FIRST = 3  # losses that a trial's fall is measured from
FURTHER = 0.2  # how much further than max_lr's a higher trial falls that is gone to all the way
_DIVERGED = 4.0  # what a rate that diverges itself is divided by


def next_rate(reading: Reading, trials: Sequence[Trial]) -> float | None:
    """Say which peak rate to try next, after the trials so far; None if there is nothing to try.

    First max_lr itself, then eight times that; then, if that did better, 64 times max_lr, or else
    half of it. If max_lr itself diverges, that is the end.
    """
    if not trials:
        return reading.max_lr
    own = trials[0]
    if len(trials) == _COUNT or not _sound(own):
        return None
    if len(trials) == 1:
        return HIGHER * own.max_lr
    return (HIGHER**2 if _leads(trials[1], own) else LOWER) * own.max_lr


def trial_steps(swept: int, total_steps: int, share: float = SHARE) -> int:
    """Say how long each trial may be, so that the sweep and the trials stay within the share.

    Args:
        swept: Updates that the sweep has cost, ≥ 0.
        total_steps: The budget in updates.
        share: Of the budget, in (0, 1).

    Raises:
        InputError: Less than ten updates would be left for each.
    """
    steps = int((share * total_steps - swept) / _COUNT)
    if steps < LEAST:
        least = math.ceil((LEAST * _COUNT + swept) / share)
        raise InputError(
            f"total_steps must be ≥ {least} for three trials of {LEAST} updates beside a sweep "
            f"of {swept}, got {total_steps}; go without confirming, or raise its share ({share:g})"
        )
    return steps


def settle(reading: Reading, trials: Sequence[Trial]) -> Reading:
    """Conclude from a reading and its trials.

    A trial is judged by the mean of the last quarter of its losses. Another rate wins if its mean
    is lower by two standard errors of the differences, batch by batch; a lower rate only if the
    loss clearly fell in the sweep as well: of a net that learns too slowly to show it, as a trained
    one does, so short a run says no more than which rate does the least harm, and that is the
    lowest. Then::

        max_lr  = √(max_lr · winner): half of the way to the winner, in the logarithm
                  or winner, if that is higher and its trial fell further by more than a fifth
                  of what the trial at max_lr itself has fallen
        base_lr = moved along, by the same factor

    Half of the way, because what some dozens of steps like best is mostly too high for a whole
    training, and because the sweep and the trials err independently. But all the way where a higher
    rate makes so much more progress that the reading must have been far too low.

    Args:
        reading: What was confirmed.
        trials: At the rates of :func:`next_rate`, in that order, on the same batches.

    Returns:
        A reading whose rule's name ends in ``" confirmed"``, with the trials, and without the
        caveat that asks for them; with a caveat, and both bounds divided by four, if even the trial
        at max_lr diverged (to what is not finite, or as
        :func:`~cyclr.rangetest.divergence.exploded` says); and with a caveat if even the best trial
        ended, all its last quarter long, above its first loss.
    """
    own, factor = trials[0], 1 / _DIVERGED
    caveats = tuple(caveat for caveat in reading.caveats if CHANCE not in caveat)
    if _sound(own):
        best = winner(reading, trials)
        factor = (best.max_lr / own.max_lr) ** _way(own, best)
        if _rose(best):
            caveats = (
                *caveats,
                f"The best trial, at {best.max_lr:.3g}, ended higher than it began: rates like "
                "these may do harm. Read with another rule, or begin lower.",
            )
    else:
        caveats = (*caveats, "The trial at max_lr diverged; both bounds were divided by four.")
    return dataclasses.replace(
        reading,
        base_lr=reading.base_lr * factor,
        max_lr=reading.max_lr * factor,
        rule=f"{reading.rule}{CONFIRMED}",
        caveats=caveats,
        sweeps=(),
        record=None,
        stated=None,
        trials=tuple(trials),
    )


def lead(own: Trial, other: Trial) -> float:
    """Say by how many standard errors the other trial's last losses are the lower ones."""
    count = _tail(own)
    gain = np.asarray(own.loss[-count:]) - np.asarray(other.loss[-count:])
    error = float(gain.std(ddof=1)) / math.sqrt(count)
    if error == 0:
        return math.copysign(math.inf, float(gain.mean())) if gain.any() else 0.0
    return float(gain.mean()) / error


def winner(reading: Reading, trials: Sequence[Trial]) -> Trial:
    """Find the trial that did best, as :func:`settle` says; max_lr's own, unless another won."""
    fell = _fell(reading)
    best = own = trials[0]
    for other in trials[1:]:
        if (fell or other.max_lr > own.max_lr) and _leads(other, best):
            best = other
    return best


def _way(own: Trial, best: Trial) -> float:
    if best.max_lr <= own.max_lr:
        return _WAY
    count = _tail(own)
    before, after = _mean(own.loss[:_FIRST]), _mean(own.loss[-count:])
    fell, further = before - after, after - _mean(best.loss[-count:])
    return 1.0 if further > FURTHER * max(fell, 0.0) else _WAY


def _leads(other: Trial, best: Trial) -> bool:
    return _sound(other) and lead(best, other) > _ERRORS


def _rose(trial: Trial) -> bool:
    return min(trial.loss[-_tail(trial) :]) > trial.loss[0]


def _fell(reading: Reading) -> bool:
    """Say whether the loss clearly fell in most sweeps; taken for granted without a record."""
    if reading.record is None:
        return True
    verdicts = []
    for sweep in reading.record.sweeps:
        try:
            verdicts.append(find_basin(*readable_part(sweep))[0].clear)
        except RecordError:  # of several, some may be unreadable; a caveat has said so
            continue
    return 2 * sum(verdicts) > len(verdicts)


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)


def _tail(trial: Trial) -> int:
    return max(3, round(_TAIL * len(trial.loss)))


def _sound(trial: Trial) -> bool:
    """Say whether a trial neither broke off nor exploded, be it to numbers that are finite."""
    finite = bool(trial.loss) and all(map(math.isfinite, trial.loss))
    return finite and not divergence.exploded(list(trial.loss))
