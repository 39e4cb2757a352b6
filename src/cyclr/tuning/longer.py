"""The last stage: the settings that were found, and the rate, in small copies of the training.

A run that is cut short says little of the rate: the more often a training goes over its data, the
higher the rates it does best with. So what is left of the budget goes into few runs that have all
the epochs of the training, and as large a share of its examples as there is room for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cyclr.tuning.budget import LONGER
from cyclr.tuning.choose import better_than, highest_rate, lowest
from cyclr.tuning.reach import scaled
from cyclr.tuning.trial import TrialResult

if TYPE_CHECKING:
    from cyclr.tuning.stages import Stages

_FACTOR = 3.0  # from one rate to the next
BREAKS = 0.25  # of a loss: a rate that does worse by more breaks the training
_RATES = 2  # besides the present one, that there must be room for
OWN, RATE, LONG = "own settings", "rate", "longer run"


class LongerRuns:
    """Compares the chosen settings with the task's own, and rates a factor of three apart.

    Args:
        stages: What they are a stage of.
        rates: Whether rates are compared.
    """

    def __init__(self, stages: Stages, *, rates: bool) -> None:
        self._stages, self._rates = stages, rates
        self._share = 0.0

    def run(self) -> None:
        """Run what there is room for, if such runs are longer enough to say more."""
        stages, present, own = self._stages, self._stages.now(), self._stages.own
        if present.bounds is None or not math.isfinite(present.val_loss):
            return
        rival = self._rival()
        settings = 1 if rival is None else 2
        with_rates = self._rates and self._long_enough(settings + _RATES, rates=True)
        if with_rates or (rival is not None and self._long_enough(settings, rates=False)):
            winner = self._settings(present, rival, with_rates)
            if with_rates:
                self._climb(winner)
        if not math.isfinite(stages.now().val_loss):
            stages.go_back(present, own)
            stages.remarks.append(
                "Not one of the longer runs trained to its end; the settings are those of the "
                "short ones."
            )
        if self._rates and not with_rates:
            stages.remarks.append("There was no room to compare rates in longer runs.")

    def _long_enough(self, runs: int, *, rates: bool) -> bool:
        """See how long so many runs can be, and whether that is worth it."""
        stages = self._stages
        self._share = min(1.0, stages.left / runs / stages.whole)
        short, longer = stages.base.updates, int(self._share * stages.whole)
        if longer == stages.whole:
            return rates or longer > short
        return longer >= LONGER * short

    def _rival(self) -> TrialResult | None:
        """Give the task's own settings, if they are not the present ones and trained to the end."""
        own, present = self._stages.own, self._stages.now()
        if own is None or own.bounds is None or not math.isfinite(own.val_loss):
            return None
        return None if _settings_of(own) == _settings_of(present) else own

    def _settings(
        self, present: TrialResult, rival: TrialResult | None, rates: bool
    ) -> TrialResult:
        """Run the present settings at this length, and the task's own, which win if lower."""
        stages, own = self._stages, self._stages.own
        stages.lengthen(present, self._share)
        if rival is None:
            # Higher rates along with it, so that several jobs have something to do.
            result = stages.compare(LONG, _upward(present) if rates else [], RATE)[0]
            if own is not None and _settings_of(own) == _settings_of(present):
                stages.own = result
            return result
        results = stages.compare(LONG, [stages.longer_own(rival, self._share)])
        stages.own = results[1]
        # A larger batch counts for as good where it is no worse than chance makes it.
        same = results[0].trial.batch_size == results[1].trial.batch_size
        within = 0.0 if same else stages.within
        stages.take(OWN, results, better_than(results[0], results[1:], within))
        if stages.now() is results[1]:
            stages.caveats = rival.caveats
        return stages.now()

    def _climb(self, start: TrialResult) -> None:
        """Compare with three and nine times the rate, and go on from an end that is the best."""
        tried = [start]
        if self._stages.left >= _RATES * start.trial.updates:
            tried += self._stages.compare(RATE, _upward(start))[1:]
        while len(tried) <= _RATES and self._another(tried, _FACTOR):
            pass
        breaks = max(BREAKS, self._stages.noise or 0.0)
        for factor in (_FACTOR, 1 / _FACTOR):
            # Beyond the highest rate while that is the best, or else below the lowest.
            while _leads(tried, factor, breaks) and self._another(tried, factor):
                pass
        winner = highest_rate(reachable(tried, breaks), self._stages.within)
        self._stages.take(RATE, tried, winner)

    def _another(self, tried: list[TrialResult], factor: float) -> bool:
        """Run the rate beyond the highest or below the lowest, if there is room; say whether."""
        stages, end = self._stages, _end(tried, factor)
        change = scaled(end, factor)
        if not stages.has(change) and stages.left < end.trial.updates:
            return False
        tried.append(stages.compare(RATE, [change])[1])
        return True


def _settings_of(result: TrialResult) -> tuple[Any, ...]:
    trial = result.trial
    return trial.weight_decay, trial.momentum, trial.batch_size, result.bounds


def _upward(present: TrialResult) -> list[dict[str, Any]]:
    """Give the changes to three and nine times a rate, with the bits that steps of three give."""
    changes = [scaled(present, _FACTOR)]
    for _ in range(_RATES - 1):
        low, high = changes[-1]["bounds"]
        changes.append({**changes[-1], "bounds": (low * _FACTOR, high * _FACTOR)})
    return changes


def _end(tried: list[TrialResult], factor: float) -> TrialResult:
    """Give the result with the highest rate, or for a factor below one with the lowest."""
    return (max if factor > 1 else min)(tried, key=lambda result: result.max_lr)


def _leads(tried: list[TrialResult], factor: float, breaks: float) -> bool:
    """See whether an end is the best so far; where all diverged, only a lower rate can help."""
    best = lowest(reachable(tried, breaks))
    if not math.isfinite(best.val_loss):
        return factor < 1
    return best is _end(tried, factor)


def reachable(tried: Sequence[TrialResult], breaks: float) -> list[TrialResult]:
    """List the rates that are not beyond one at which the training breaks.

    Where a rate does far worse than a lower one, what a still higher one reaches is luck.

    Args:
        tried: The first of them at the present rate.
        breaks: How much higher a loss is, relatively, for the training to count as broken, > 0.

    Returns:
        The present one first.
    """
    start = tried[0]
    found = [start]
    above = sorted((r for r in tried if r.max_lr > start.max_lr), key=lambda r: r.max_lr)
    below = sorted((r for r in tried if r.max_lr < start.max_lr), key=lambda r: -r.max_lr)
    for side in (above, below):
        best = start.val_loss
        for result in side:
            if result.val_loss > best + breaks * abs(best):
                break
            found.append(result)
            best = min(best, result.val_loss)
    return found
