"""A paper's claims about a table, and what the finished runs say to them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclr.errors import InputError, complaint
from cyclr.experiments.quantities import QUANTITIES
from cyclr.extras import require

_KEYS = {"text", "a", "b", "relation", "margin", "tier", "quantity", "note"}
RELATIONS = ("reaches", "beats", "equals", "within")

_DIGITS = 9  # after the point, of a distance from a threshold
_SURE = 0.95  # share of chance's own differences that a verdict stands above

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
        where = f"{where}, claim {data.get('text')!r}"
        if unknown := sorted(set(data) - _KEYS):
            raise InputError(f"{where}: claims.{unknown[0]} is not a key; keys: {sorted(_KEYS)}")
        if missing := sorted({"text", "a", "b", "relation"} - set(data)):
            raise InputError(f"{where}: claims.{missing[0]} is missing")
        claim = cls(**data)
        for name in ("text", "a", "tier", "note"):
            if not isinstance(getattr(claim, name), str):
                raise _refused(where, name, "a string", getattr(claim, name), "put it in quotes")
        for name, options in (("relation", RELATIONS), ("quantity", tuple(QUANTITIES))):
            if getattr(claim, name) not in options:
                known = "one of " + ", ".join(options)
                raise _refused(where, name, known, getattr(claim, name), "pick one")
        if not (_is_number(claim.margin) and claim.margin >= 0):
            raise _refused(where, "margin", "a number ≥ 0", claim.margin, "give its size")
        claim._check_other(where)
        return claim

    def _check_other(self, where: str) -> None:
        """Refuse another side that the relation cannot compare with."""
        is_pair = isinstance(self.b, list)
        if (self.relation == "within") != is_pair:
            pair = "a pair [low, high] with the relation within, and only with it"
            raise _refused(where, "b", pair, self.b, "change one of them")
        if is_pair and not (
            len(self.b) == 2 and all(map(_is_number, self.b)) and self.b[0] < self.b[1]
        ):
            raise _refused(where, "b", "two numbers, the lower one first", self.b, "mend the pair")
        if not (is_pair or isinstance(self.b, str) or _is_number(self.b)):
            raise _refused(where, "b", "the name of a row, or a number", self.b, "name one")

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows it needs."""
        return (self.a, self.b) if isinstance(self.b, str) else (self.a,)

    def verdict(self, values: Values) -> str:
        """Say what the finished runs show.

        One run on either side is evidence of one run, and is called so. With two or more the
        standard error is given, and what is nearer to the threshold than Student's t at 95 % allows
        (Welch's degrees of freedom, which few runs make few) is undecided.

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
        # A tie is a tie, whatever the last bits say.
        ahead = round(self._ahead(gap), _DIGITS)
        holds = ahead > 0 or (ahead == 0 and self.relation != "beats")
        word = "holds" if holds else "does not hold"
        if error is None:
            word = f"in one run: {word}"
        elif abs(ahead) < _quantile(a, b) * error:
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refused(where: str, name: str, constraint: str, value: Any, remedy: str) -> InputError:
    return InputError(complaint(f"{where}: claims.{name}", constraint, value, remedy))


def _count(values: Sequence[float]) -> str:
    return f"n = {len(values)}"


def _error(a: Sequence[float], b: Sequence[float] | None) -> float | None:
    """Standard error of the mean, or of the means' difference; None where a row has one run."""
    sides = [a] if b is None else [a, b]
    if min(map(len, sides)) < 2:
        return None
    return math.sqrt(sum(statistics.variance(side) / len(side) for side in sides))


def _quantile(a: Sequence[float], b: Sequence[float] | None) -> float:
    """How many standard errors chance reaches: Student's t, two-sided, Welch's degrees."""
    sides = [a] if b is None else [a, b]
    parts = [statistics.variance(side) / len(side) for side in sides]
    whole = sum(parts)
    if whole == 0:
        return 0.0  # no spread at all was seen
    degrees = whole**2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True)
    )
    stats = require("scipy.stats", caller="a verdict on several runs", extra="training")
    return float(stats.t.ppf((1 + _SURE) / 2, degrees))
