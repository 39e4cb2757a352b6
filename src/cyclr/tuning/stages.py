"""The stages, one after the other: batch size, weight decay, momentum, rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyclr.errors import TrainingError
from cyclr.tuning.budget import Plan, Wishes, divide
from cyclr.tuning.choose import (
    better_than,
    largest_batch,
    lowest,
    next_decay,
    relative_noise,
    tolerance,
    with_largest_rate,
)
from cyclr.tuning.fanout import FanOut
from cyclr.tuning.request import Request
from cyclr.tuning.store import TuneStore
from cyclr.tuning.trial import Outcome, Trial, TrialResult

OWN, NOISE, BATCH, DECAY, BISECTION, MOMENTUM, RATE = (
    "own settings",
    "noise",
    "batch size",
    "weight decay",
    "bisection",
    "momentum",
    "rate",
)
_FACTOR = 3.0  # between the rates that are compared

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

    def _got(self, key: str) -> TrialResult:
        found = self._store.get(key)
        assert found is not None
        return found


class Stages:
    """Goes through the stages; each begins where the one before ended.

    Args:
        request: What to tune.
        desk: Runs the trials.
        plan: What there is room for.
        costs: Of an update at each batch size, in updates at the task's own; infinite for one that
            does not fit in memory.

    Attributes:
        present: The best settings so far, and what came of them.
        noise: Measured relative noise; None if it was not.
        within: The relative tolerance.
        winners: Who won each stage.
        remarks: What was left out on the way, in words.
    """

    def __init__(
        self, request: Request, desk: Desk, plan: Plan, costs: Mapping[int, float]
    ) -> None:
        self._request, self._desk, self._plan, self._costs = request, desk, plan, costs
        self._wishes = plan.wishes
        self._base = request.trial(updates=plan.length, sweep_steps=plan.sweep)
        self._waiting: list[Entry] = [(OWN, self._base)]
        if plan.wishes.noise:
            self._waiting.append((NOISE, replace(self._base, seed=request.seed + 1)))
        self.present: TrialResult | None = None
        self.noise: float | None = None
        self.within = tolerance(None)
        self.winners: dict[str, TrialResult] = {}
        self.remarks: list[str] = []

    def run(self) -> TrialResult:
        """Run what there is room for; give the winner.

        Raises:
            TrainingError: Not one trial trained to its end.
        """
        steps = {
            "batch-size": self._batch_sizes,
            "weight-decay": self._decays,
            "momentum": self._momenta,
            "rate": self._rates,
        }
        for stage in self._request.stages:
            steps[stage]()
        present = self._present()
        if not math.isfinite(present.val_loss):
            raise TrainingError(
                f"not one of {len(self._desk.results)} trials trained to its end; the first: "
                f"{self._desk.results[0].outcome.sentence}: {self._desk.results[0].why}"
            )
        return present

    def _present(self) -> TrialResult:
        if self.present is None:
            self._compare(OWN, [])
        assert self.present is not None
        return self.present

    def _compare(self, stage: str, changes: Sequence[Mapping[str, Any]]) -> list[TrialResult]:
        """Run the present settings, if they have not been at this length, and changes of them."""
        changed = [replace(self._base, **change) for change in changes]
        first = [*self._waiting, (stage, self._base)]
        self._waiting = []
        results = self._desk.run([*first, *((stage, trial) for trial in changed)])
        if self.noise is None and len(first) > 2:
            self.noise = relative_noise(results[0], results[1])
            self.within = tolerance(self.noise)
        self.present = results[len(first) - 1]
        return results[len(first) - 1 :]

    def _take(self, stage: str, winner: TrialResult | None) -> None:
        """Go on from a winner, if there is one."""
        if winner is None:
            return
        self.winners[stage] = self.present = winner
        self._base = winner.trial

    def _room(self, **done: Any) -> bool:
        """See what there is still room for, once a part of the plan is done."""
        self._wishes = replace(self._wishes, own=False, noise=False, **done)
        if not self._wishes.runs:
            return False
        cost = self._costs[self._base.batch_size]
        left = (self._plan.budget - self._desk.spent) / cost
        plan = divide(
            left,
            self._wishes,
            sweep=self._plan.sweep,
            run=round(self._request.run / cost),
            at_most=self._base.updates,
        )
        if plan is None:
            self.remarks.append(
                f"The budget was spent before everything planned was run: {left:,.0f} updates were "
                f"left for {self._wishes.runs} more runs."
            )
            self._wishes = Wishes()
            return False
        self.remarks += [f"Range tests took more than planned: {what}." for what in plan.dropped]
        self._wishes = plan.wishes
        if plan.length != self._base.updates:
            self._base = replace(self._base, updates=plan.length)
        return True

    def _batch_sizes(self) -> None:
        """Compare batch sizes at equal time."""
        own = self._base.batch_size
        sizes = [size for size in self._request.batch_size if size != own]
        fitting = [size for size in sizes if math.isfinite(self._costs[size])]
        for size in sorted(set(sizes) - set(fitting)):
            trial = replace(self._base, batch_size=size)
            self._desk.note(TrialResult(trial=trial, stage=BATCH, outcome=Outcome.TOO_LARGE))
        results = self._compare(
            BATCH,
            [
                {
                    "batch_size": size,
                    "updates": max(3, round(self._plan.length / self._costs[size])),
                }
                for size in fitting
            ],
        )
        self._take(BATCH, largest_batch(results, self.within))
        self._room(batch_sizes=())

    def _decays(self) -> None:
        """Compare the grid's weight decays, each with a range test of its own, and bisect."""
        if not self._wishes.decays:
            return
        present = self._base.weight_decay
        grid = [value for value in self._request.weight_decay if value != present]
        results = self._compare(DECAY, [{"weight_decay": value} for value in grid])
        while self._room(decays=0) and self._wishes.bisections:
            results = self._bisect(results)
            self._wishes = replace(self._wishes, bisections=self._wishes.bisections - 1)
        self._take(DECAY, with_largest_rate(results, self.within))

    def _bisect(self, results: Sequence[TrialResult]) -> list[TrialResult]:
        """Try one more weight decay."""
        longest = self._base.updates
        losses = {r.trial.weight_decay or 0.0: r.val_loss for r in results}
        value = next_decay(losses)
        if value is None:
            return list(results)
        if any(result.trial.updates != longest for result in results):
            self._base = replace(lowest(results).trial, updates=longest)
            results = []
        return [*results, *self._compare(BISECTION, [{"weight_decay": value}])]

    def _momenta(self) -> None:
        """Compare constant momenta and the cyclical one, each with a range test of its own."""
        room = self._wishes.momenta if self.present is None or self._room() else 0
        values = [value for value in self._request.momenta() if value != self._base.momentum]
        if not room or not values:
            return
        # A small budget keeps the last ones: arXiv 1803.09820 finds them the better bets.
        kept = values[-self._wishes.momenta :] if self._wishes.momenta else []
        results = self._compare(MOMENTUM, [{"momentum": value} for value in kept])
        self._take(MOMENTUM, better_than(results[0], results[1:], self.within))
        self._room(momenta=0)

    def _rates(self) -> None:
        """Check the rate that was read: a third and three times of it, and on where it pays."""
        if self.present is not None and not self._room():
            return
        present = self._present()
        if not self._wishes.rates or present.bounds is None:
            return
        factors = (1 / _FACTOR, _FACTOR)
        results = self._compare(RATE, [_scaled(present, factor) for factor in factors])
        winner = better_than(results[0], results[1:], self.within)
        self._take(RATE, winner)
        cost = self._costs[self._base.batch_size]
        left = (self._plan.budget - self._desk.spent) / cost
        if winner is None or left < self._base.updates:
            return
        factor = factors[results[1:].index(winner)]
        again = self._compare(RATE, [_scaled(winner, factor)])
        self._take(RATE, better_than(winner, again[1:], self.within))


def _scaled(result: TrialResult, factor: float) -> dict[str, Any]:
    assert result.bounds is not None
    return {"bounds": (result.bounds[0] * factor, result.bounds[1] * factor)}
