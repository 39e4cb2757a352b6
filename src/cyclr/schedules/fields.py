"""Constraints on a schedule's fields, kept as data: tests generate from them what must fail.

A schedule declares ``stepsize: int = integer(ge=1)``; the base class checks every field when the
schedule is made, and turns what it accepts (a NumPy scalar, an int where a rate is meant) into the
plain Python number that JSON and hashing want.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from dataclasses import MISSING, dataclass
from typing import Any

import numpy as np

from cyclr.errors import SpecError, complaint


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What a field's value must be."""

    kind: str
    """``"real"``, ``"integer"``, ``"choice"``, ``"flag"``, ``"schedule"`` or ``"tuple"``."""
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    options: tuple[str, ...] = ()
    optional: bool = False
    item: Constraint | None = None
    """The constraint on each entry of a ``"tuple"``."""
    is_duration: bool = True
    """Whether an ``"integer"`` counts steps, which people may have meant in another unit."""

    @property
    def words(self) -> str:
        """The constraint as it reads in an error: ``a real number > 0``."""
        nouns = {
            "real": "a finite real number",
            "integer": "an int",
            "choice": "one of " + ", ".join(map(repr, self.options)),
            "flag": "True or False",
            "schedule": "a cyclr schedule",
            "tuple": "a sequence in which each entry is " + (self.item.words if self.item else ""),
        }
        limits = [
            f"{sign} {limit:g}"
            for sign, limit in ((">", self.gt), ("≥", self.ge), ("<", self.lt), ("≤", self.le))
            if limit is not None
        ]
        return " ".join([nouns[self.kind], " and ".join(limits)]).strip() + (
            " or None" if self.optional else ""
        )

    def check(self, where: str, value: Any) -> Any:
        """Return the value in its plain form, or raise :class:`~cyclr.errors.SpecError`."""
        if value is None and self.optional:
            return None
        if self.kind == "tuple":
            return self._check_tuple(where, value)
        plain = self._plain(value)
        if plain is None or not self._within(plain):
            raise SpecError(complaint(where, self.words, value, self._remedy()))
        return plain

    def _check_tuple(self, where: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
            raise SpecError(complaint(where, self.words, value, "pass a list or a tuple"))
        assert self.item is not None
        return tuple(self.item.check(f"{where}[{i}]", entry) for i, entry in enumerate(value))

    def _plain(self, value: Any) -> Any:
        """Convert to the field's Python type; None when that is not possible without loss."""
        if self.kind == "choice":
            return value if isinstance(value, str) and value in self.options else None
        if self.kind == "schedule":
            is_one = hasattr(value, "cycle_ends") and not isinstance(value, type)
            return value if is_one else None
        if self.kind == "flag":
            return value if isinstance(value, bool) else None
        if isinstance(value, bool | np.bool_ | str | bytes):
            return None
        if self.kind == "integer":
            try:
                return operator.index(value)
            except TypeError:
                return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None

    def _within(self, number: Any) -> bool:
        return (
            (self.gt is None or number > self.gt)
            and (self.ge is None or number >= self.ge)
            and (self.lt is None or number < self.lt)
            and (self.le is None or number <= self.le)
        )

    def _remedy(self) -> str:
        if self.kind == "integer":
            whole = "count in whole steps (optimizer updates)"
            return whole if self.is_duration else "pass a whole number"
        if self.kind in ("choice", "flag"):
            return "pick one of them"
        if self.kind == "schedule":
            return "pass a schedule such as Triangular(...)"
        return "pass a plain number in that range"


def _declare(constraint: Constraint, default: Any) -> Any:
    metadata = {"constraint": constraint}
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def real(*, default: Any = MISSING, **limits: Any) -> Any:
    """Declare a finite real field; limits are ``gt``, ``ge``, ``lt``, ``le``, ``optional``."""
    return _declare(Constraint(kind="real", **limits), default)


def integer(*, default: Any = MISSING, **limits: Any) -> Any:
    """Declare a whole-number field; limits as for :func:`real`."""
    return _declare(Constraint(kind="integer", **limits), default)


def choice(*options: str, default: Any = MISSING) -> Any:
    """Declare a field that is one of a few words."""
    return _declare(Constraint(kind="choice", options=options), default)


def flag(*, default: bool) -> Any:
    """Declare a field that is True or False."""
    return _declare(Constraint(kind="flag"), default)


def schedule(*, default: Any = MISSING, optional: bool = False) -> Any:
    """Declare a field that is a schedule itself."""
    return _declare(Constraint(kind="schedule", optional=optional), default)


def sequence(kind: str, *, default: Any = MISSING, **limits: Any) -> Any:
    """Declare a tuple field whose entries are of one kind and share the limits."""
    optional = limits.pop("optional", False)
    item = Constraint(kind=kind, **limits)
    return _declare(Constraint(kind="tuple", item=item, optional=optional), default)
