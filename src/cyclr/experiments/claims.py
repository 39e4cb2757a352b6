"""A paper's claims about a table, and what the finished runs say to them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclr.errors import InputError, complaint

_KEYS = {"text", "a", "b", "relation", "margin", "tier", "note"}
RELATIONS = ("reaches", "beats", "equals")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A row compared with another, or with a number.

    Attributes:
        text: The claim in words.
        a: The row it is about.
        b: The row it is compared with, or an accuracy in percent.
        relation: ``"reaches"``: a ≥ b − margin; ``"beats"``: a > b + margin; ``"equals"``:
            a within margin of b.
        margin: In percentage points, ≥ 0.
        tier: At which tier the claim is looked at.
        note: A reason tested, or what to know; may be empty.
    """

    text: str
    a: str
    b: str | float
    relation: str
    margin: float
    tier: str = "full"
    note: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str) -> Claim:
        """Read a claim from a grid.

        Raises:
            InputError: A key is unknown or missing, or the relation is not one.
        """
        if unknown := sorted(set(data) - _KEYS):
            raise InputError(f"{where}: claims.{unknown[0]} is not a key; keys: {sorted(_KEYS)}")
        if missing := sorted({"text", "a", "b", "relation", "margin"} - set(data)):
            raise InputError(f"{where}: claims.{missing[0]} is missing")
        if data["relation"] not in RELATIONS:
            known = "one of " + ", ".join(RELATIONS)
            raise InputError(
                complaint(f"{where}: claims.relation", known, data["relation"], "pick one")
            )
        return cls(**data)

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows it needs."""
        return (self.a, self.b) if isinstance(self.b, str) else (self.a,)

    def verdict(self, accuracies: Mapping[str, Sequence[float]]) -> str:
        """Say what the finished runs show.

        Args:
            accuracies: By row, the final accuracies in percent, one per seed.
        """
        waiting = [name for name in self.rows if not accuracies.get(name)]
        if waiting:
            return "not run yet: " + ", ".join(waiting)
        a = accuracies[self.a]
        b = accuracies[self.b] if isinstance(self.b, str) else (float(self.b),)
        gap = statistics.fmean(a) - statistics.fmean(b)
        holds = {
            "reaches": gap >= -self.margin,
            "beats": gap > self.margin,
            "equals": abs(gap) <= self.margin,
        }[self.relation]
        fewest = min(len(a), len(b) if isinstance(self.b, str) else len(a))
        error = _error(a, b)
        spread = "" if error is None else f" ± {error:.2f}"
        seeds = "one seed each" if fewest == 1 else f"n ≥ {fewest}"
        verdict = "holds" if holds else "does not hold"
        return f"{verdict}: {gap:+.2f}{spread} points (margin {self.margin:g}; {seeds})"


def _error(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Standard error of the difference of the means; None where a row has one seed."""
    parts = [statistics.variance(x) / len(x) for x in (a, b) if len(x) > 1]
    return math.sqrt(sum(parts)) if len(parts) == 2 else None
