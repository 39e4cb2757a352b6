"""How a budget is divided: how many short runs, how long, and what has to go when it is small.

Costs are counted in updates at the task's own batch size. An update at another batch size counts as
many as the time it takes; before that is measured, in proportion to the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cyclr.errors import InputError

LEAST = 50  # updates of a short run; below, it tells nothing of the long one
LEAST_SHARE = 20  # … and one part in so many of the long one
BISECTIONS = 2
RATES = 3  # longer runs: at the rate that was read, and at three and nine times of it
RESERVE = 0.5  # of the budget, for longer runs at several rates
LONGER = 1.5  # times the length of short runs from which on a longer one says more
SHORT_SWEEP = 0.65  # of a range test, what one costs that begins near where the rate must be
_ALLOWANCE = 1.1  # what a range test may cost beyond what it is counted as
_ROUNDING = 1e-6  # updates: what sums of measured costs may be off by
_KEPT_MOMENTA = 2  # values that a small budget keeps


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What there is to run, still or at all.

    Attributes:
        own: Whether the task's own settings are to be run (always, at first).
        noise: Whether they are repeated with another seed.
        batch_sizes: Cost of an update at each size to compare, in updates at the task's own.
        decays: How many weight decays of the grid.
        bisections: How many more after that.
        momenta: How many momenta.
        rates: How many longer runs, to compare rates.
    """

    own: bool = False
    noise: bool = False
    batch_sizes: tuple[float, ...] = ()
    decays: int = 0
    bisections: int = 0
    momenta: int = 0
    rates: int = 0

    @property
    def runs(self) -> int:
        """How many short runs that makes."""
        own = self.own + self.noise + self.decays + self.bisections + self.momenta
        return own + len(self.batch_sizes)

    @property
    def sweeps(self) -> float:
        """How many range tests, weighted by what their updates cost."""
        short = SHORT_SWEEP * (self.decays + self.bisections)
        return _ALLOWANCE * (self.own + self.noise + short + sum(self.batch_sizes))


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the plan.

    Attributes:
        stage: What is tried.
        trials: How many.
        updates: Of each, its range test included.
    """

    stage: str
    trials: int
    updates: float

    @property
    def total(self) -> float:
        """Updates of them all."""
        return self.trials * self.updates


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be run.

    Attributes:
        budget: In updates.
        length: Updates of a short run.
        reserve: Updates that are kept for longer runs.
        longer: Updates of a longer run.
        sweep: Updates that a range test is counted as.
        wishes: What is left of what was wished for.
        dropped: What is not, in words.
        left_out: Stages that the optimizer has nothing for, in words.
        seconds_per_update: Measured; NaN if not.
    """

    budget: int
    length: int
    reserve: float = 0.0
    longer: int = 0
    sweep: int
    wishes: Wishes
    dropped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    seconds_per_update: float = field(default=math.nan)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The plan, stage by stage."""
        w, sweep, plain = self.wishes, _ALLOWANCE * self.sweep, float(self.length)
        each, decay = self.length + sweep, self.length + SHORT_SWEEP * sweep
        sizes = len(w.batch_sizes)
        per_size = self.length + sweep * sum(w.batch_sizes) / max(1, sizes)
        found = [
            Line(stage="own settings", trials=int(w.own), updates=each),
            Line(stage="noise", trials=int(w.noise), updates=each),
            Line(stage="batch size", trials=sizes, updates=per_size),
            Line(stage="momentum", trials=w.momenta, updates=plain),
            Line(stage="weight decay", trials=w.decays, updates=decay),
            Line(stage="bisection", trials=w.bisections, updates=decay),
            Line(stage="longer run", trials=w.rates, updates=float(self.longer)),
        ]
        return tuple(line for line in found if line.trials)

    @property
    def updates(self) -> int:
        """What it costs."""
        return round(sum(line.total for line in self.lines))

    @property
    def seconds(self) -> float:
        """About how long it takes, evaluations not counted; NaN if that was not measured."""
        return self.updates * self.seconds_per_update

    def to_dict(self) -> dict[str, Any]:
        """Write the plan as plain data."""
        return {
            "budget": self.budget,
            "length": self.length,
            "longer": self.longer,
            "sweep": self.sweep,
            "updates": self.updates,
            "seconds_per_update": self.seconds_per_update,
            "stages": [
                {"stage": line.stage, "trials": line.trials, "updates": round(line.updates)}
                for line in self.lines
            ],
            "dropped": list(self.dropped),
        }


def budget_updates(
    amount: float, unit: str, *, run: int, per_epoch: int, seconds_per_update: float
) -> int:
    """Turn a budget into updates.

    Args:
        amount: How much.
        unit: ``st`` (updates), ``ep``, ``run`` or ``min``.
        run: Updates of the training it is for.
        per_epoch: Updates of an epoch.
        seconds_per_update: As measured.
    """
    scale = {"st": 1.0, "ep": per_epoch, "run": run, "min": 60 / seconds_per_update}
    return int(amount * scale[unit])


def least_length(run: int) -> int:
    """Give the shortest run that says something of a training of ``run`` updates."""
    return min(run, max(LEAST, -(-run // LEAST_SHARE)))


def divide(
    budget: float, wishes: Wishes, *, sweep: int, run: int, at_most: int | None = None
) -> Plan | None:
    """Divide a budget among short runs of equal length, and longer ones that compare rates.

    Half of the budget is for the longer runs, which are at most the whole training. What is
    left of the rest after the range tests, over the number of short runs, is their length: at most
    the whole training, and no more than the longer ones are one and a half times as long as. Where
    it would be less than 50 updates or a twentieth of the training, wishes are dropped in this
    order: the second bisection, the first one, the repeat that measures the noise, momenta down to
    two. If that is not enough, there are no longer runs, and the others have all of the budget.

    Args:
        budget: In updates, > 0.
        wishes: What there is to run.
        sweep: What a range test is counted as, in updates.
        run: Updates of the training it is for.
        at_most: Length of the runs there are already; they can be compared with shorter ones only
            if the best of them is run again.

    Returns:
        The plan; None if not even what is never dropped fits.
    """
    for rates in dict.fromkeys((wishes.rates, 0)):
        reserve = RESERVE * budget if rates else 0.0
        longer = min(run, int(reserve // rates)) if rates else 0
        top = run if at_most is None else at_most
        if rates and longer < run:
            top = min(top, int(longer / LONGER))
        wished = replace(wishes, rates=rates)
        found = _drop(budget - reserve, wished, sweep, run, top, again=at_most is not None)
        if found is not None:
            length, kept, dropped = found
            if wishes.rates and not rates:
                dropped = (NO_RATES, *dropped)
            return Plan(
                budget=int(budget),
                length=length,
                reserve=reserve,
                longer=longer,
                sweep=sweep,
                wishes=kept,
                dropped=dropped,
            )
    return None


def _drop(
    budget: float, wishes: Wishes, sweep: int, run: int, top: int, *, again: bool
) -> tuple[int, Wishes, tuple[str, ...]] | None:
    """Drop short runs until they are long enough; give their length, and what is left of them."""
    least, dropped = min(least_length(run), top), []
    if top < least_length(run) and not again:
        return None
    while (length := _length(budget, wishes, sweep, top, again=again)) < least:
        step = next((drop for drop in _DROPS if drop[0](wishes)), None)
        if step is None:
            return None
        _, words, without = step
        dropped.append(words)
        wishes = without(wishes)
    return length, wishes, tuple(dropped)


def _length(budget: float, wishes: Wishes, sweep: int, top: int, *, again: bool) -> int:
    """Say how long short runs can be."""
    left = budget - wishes.sweeps * sweep
    if not wishes.runs:
        return top
    if left + _ROUNDING >= wishes.runs * top:
        return top
    # Shorter than the runs there are: the best of those is run again, with its range test.
    extra = 1 if again else 0
    return int((left - extra * sweep + _ROUNDING) // (wishes.runs + extra))


_Drop = tuple[Callable[[Wishes], bool], str, Callable[[Wishes], Wishes]]
NO_RATES = "a reserve for comparing rates in longer runs"
_DROPS: tuple[_Drop, ...] = (
    (
        lambda w: w.bisections > 1,
        "the second bisection of the weight decay",
        lambda w: replace(w, bisections=1),
    ),
    (
        lambda w: w.bisections > 0,
        "the first bisection of the weight decay",
        lambda w: replace(w, bisections=0),
    ),
    (
        lambda w: w.noise,
        "the repeat that measures the noise",
        lambda w: replace(w, noise=False),
    ),
    (
        lambda w: w.momenta > _KEPT_MOMENTA,
        "one of the momenta",
        lambda w: replace(w, momenta=w.momenta - 1),
    ),
)


def smallest_budget(wishes: Wishes, *, sweep: int, run: int) -> int:
    """Give the smallest budget that :func:`divide` finds a plan for."""
    wishes = replace(wishes, rates=0)
    for applies, _, without in _DROPS:
        while applies(wishes):
            wishes = without(wishes)
    return math.ceil(wishes.runs * least_length(run) + wishes.sweeps * sweep - _ROUNDING)


def refuse(budget: int, least: int, per_epoch: int) -> InputError:
    """Word that a budget is too small."""
    return InputError(
        f"budget must be at least {least:,} updates ({least / per_epoch:.1f} epochs) for these "
        f"stages, got {budget:,}; give more, or fewer stages or values"
    )


def weights_of(sizes: Mapping[int, float], own: int) -> dict[int, float]:
    """Say what an update costs at each batch size, in updates at the task's own.

    Args:
        sizes: Seconds of an update by batch size; NaN where it was not measured.
        own: The task's own batch size.
    """
    return {
        size: seconds / sizes[own] if math.isfinite(seconds) else size / own
        for size, seconds in sizes.items()
    }
