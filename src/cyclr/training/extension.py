"""More cycles for a run that has ended: the same schedules, going on from where they stopped."""

from __future__ import annotations

from cyclr.errors import InputError, complaint
from cyclr.recipe import Recipe
from cyclr.schedules import Chain, OneCycle, Schedule
from cyclr.schedules.fields import Constraint


def extend(recipe: Recipe, cycles: int, *, step: int | None = None) -> Recipe:
    """Add cycles to a recipe. Up to ``step`` its values are what they were.

    Cyclical schedules and warm restarts go on with further cycles of the same kind: halved again,
    longer again, as their formula says. Schedules of one piece (one-cycle, a decay) begin anew.

    >>> from cyclr.schedules import Triangular
    >>> lr = Triangular(base_lr=0.1, max_lr=1.0, stepsize=10, cycles=3)
    >>> longer = extend(Recipe(lr=lr, total_steps=60), 2)
    >>> longer.total_steps, longer.lr.cycles
    (100, 5)

    Args:
        recipe: What was run.
        cycles: How many to add, ≥ 1.
        step: Where the run ended, in updates; by default at the recipe's end.

    Raises:
        SpecError: ``cycles`` breaks its constraint.
        InputError: The rate has no cycles.
    """
    Constraint(kind="integer", ge=1).check("cycles", cycles)
    end = recipe.total_steps if step is None else step
    longer = {name: _extend(schedule, cycles) for name, schedule in recipe.schedules.items()}
    lr = longer["lr"]
    if isinstance(_last(recipe.lr), OneCycle):
        total = lr.total_steps
    else:
        total = _end_of_cycle(lr, end, cycles)
    if total is None or total <= end:
        remedy = "make a recipe of cycles, or a new run"
        raise InputError(complaint("the recipe's lr", "cyclical to be extended", lr.kind, remedy))
    return recipe.replace(**longer, total_steps=total)


def _end_of_cycle(lr: Schedule, after: int, number: int) -> int | None:
    """Find the ``number``-th cycle end after a step."""
    until = lr.total_steps
    if until is None:
        until = max(1, after)
        while len(lr.cycle_ends(until)) - len(lr.cycle_ends(after)) < number:
            if until > (after + 1) * 10**6:
                return None  # a schedule without cycles, such as a constant
            until *= 2
    later = [end for end in lr.cycle_ends(until) if end > after]
    return later[number - 1] if len(later) >= number else None


def _last(schedule: Schedule) -> Schedule:
    return _last(schedule.schedules[-1]) if isinstance(schedule, Chain) else schedule


def _extend(schedule: Schedule, cycles: int) -> Schedule:
    inner = getattr(schedule, "schedule", None)
    if isinstance(inner, Schedule):
        return schedule.replace(schedule=_extend(inner, cycles))
    if isinstance(schedule, Chain):
        last = _extend(schedule.schedules[-1], cycles)
        return schedule.replace(schedules=(*schedule.schedules[:-1], last))
    if schedule.total_steps is None:
        return schedule
    if hasattr(schedule, "cycles"):
        return schedule.replace(cycles=schedule.cycles + cycles)
    return Chain(schedules=(schedule,) * (cycles + 1))
