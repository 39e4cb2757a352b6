"""The stages, one after the other: batch size, rate, momentum, weight decay, a longer check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyclr.errors import TrainingError
from cyclr.tuning.budget import Plan, Wishes, divide
from cyclr.tuning.choose import (
    Choice,
    better_than,
    largest_batch,
    lowest,
    next_decay,
    relative_noise,
    tolerance,
    with_largest_rate,
)
from cyclr.tuning.desk import Desk, Entry
from cyclr.tuning.reach import scaled, stable_rate, with_momentum
from cyclr.tuning.request import Request
from cyclr.tuning.trial import Outcome, TrialResult

OWN, NOISE, BATCH, DECAY, BISECTION, MOMENTUM, RATE = (
    "own settings",
    "noise",
    "batch size",
    "weight decay",
    "bisection",
    "momentum",
    "rate",
)
_FACTORS = (1 / 3, 3.0)  # of the rate that was read, to compare it with
_LONGER = 1.5  # times the length from which on a longer check is worth doing all of it anew


class Stages:
    """Goes through the stages; each begins where the one before ended.

    Args:
        request: What to tune.
        desk: Runs the trials.
        plan: What there is room for.
        costs: Of an update at each batch size, in updates at the task's own; infinite for one that
            does not fit in memory.

    Attributes:
        own: The last run of the task's own settings.
        caveats: Of the range test that the present rate comes from.
        noise: Measured relative noise; None if it was not.
        within: The relative tolerance.
        choices: What each stage came to.
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
            other = (request.seed + 1) % 2**32
            self._waiting.append((NOISE, replace(self._base, seed=other)))
        self._present: TrialResult | None = None
        self._swept: TrialResult | None = None  # the settings whose range test the rates go by
        self.own: TrialResult | None = None
        self.caveats: tuple[str, ...] = ()
        self.noise: float | None = None
        self.within = tolerance(None)
        self.choices: list[Choice] = []
        self.remarks: list[str] = []

    def run(self) -> TrialResult:
        """Run what there is room for; give the winner.

        Raises:
            TrainingError: Not one trial trained to its end.
        """
        steps = {
            "batch-size": self._batch_sizes,
            "rate": self._rates,
            "momentum": self._momenta,
            "weight-decay": self._decays,
        }
        for stage in self._request.stages:
            steps[stage]()
        self._check()
        present = self._now()
        if not math.isfinite(present.val_loss):
            first = self._desk.results[0]
            raise TrainingError(
                f"not one of {len(self._desk.results)} trials trained to its end; the first: "
                f"{first.outcome.sentence}: {first.why}"
            )
        return present

    def beside(self, winner: TrialResult) -> TrialResult | None:
        """Give the run of the task's own settings that took as long as the winner's, if any."""
        if self.own is None:
            return None
        length = winner.trial.updates * self._costs[winner.trial.batch_size]
        return self.own if abs(self.own.trial.updates - length) <= 1 else None

    def _now(self) -> TrialResult:
        """Give the best settings so far, and what came of them."""
        if self._present is None:
            self._compare(OWN, [])
        assert self._present is not None
        return self._present

    def _compare(self, stage: str, changes: Sequence[Mapping[str, Any]]) -> list[TrialResult]:
        """Run the present settings, if they have not been at this length, and changes of them."""
        changed = [replace(self._base, **change) for change in changes]
        first = [*self._waiting, (stage, self._base)]
        results = self._desk.run([*first, *((stage, trial) for trial in changed)])
        if self._waiting:
            self.own, self._waiting = results[0], []
        if len(first) > 2:
            self.noise = relative_noise(results[0], results[1])
            self.within = tolerance(self.noise)
        self._stand(results[len(first) - 1])
        return results[len(first) - 1 :]

    def _stand(self, result: TrialResult) -> None:
        """Go on from some settings."""
        self._present, self._base = result, result.trial
        if result.trial.bounds is None:
            self._swept, self.caveats = result, result.caveats

    def _take(self, stage: str, results: Sequence[TrialResult], winner: TrialResult | None) -> None:
        """Go on from a winner, or from the first of the results if there is none."""
        before, after = results[0], winner or results[0]
        self.choices.append(Choice(stage=stage, before=before, after=after, tried=tuple(results)))
        self._stand(after)

    @property
    def _left(self) -> float:
        """What is left of the budget, in updates at the present batch size."""
        left = self._plan.budget - self._desk.spent
        return left / self._costs[self._base.batch_size]

    @property
    def _whole(self) -> int:
        """Updates of the training the recipe is for, at the present batch size."""
        return max(1, round(self._request.run / self._costs[self._base.batch_size]))

    def _room(self, **done: Any) -> bool:
        """See what there is still room for, once a part of the plan is done."""
        self._wishes = replace(self._wishes, own=False, noise=False, **done)
        if not self._wishes.runs:
            return False
        plan = divide(
            self._left,
            self._wishes,
            sweep=max(self._plan.sweep, self._desk.mean_sweep),
            run=self._whole,
            at_most=self._base.updates,
        )
        if plan is None:
            self.remarks.append(
                f"The budget was spent before everything planned was run: {self._left:,.0f} "
                f"updates were left for {self._wishes.runs} more runs."
            )
            self._wishes = Wishes()
            return False
        self.remarks += [
            f"Range tests took more than planned, so there was no room for {what}."
            for what in plan.dropped
        ]
        self._wishes = plan.wishes
        if plan.length != self._base.updates:
            self._base = replace(self._base, updates=plan.length)
        return True

    def _batch_sizes(self) -> None:
        """Compare batch sizes at equal time."""
        own = self._base.batch_size
        sizes = [size for size in self._request.batch_size if size != own]
        for size in [size for size in sizes if not math.isfinite(self._costs[size])]:
            trial = replace(self._base, batch_size=size)
            self._desk.note(TrialResult(trial=trial, stage=BATCH, outcome=Outcome.TOO_LARGE))
            sizes.remove(size)
        lengths = [max(3, round(self._plan.length / self._costs[size])) for size in sizes]
        changes = [
            {"batch_size": size, "updates": length}
            for size, length in zip(sizes, lengths, strict=True)
        ]
        results = self._compare(BATCH, changes)
        self._take(BATCH, results, largest_batch(results, self.within))
        self._room(batch_sizes=())

    def _decays(self) -> None:
        """Compare the grid's weight decays, each with a range test of its own, and bisect."""
        before = self._now()
        if not self._wishes.decays or not self._room():
            return
        grid = [v for v in self._request.weight_decay if v != self._base.weight_decay]
        results = self._compare(DECAY, [self._with_decay(value) for value in grid])
        while self._room(decays=0) and self._wishes.bisections:
            found = self._bisect(results)
            if found is None:
                break
            results = found
            self._wishes = replace(self._wishes, bisections=self._wishes.bisections - 1)
        self._wishes = replace(self._wishes, bisections=0)
        stable = self._stable(before)
        self._take(DECAY, results, with_largest_rate(results[0], results, self.within, stable))

    def _with_decay(self, value: float) -> dict[str, Any]:
        """Change the weight decay, at the present rate and with a range test of its own."""
        present = self._now()
        if present.bounds is None:
            return {"weight_decay": value}
        bounds = self._base.bounds or present.bounds
        return {"weight_decay": value, "bounds": bounds, "reference": self._stable(present)}

    def _stable(self, present: TrialResult) -> float | None:
        """Say what a range test reads as max_lr at the present momentum, if any has been made."""
        return stable_rate(self._swept, present, self._request.facts)

    def _bisect(self, results: Sequence[TrialResult]) -> list[TrialResult] | None:
        """Try one more weight decay; None if none is worth it."""
        losses = {r.trial.weight_decay or 0.0: r.val_loss for r in results}
        value = next_decay(losses, self.within)
        if value is None:
            return None
        length = self._base.updates
        change = self._with_decay(value)
        if results[0].trial.updates == length:
            return [*results, *self._compare(BISECTION, [change])[1:]]
        # Runs have become shorter, and are compared with each other only.
        self._base = replace(lowest(results).trial, updates=length)
        return self._compare(BISECTION, [change])

    def _momenta(self) -> None:
        """Compare constant momenta and the cyclical one, at rates that make steps as large."""
        present = self._now()
        if not self._room():
            return
        values = [value for value in self._request.momenta() if value != self._base.momentum]
        # A small budget keeps the last ones, which the paper finds the better bets.
        values = values[-self._wishes.momenta :] if self._wishes.momenta else []
        if values:
            changes = [with_momentum(present, value, self._request.facts) for value in values]
            results = self._compare(MOMENTUM, changes)
            self._take(MOMENTUM, results, better_than(results[0], results[1:], self.within))
        self._wishes = replace(self._wishes, momenta=0)

    def _rates(self) -> None:
        """Compare the rate that was read with a third and three times of it, and go on from there.

        What comes after compares settings at a rate, so that this is the first thing to get right.
        """
        present = self._now()
        if present.bounds is None:  # there is no rate that others could be made of
            self._wishes = replace(self._wishes, rates=0)
        if not self._wishes.rates or not self._room() or not self._wishes.rates:
            return
        steps = self._wishes.rates
        results = self._compare(RATE, [scaled(present, factor) for factor in _FACTORS])
        self._take(RATE, results, better_than(results[0], results[1:], self.within))
        winner = self._now()
        factor = _FACTORS[list(results[1:]).index(winner)] if winner is not results[0] else None
        for _ in range(steps - len(_FACTORS)):
            if factor is None:
                break
            again = self._compare(RATE, [scaled(winner, factor)])
            self._take(RATE, again, better_than(winner, again[1:], self.within))
            winner, factor = self._now(), factor if self._now() is not winner else None
        self._wishes = replace(self._wishes, rates=0)

    def _check(self) -> None:
        """Spend what is left on runs half as long again, or longer, if it is enough for them.

        The settings that were chosen, at their rate and at a third and three times of it, beside
        the task's own settings at the rate read for them, which win if they are better after all.
        """
        present = self._now()
        if present.bounds is None or not math.isfinite(present.val_loss):
            return
        own = self._own_rival()
        rates = "rate" in self._request.stages
        for changes in ([scaled(present, factor) for factor in _FACTORS] if rates else [], []):
            longer = min(self._whole, int(self._left // (1 + len(changes) + len(own))))
            if longer >= _LONGER * self._base.updates and (changes or own):
                self._check_at_length(present, longer, changes, own)
                return

    def _own_rival(self) -> list[dict[str, Any]]:
        """Give the task's own settings at the rate read for them, unless they are the present."""
        own = self.own
        if own is None or own.bounds is None or own.trial == self._base:
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

    def _check_at_length(
        self,
        present: TrialResult,
        updates: int,
        changes: Sequence[Mapping[str, Any]],
        own: Sequence[Mapping[str, Any]],
    ) -> None:
        """Run the present settings, other rates and the task's own settings, all longer."""
        cost = self._costs[self._base.batch_size]
        self._base = replace(present.trial, updates=updates, bounds=present.bounds, reference=None)
        rivals = [{**change, "updates": max(3, int(updates * cost))} for change in own]
        before = None if self.own is None else self.own.caveats
        results = self._compare(RATE, [*changes, *rivals])
        rates = results[: 1 + len(changes)]
        if self.own is not None and self.own.trial == present.trial:
            self.own = rates[0]
        self._take(RATE, rates, better_than(rates[0], rates[1:], self.within))
        for result in results[len(rates) :]:
            self.own = result
            winner = self._now()
            self._take(OWN, [winner, result], better_than(winner, [result], self.within))
            if self._now() is result:
                self.caveats = before or ()
