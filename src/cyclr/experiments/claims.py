"""A paper's claims about a table, and what the finished runs say to them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclr.errors import InputError, complaint
from cyclr.experiments.quantities import QUANTITIES

_KEYS = {"text", "a", "b", "relation", "margin", "tier", "quantity", "note"}
RELATIONS = ("reaches", "beats", "equals", "within")

Values = Callable[[str], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A row compared with another, with a number, or with a range.

    Attributes:
        text: The claim in words.
        a: The row it is about; of another grid as ``grid/row``.
        b: The row it is compared with, a number, or for ``"within"`` a pair of them.
        relation: ``"reaches"``: a ≥ b − margin; ``"beats"``: a > b + margin; ``"equals"``: a
            within margin of b; ``"within"``: a between the two numbers of b, both included.
        margin: In the quantity's unit, ≥ 0.
        tier: At which tier the claim is looked at.
        quantity: One of :data:`~cyclr.experiments.quantities.QUANTITIES`.
        note: A reason tested, or what to know; may be empty.
    """

    text: str
    a: str
    b: Any
    relation: str
    margin: float = 0.0
    tier: str = "full"
    quantity: str = "accuracy"
    note: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str) -> Claim:
        """Read a claim from a grid.

        Raises:
            InputError: A key is unknown or missing, or a word is not one of those it may be.
        """
        if unknown := sorted(set(data) - _KEYS):
            raise InputError(f"{where}: claims.{unknown[0]} is not a key; keys: {sorted(_KEYS)}")
        if missing := sorted({"text", "a", "b", "relation"} - set(data)):
            raise InputError(f"{where}: claims.{missing[0]} is missing")
        claim = cls(**data)
        for name, options in (("relation", RELATIONS), ("quantity", tuple(QUANTITIES))):
            if getattr(claim, name) not in options:
                known = "one of " + ", ".join(options)
                value = getattr(claim, name)
                raise InputError(complaint(f"{where}: claims.{name}", known, value, "pick one"))
        if (claim.relation == "within") != isinstance(claim.b, list):
            pair = "a pair [low, high] with the relation within, and only with it"
            raise InputError(complaint(f"{where}: claims.b", pair, claim.b, "change one of them"))
        return claim

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows it needs."""
        return (self.a, self.b) if isinstance(self.b, str) else (self.a,)

    def verdict(self, values: Values) -> str:
        """Say what the finished runs show.

        Args:
            values: Gives, for a row, the quantity of its finished runs, one per seed.
        """
        waiting = [name for name in self.rows if not values(name)]
        if waiting:
            return "not run yet: " + ", ".join(waiting)
        a = values(self.a)
        mean, unit = statistics.fmean(a), QUANTITIES[self.quantity].unit
        if self.relation == "within":
            low, high = self.b
            word = "holds" if low <= mean <= high else "does not hold"
            return f"{word}: {mean:.4g}{unit} ({_count(a)})"
        b = values(self.b) if isinstance(self.b, str) else ()
        gap = mean - (statistics.fmean(b) if b else float(self.b))
        holds = {
            "reaches": gap >= -self.margin,
            "beats": gap > self.margin,
            "equals": abs(gap) <= self.margin,
        }[self.relation]
        error = _error(a, b)
        spread = "" if error is None else f" ± {error:.2f}"
        seeds = _count(a) if not b or len(a) == len(b) else f"{_count(a)} against {_count(b)}"
        points = "points" if unit == " %" else unit.strip()
        word = "holds" if holds else "does not hold"
        return f"{word}: {gap:+.2f}{spread} {points} (margin {self.margin:g}, {seeds})"


def _count(values: Sequence[float]) -> str:
    return f"n = {len(values)}"


def _error(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Standard error of the difference of the means; None where a row has one seed."""
    parts = [statistics.variance(x) / len(x) for x in (a, b) if len(x) > 1]
    return math.sqrt(sum(parts)) if len(parts) == 2 else None
