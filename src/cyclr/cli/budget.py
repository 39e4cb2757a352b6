"""How much of a budget ``cyclr fit`` spends on finding the rate."""

from __future__ import annotations

import itertools

from cyclr.errors import InputError
from cyclr.rangetest.confirm import left
from cyclr.rangetest.course import longest


def density(budget: int, given: int | None) -> int:
    """Give the ``steps`` of the range test: a tenth of the budget, from 60 to 100, if not given."""
    return min(100, max(60, budget // 10)) if given is None else given


def check_room(budget: int, per_epoch: int, given: int | None) -> None:
    """Refuse a budget that a second sweep does not fit into, however far the first one goes."""
    steps = density(budget, given)
    try:
        left(longest(steps), budget)
    except InputError as error:
        what, _, _ = str(error).partition("; ")
        fits = lambda n: _fits(longest(density(n * per_epoch, given)), n * per_epoch)  # noqa: E731
        epochs = next(filter(fits, itertools.count(1 + budget // per_epoch)))
        raise InputError(
            f"{what}; a sweep of {steps} may go on to {longest(steps)}. Give --epochs {epochs}, or "
            "leave out --confirm"
        ) from error


def _fits(swept: int, budget: int) -> bool:
    """Say whether a second sweep fits into a budget beside a first one."""
    try:
        left(swept, budget)
    except InputError:
        return False
    return True
