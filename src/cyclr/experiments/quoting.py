"""Figures in a claim's note, filled in from the finished runs rather than typed by hand."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from cyclr.errors import InputError
from cyclr.experiments.claims import Claim, Values

_PLACE = re.compile(r"\{([^{}]*)\}")
_MINUS = " - "  # with its spaces: rows have hyphens in their names
MISSING = "(not run yet)"


def quoted_rows(claim: Claim) -> tuple[str, ...]:
    """Name the rows that a claim's note takes figures from.

    Raises:
        InputError: A place in braces names no row, or more than two.
    """
    found: dict[str, None] = {}
    for place in _PLACE.findall(claim.note):
        found |= dict.fromkeys(_sides(claim, place))
    return tuple(found)


def _sides(claim: Claim, place: str) -> Sequence[str]:
    sides = [side.strip() for side in place.split(_MINUS)]
    if not all(sides) or len(sides) > 2:
        raise InputError(
            f"the note of the claim {claim.text!r} has {{{place}}}; a place in braces is a row, "
            "{row}, or the difference of two, {row - other}"
        )
    return sides


def filled_note(claim: Claim, values: Values) -> str:
    """Write a claim's note with the figures of the finished runs.

    ``{row}`` becomes the mean accuracy of the row's runs in percent, and ``{row - other}`` the
    difference of two such means, each to two digits after the point.

    Args:
        claim: The claim.
        values: Gives, for a row, the accuracy of its finished runs, one per seed.
    """

    def figure(place: re.Match[str]) -> str:
        runs = [values(side) for side in _sides(claim, place[1])]
        if not all(runs):
            return MISSING
        first, *other = [statistics.fmean(run) for run in runs]
        return f"{first - sum(other):.2f}"

    return _PLACE.sub(figure, claim.note)
