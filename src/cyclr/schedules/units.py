"""Epochs, fractions and time strings become steps at the edge; a schedule holds steps only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cyclr.errors import SpecError, complaint
from cyclr.schedules.fields import Constraint

_FORM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(st|ep|run)\s*")
_WORDS = 'a whole number of steps, or a string such as "500st", "4ep" or "0.3run"'


@dataclass(frozen=True, kw_only=True)
class Units:
    """What it takes to turn durations into steps.

    ====== ================================ =======================
    form   meaning                          needs
    ====== ================================ =======================
    500    steps                            nothing
    500st  steps                            nothing
    4ep    epochs                           ``steps_per_epoch``
    0.3run a share of the run, in [0, 1]    ``total_steps``
    ====== ================================ =======================

    Fractions are rounded to the nearest step, halves to the even one.

    >>> units = Units(steps_per_epoch=390, total_steps=10_000)
    >>> [units.steps(form) for form in (500, "500st", "4ep", "0.3run")]
    [500, 500, 1560, 3000]

    Args:
        steps_per_epoch: Updates in an epoch, ≥ 1; None if unknown.
        total_steps: Updates in the run, ≥ 1; None if unknown.

    Raises:
        SpecError: A field breaks its bound.
    """

    steps_per_epoch: int | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps_per_epoch", "total_steps"):
            constraint = Constraint(kind="integer", ge=1, optional=True)
            object.__setattr__(self, name, constraint.check(f"Units.{name}", getattr(self, name)))

    def steps(self, duration: int | str, *, where: str = "duration") -> int:
        """Turn a duration into steps.

        Args:
            duration: In one of the forms above.
            where: What to call it in an error.

        Raises:
            SpecError: The form is unknown, or what it needs is not given.
        """
        if not isinstance(duration, str):
            return int(Constraint(kind="integer", ge=0).check(where, duration))
        match = _FORM.fullmatch(duration)
        if match is None:
            raise SpecError(complaint(where, _WORDS, duration, "write one of these forms"))
        amount, unit = float(match[1]), match[2]
        if unit == "st":
            return self._whole(where, duration, amount)
        if unit == "ep":
            return round(amount * self._needed(where, duration, "steps_per_epoch"))
        if amount > 1:
            raise SpecError(complaint(where, "at most the whole run", duration, 'write "1run"'))
        return round(amount * self._needed(where, duration, "total_steps"))

    def _whole(self, where: str, duration: str, amount: float) -> int:
        if amount != int(amount):
            raise SpecError(complaint(where, "a whole number of steps", duration, "round it"))
        return int(amount)

    def _needed(self, where: str, duration: str, name: str) -> int:
        value: int | None = getattr(self, name)
        if value is None:
            option = "--" + name.replace("_", "-")
            raise SpecError(
                f"{where} is {duration!r}, which needs {name}; pass Units({name}=…), or {option} "
                "on the command line"
            )
        return value
