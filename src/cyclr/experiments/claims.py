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

        One run on either side is evidence of one run, and is called so. With two or more the
        standard error is given, and less than two of it from the threshold is undecided.

        Args:
            values: Gives, for a row, the quantity of its finished runs, one per seed.
        """
        waiting = [name for name in self.rows if not values(name)]
        if waiting:
            return "not run yet: " + ", ".join(waiting)
        a, b = values(self.a), values(self.b) if isinstance(self.b, str) else None
        if lost := [name for name in self.rows if any(math.isnan(v) for v in values(name))]:
            return f"cannot be said: a run of {lost[0]} diverged before it could be measured"
        error = _error(a, b)
        gap = statistics.fmean(a) if self.relation == "within" else self._gap(a, b)
        ahead = self._ahead(gap)
        holds = ahead > 0 or (ahead == 0 and self.relation != "beats")
        word = "holds" if holds else "does not hold"
        if error is None:
            word = f"in one run: {word}"
        elif abs(ahead) < 2 * error:
            word = "undecided"
        return f"{word}: {self._figures(gap, error, a, b)}"

    def _gap(self, a: Sequence[float], b: Sequence[float] | None) -> float:
        return statistics.fmean(a) - (float(self.b) if b is None else statistics.fmean(b))

    def _ahead(self, gap: float) -> float:
        """Say how far on the right side of the threshold it is; negative on the wrong one."""
        if self.relation == "within":
            low, high = self.b
            return min(gap - float(low), float(high) - gap)
        if self.relation == "equals":
            return self.margin - abs(gap)
        return gap + self.margin if self.relation == "reaches" else gap - self.margin

    def _figures(
        self, gap: float, error: float | None, a: Sequence[float], b: Sequence[float] | None
    ) -> str:
        unit = QUANTITIES[self.quantity].unit
        if self.relation == "within":
            spread = "" if error is None else f" ± {error:.2g}"
            return f"{gap:.4g}{spread}{unit} ({_count(a)})"
        spread = "" if error is None else f" ± {error:.2f}"
        points = " points" if unit == " %" else unit
        seeds = _count(a) if b is None or len(a) == len(b) else f"{_count(a)} against {_count(b)}"
        return f"{gap:+.2f}{spread}{points} (margin {self.margin:g}, {seeds})"


def _count(values: Sequence[float]) -> str:
    return f"n = {len(values)}"


def _error(a: Sequence[float], b: Sequence[float] | None) -> float | None:
    """Standard error of the mean, or of the means' difference; None where a row has one run."""
    sides = [a] if b is None else [a, b]
    if min(map(len, sides)) < 2:
        return None
    return math.sqrt(sum(statistics.variance(side) / len(side) for side in sides))
