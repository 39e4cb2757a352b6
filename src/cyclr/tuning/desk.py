"""Runs trials once, keeps them, and counts what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cyclr.tuning.fanout import FanOut
from cyclr.tuning.store import TuneStore
from cyclr.tuning.trial import Trial, TrialResult

Entry = tuple[str, Trial]


class Desk:
    """Runs trials that have not been run, keeps them, and counts what they cost.

    Args:
        fan: Where they are run.
        store: Where they are kept.
        costs: Of an update at each batch size, in updates at the task's own.
        on_trial: Called with every new result.
        on_read: Called with every result that was there already, when it is first asked for.

    Attributes:
        results: In the order they were asked for, each once.
        spent: In updates at the task's own batch size.
    """

    def __init__(
        self,
        fan: FanOut,
        store: TuneStore,
        costs: Mapping[int, float],
        on_trial: Callable[[TrialResult], None],
        on_read: Callable[[TrialResult], None],
    ) -> None:
        self._fan, self._store, self._costs = fan, store, costs
        self._on_trial, self._on_read = on_trial, on_read
        self.results: list[TrialResult] = []
        self.spent = 0.0

    def run(self, entries: Sequence[Entry]) -> list[TrialResult]:
        """Give the results of some trials, in order."""
        stages = {trial.key: stage for stage, trial in reversed(entries)}
        trials = {trial.key: trial for _, trial in entries}
        missing = [trial for key, trial in trials.items() if self._store.get(key) is None]
        for key in trials:
            known = self._store.get(key)
            if known is not None and self.note(known):
                self._on_read(known)
        for found in self._fan.run(missing):
            result = replace(found, stage=stages[found.trial.key])
            self._store.add(result)
            self._on_trial(result)
        for key in trials:
            self.note(self._got(key))
        return [self._got(trial.key) for _, trial in entries]

    def note(self, result: TrialResult) -> bool:
        """Count a result, unless it has been; say whether it had not."""
        if any(result.trial.key == known.trial.key for known in self.results):
            return False
        self.results.append(result)
        if result.cost:
            self.spent += result.cost * self._costs[result.trial.batch_size]
        return True

    @property
    def mean_sweep(self) -> int:
        """What range tests took so far on average, rounded up; 0 if there were none."""
        sweeps = [result.sweep_updates for result in self.results if result.sweep_updates]
        return -(-sum(sweeps) // len(sweeps)) if sweeps else 0

    def _got(self, key: str) -> TrialResult:
        found = self._store.get(key)
        assert found is not None
        return found
