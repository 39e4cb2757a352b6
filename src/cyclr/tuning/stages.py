"""The stages, one after the other: batch size, momentum, weight decay, and longer runs."""

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
from cyclr.tuning.copies import examples_for, updates_for
from cyclr.tuning.desk import Desk, Entry
from cyclr.tuning.longer import LongerRuns
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
_SAME = 0.02  # runs whose lengths differ by less, relatively, are as long
_DOWN = 4  # steps of three down from a rate at which nothing trains


class Stages:
    """Goes through the stages; each begins where the one before ended.

    Args:
        request: What to tune.
        desk: Runs the trials.
        plan: What there is room for.
        costs: Of an update at each batch size, in updates at the task's own; infinite for one that
            does not fit in memory.

    Attributes:
        base: The present settings, as the next trials have them.
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
        self._wishes, self._reserve = plan.wishes, plan.reserve
        self.base = request.trial(updates=plan.length, sweep_steps=plan.sweep)
        self._waiting: list[Entry] = [(OWN, self.base)]
        if plan.wishes.noise:
            other = (request.seed + 1) % 2**32
            self._waiting.append((NOISE, replace(self.base, seed=other)))
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
        wanted = self._request.stages
        if "batch-size" in wanted:
            self._batch_sizes()
        self._lower_rate()
        if "momentum" in wanted:
            self._momenta()
        if "weight-decay" in wanted:
            self._decays()
        LongerRuns(self, rates="rate" in wanted).run()
        present = self.now()
        if not math.isfinite(present.val_loss):
            first = self._desk.results[0]
            raise TrainingError(
                f"not one of {len(self._desk.results)} trials trained to its end; the first: "
                f"{first.outcome.sentence}: {first.why}"
            )
        return present

    def _lower_rate(self) -> None:
        """Go down by factors of three where the training at the rate that was read diverges."""
        tried = [self.now()]
        if "rate" not in self._request.stages or tried[0].bounds is None:
            return
        while not math.isfinite(tried[-1].val_loss) and len(tried) <= _DOWN:
            if self.left < self.base.updates:
                break
            tried.append(self.compare(RATE, [scaled(tried[-1], 1 / 3)])[1])
        if len(tried) > 1:
            self.take(RATE, tried, lowest(tried))

    def beside(self, winner: TrialResult) -> TrialResult | None:
        """Give the run of the task's own settings that took as long as the winner's, if any."""
        own = self.own
        if own is None or own.trial.examples != winner.trial.examples:
            return None
        length = winner.trial.updates * self._costs[winner.trial.batch_size]
        return own if abs(own.trial.updates - length) <= max(1, _SAME * length) else None

    def now(self) -> TrialResult:
        """Give the best settings so far, and what came of them."""
        if self._present is None:
            self.compare(OWN, [])
        assert self._present is not None
        return self._present

    def compare(
        self, stage: str, changes: Sequence[Mapping[str, Any]], of_changes: str | None = None
    ) -> list[TrialResult]:
        """Run the present settings, if they have not been at this length, and changes of them.

        Args:
            stage: What it is for.
            changes: Of the present settings.
            of_changes: What the changes are for, if that is something else.
        """
        changed = [replace(self.base, **change) for change in changes]
        first = [*self._waiting, (stage, self.base)]
        results = self._desk.run([*first, *((of_changes or stage, trial) for trial in changed)])
        if self._waiting:
            self.own, self._waiting = results[0], []
        if len(first) > 2:
            self.noise = relative_noise(results[0], results[1])
            self.within = tolerance(self.noise)
        self._stand(results[len(first) - 1])
        return results[len(first) - 1 :]

    def _stand(self, result: TrialResult) -> None:
        """Go on from some settings."""
        self._present, self.base = result, result.trial
        if result.trial.bounds is None:
            self._swept, self.caveats = result, result.caveats

    def take(self, stage: str, results: Sequence[TrialResult], winner: TrialResult | None) -> None:
        """Go on from a winner, or from the first of the results if there is none."""
        before, after = results[0], winner or results[0]
        self.choices.append(Choice(stage=stage, before=before, after=after, tried=tuple(results)))
        self._stand(after)

    def lengthen(self, present: TrialResult, share: float) -> None:
        """Go on with all the epochs of a share of the data, at the rate that some settings had.

        Args:
            present: The settings.
            share: Of the training examples, in (0, 1].
        """
        trial = present.trial
        length = self._length(trial.batch_size, share, trial.batch_size)
        if (trial.updates, trial.examples) != (length["updates"], length["examples"]):
            self.base = replace(trial, bounds=present.bounds, reference=None, **length)

    def longer_own(self, own: TrialResult, share: float) -> dict[str, Any]:
        """Change the present settings to the task's own, at the rate read for them, as long.

        Args:
            own: A run of theirs.
            share: As for :meth:`lengthen`.
        """
        trial = own.trial
        change = {
            "weight_decay": trial.weight_decay,
            "momentum": trial.momentum,
            "batch_size": trial.batch_size,
            "bounds": own.bounds,
            "reference": None,
            **self._length(trial.batch_size, share, self.base.batch_size),
        }
        # A run that is there already, with its range test, is not made again.
        same = (trial.updates, trial.examples) == (change["updates"], change["examples"])
        return {**change, "bounds": trial.bounds} if same else change

    def _length(self, batch_size: int, share: float, other: int) -> dict[str, Any]:
        """Say how long a run at a batch size is, and on how much, beside one at another size."""
        facts, whole = self._request.facts, round(self._request.run / self._costs[batch_size])
        largest = max(batch_size, other, facts.batch_size)
        examples = examples_for(share, facts.examples, largest)
        if examples is None:
            return {"updates": max(3, int(share * whole)), "examples": None}
        updates = updates_for(examples, facts.examples, batch_size, whole)
        return {"updates": updates, "examples": examples}

    def go_back(self, present: TrialResult, own: TrialResult | None) -> None:
        """Go back to settings, and to a run of the task's own, from before."""
        self._stand(present)
        self.own = own

    def has(self, change: Mapping[str, Any]) -> bool:
        """See whether a change of the present settings has been run."""
        key = replace(self.base, **change).key
        return any(result.trial.key == key for result in self._desk.results)

    @property
    def left(self) -> float:
        """What is left of the budget, in updates at the present batch size."""
        left = self._plan.budget - self._desk.spent
        return left / self._costs[self.base.batch_size]

    @property
    def whole(self) -> int:
        """Updates of the training the recipe is for, at the present batch size."""
        return max(1, round(self._request.run / self._costs[self.base.batch_size]))

    def _room(self, **done: Any) -> bool:
        """See what there is still room for, once a part of the plan is done."""
        self._wishes = replace(self._wishes, own=False, noise=False, rates=0, **done)
        if not self._wishes.runs:
            return False
        plan = self._divided(self._reserve)
        if plan is None and self._reserve:
            self._reserve = 0.0
            plan = self._divided(0.0)
        if plan is None:
            self.remarks.append(
                f"The budget was spent before everything planned was run: {self.left:,.0f} "
                f"updates were left for {self._wishes.runs} more runs."
            )
            self._wishes = Wishes()
            return False
        self.remarks += [
            f"Range tests took more than planned, so there was no room for {what}."
            for what in plan.dropped
        ]
        self._wishes = plan.wishes
        if plan.length != self.base.updates:
            self.base = replace(self.base, updates=plan.length)
        return True

    def _divided(self, reserve: float) -> Plan | None:
        """Divide what is left among short runs, but for a reserve."""
        kept = reserve / self._costs[self.base.batch_size]
        return divide(
            max(1.0, self.left - kept),
            self._wishes,
            sweep=max(self._plan.sweep, self._desk.mean_sweep),
            run=self.whole,
            at_most=self.base.updates,
        )

    def _batch_sizes(self) -> None:
        """Compare batch sizes at equal time."""
        own = self.base.batch_size
        sizes = [size for size in self._request.batch_size if size != own]
        for size in [size for size in sizes if not math.isfinite(self._costs[size])]:
            trial = replace(self.base, batch_size=size)
            self._desk.note(TrialResult(trial=trial, stage=BATCH, outcome=Outcome.TOO_LARGE))
            sizes.remove(size)
        lengths = [max(3, round(self._plan.length / self._costs[size])) for size in sizes]
        changes = [
            {"batch_size": size, "updates": length}
            for size, length in zip(sizes, lengths, strict=True)
        ]
        results = self.compare(BATCH, changes)
        self.take(BATCH, results, largest_batch(results, self.within))
        self._room(batch_sizes=())

    def _decays(self) -> None:
        """Compare the grid's weight decays, each with a range test of its own, and bisect."""
        before = self.now()
        if not self._wishes.decays or not self._room():
            return
        grid = [v for v in self._request.weight_decay if v != self.base.weight_decay]
        results = self.compare(DECAY, [self._with_decay(value) for value in grid])
        while self._room(decays=0) and self._wishes.bisections:
            found = self._bisect(results)
            if found is None:
                break
            results = found
            self._wishes = replace(self._wishes, bisections=self._wishes.bisections - 1)
        self._wishes = replace(self._wishes, bisections=0)
        stable = self._stable(before)
        self.take(DECAY, results, with_largest_rate(results[0], results, self.within, stable))

    def _with_decay(self, value: float) -> dict[str, Any]:
        """Change the weight decay, at the present rate and with a range test of its own."""
        present = self.now()
        if present.bounds is None:
            return {"weight_decay": value}
        bounds = self.base.bounds or present.bounds
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
        length = self.base.updates
        change = self._with_decay(value)
        if results[0].trial.updates == length:
            return [*results, *self.compare(BISECTION, [change])[1:]]
        # Runs have become shorter, and are compared with each other only.
        self.base = replace(lowest(results).trial, updates=length)
        return self.compare(BISECTION, [change])

    def _momenta(self) -> None:
        """Compare constant momenta and the cyclical one, at rates that make steps as large."""
        present = self.now()
        if not self._room():
            return
        values = [value for value in self._request.momenta() if value != self.base.momentum]
        # A small budget keeps the last ones, which the paper finds the better bets.
        values = values[-self._wishes.momenta :] if self._wishes.momenta else []
        if values:
            changes = [with_momentum(present, value, self._request.facts) for value in values]
            results = self.compare(MOMENTUM, changes)
            self.take(MOMENTUM, results, better_than(results[0], results[1:], self.within))
        self._wishes = replace(self._wishes, momenta=0)
