"""The last stage: the settings that were found, and the rate, in small copies of the training.

A run that is cut short says little of the rate: the more often a training goes over its data, the
higher the rates it does best with. So what is left of the budget goes into few runs that have all
the epochs of the training, and as large a share of its examples as there is room for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cyclr.tuning.budget import LONGER
from cyclr.tuning.choose import better_than, highest_rate, lowest
from cyclr.tuning.reach import scaled
from cyclr.tuning.trial import TrialResult

if TYPE_CHECKING:
    from cyclr.tuning.stages import Stages

_FACTOR = 3.0  # from one rate to the next
_RATES = 2  # besides the present one, that there must be room for
OWN, RATE = "own settings", "rate"


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
        present = self._stages.now()
        if present.bounds is None or not math.isfinite(present.val_loss):
            return
        rival = self._rival()
        others = len(rival)
        for runs in (1 + others + _RATES, 1 + others) if self._rates else (1 + others,):
            rates = runs > 1 + others
            if self._long_enough(runs, rates) and (rates or others):
                winner = self._settings(present, rival)
                if rates:
                    self._climb(winner)
                return

    def _long_enough(self, runs: int, rates: bool) -> bool:
        """See how long so many runs can be, and whether that is worth it."""
        stages = self._stages
        self._share = min(1.0, stages.left / runs / stages.whole)
        short, longer = stages.base.updates, int(self._share * stages.whole)
        if longer == stages.whole:
            return rates or longer > short
        return longer >= LONGER * short

    def _rival(self) -> list[dict[str, Any]]:
        """Give the task's own settings at the rate read for them, unless they are the present."""
        own = self._stages.own
        if own is None or own.bounds is None or own.trial == self._stages.base:
            return []
        trial = own.trial
        return [
            {
                "weight_decay": trial.weight_decay,
                "momentum": trial.momentum,
                "batch_size": trial.batch_size,
                "bounds": own.bounds,
            }
        ]

    def _settings(self, present: TrialResult, rival: list[dict[str, Any]]) -> TrialResult:
        """Run the present settings at this length, and the task's own, which win if lower."""
        stages, own = self._stages, self._stages.own
        cost = stages.cost_of(stages.base.batch_size)
        stages.lengthen(present, self._share)
        if not rival:
            # Higher rates along with it, so that several jobs have something to do.
            result = stages.compare(RATE, _upward(present) if self._rates else [])[0]
            if own is not None and own.trial == present.trial:
                stages.own = result
            return result
        length = max(3, int(stages.base.updates * cost))
        results = stages.compare(OWN, [{**change, "updates": length} for change in rival])
        stages.own = results[1]
        # A larger batch counts for as good where it is no worse than chance makes it.
        same = results[0].trial.batch_size == results[1].trial.batch_size
        within = 0.0 if same else stages.within
        stages.take(OWN, results, better_than(results[0], results[1:], within))
        if own is not None and stages.now() is results[1]:
            stages.caveats = own.caveats
        return stages.now()

    def _climb(self, start: TrialResult) -> None:
        """Compare with three and nine times the rate, and go on from an end that is the best."""
        tried = [start]
        for _ in range(_RATES):
            self._another(tried, _FACTOR)
        for factor in (_FACTOR, 1 / _FACTOR):
            # Beyond the highest rate while that is the best, or else below the lowest.
            while lowest(tried) is _end(tried, factor) and self._another(tried, factor):
                pass
        self._stages.take(RATE, tried, highest_rate(tried, self._stages.within))

    def _another(self, tried: list[TrialResult], factor: float) -> bool:
        """Run the rate beyond the highest or below the lowest, if there is room; say whether."""
        stages, end = self._stages, _end(tried, factor)
        change = scaled(end, factor)
        if not stages.has(change) and stages.left < end.trial.updates:
            return False
        tried.append(stages.compare(RATE, [change])[1])
        return True


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
