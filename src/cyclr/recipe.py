"""A recipe: every hyper-parameter's schedule, how many steps to run, and where to stop well."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from cyclr import jsonfile
from cyclr.errors import InputError, SpecError, complaint
from cyclr.schedules import Schedule, Units, from_dict
from cyclr.schedules.fields import Constraint

_FORMAT = 1
_SCHEDULES = ("lr", "momentum", "weight_decay", "batch_size")
_LOOKS = 64  # steps at which a schedule's values are looked at
_BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "momentum": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "weight_decay": (lambda value: value >= 0, "≥ 0"),
    "batch_size": (lambda value: value >= 0.5, "at least 1 when rounded"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run needs to know: schedules, length, stopping points.

    >>> from cyclr.schedules import Triangular
    >>> recipe = Recipe(lr=Triangular(base_lr=0.1, max_lr=1.0, stepsize=10), total_steps=50)
    >>> recipe.stopping_points, recipe.values(10)
    ((20, 40, 50), {'lr': 1.0})

    Attributes:
        lr: Schedule of the learning rate.
        momentum: Schedule of the momentum (or Adam's beta1); None leaves the optimizer's own.
        weight_decay: Schedule of the weight decay; None leaves the optimizer's own. One that is
            tied to the rate is ``Scale(schedule=lr, factor=weight_decay / max_lr)``.
        batch_size: Schedule of the batch size, for a loader of yours to read (rounded, with
            ``recipe.values(step)["batch_size"]``); None for a constant one.
        total_steps: How many updates to run, ≥ 1.
        steps_per_epoch: Updates in an epoch, ≥ 1, for people to read; None if unknown.
        notes: Why the recipe is what it is, one sentence each.

    Raises:
        SpecError: A field breaks its constraint.
    """

    lr: Schedule
    momentum: Schedule | None = None
    weight_decay: Schedule | None = None
    batch_size: Schedule | None = None
    total_steps: int
    steps_per_epoch: int | None = None
    notes: tuple[str, ...] = ()

    _CONSTRAINTS: ClassVar[dict[str, Constraint]] = {
        "lr": Constraint(kind="schedule"),
        "momentum": Constraint(kind="schedule", optional=True),
        "weight_decay": Constraint(kind="schedule", optional=True),
        "batch_size": Constraint(kind="schedule", optional=True),
        "total_steps": Constraint(kind="integer", ge=1),
        "steps_per_epoch": Constraint(kind="integer", ge=1, optional=True),
    }

    def __post_init__(self) -> None:
        for name, constraint in self._CONSTRAINTS.items():
            value = constraint.check(f"Recipe.{name}", getattr(self, name))
            object.__setattr__(self, name, value)
        object.__setattr__(self, "notes", tuple(self.notes))
        self._check_values()

    def _check_values(self) -> None:
        """Refuse schedules that leave what their hyper-parameter can be, seen at some steps."""
        last = self.total_steps - 1
        looked_at = {round(last * i / _LOOKS) for i in range(_LOOKS + 1)}
        for name, (fits, words) in _BOUNDS.items():
            schedule = getattr(self, name)
            if schedule is None:
                continue
            for step in sorted(looked_at):
                if not fits(schedule(step)):
                    where = f"Recipe.{name} at step {step:,}"
                    raise SpecError(complaint(where, words, schedule(step), "mend the schedule"))

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedules that are given, by hyper-parameter."""
        pairs = {name: getattr(self, name) for name in _SCHEDULES}
        return {name: schedule for name, schedule in pairs.items() if schedule is not None}

    def values(self, step: int) -> dict[str, float]:
        """Give every scheduled hyper-parameter's value used by update ``step``."""
        return {name: schedule(step) for name, schedule in self.schedules.items()}

    @property
    def stopping_points(self) -> tuple[int, ...]:
        """Say after how many updates the model is worth keeping, at cycle ends and at the end."""
        ends = self.lr.cycle_ends(self.total_steps)
        return ends if self.total_steps in ends else (*ends, self.total_steps)

    def replace(self, **changes: Any) -> Recipe:
        """Make a copy with some fields changed, checked like a new one."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Write the recipe as plain data."""
        return {
            "cyclr_recipe": _FORMAT,
            "total_steps": self.total_steps,
            "steps_per_epoch": self.steps_per_epoch,
            **{name: schedule.to_dict() for name, schedule in self.schedules.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Any, *, units: Units | None = None) -> Recipe:
        """Read a recipe from plain data, as :meth:`to_dict` wrote it, or a person.

        Args:
            data: A mapping with the key ``"cyclr_recipe"`` and the recipe's fields.
            units: Lets durations be written as ``"4ep"`` or ``"0.3run"``: total_steps, and the
                whole-number fields of the schedules. What the recipe itself says of its length and
                its epochs counts before units; what is made of it holds steps only.

        Raises:
            SpecError: The data is not a recipe; the message names the field.
        """
        if isinstance(data, dict) and data.get("cyclr_recipe", _FORMAT) != _FORMAT:
            raise SpecError(
                f"cyclr_recipe must be {_FORMAT}, the one version of the format that there is, got "
                f"{data['cyclr_recipe']!r}; a later version of cyclr may read it"
            )
        if not isinstance(data, dict) or "cyclr_recipe" not in data:
            raise SpecError(
                f'it must be an object with "cyclr_recipe": {_FORMAT}; '
                "write one with `cyclr plan RECORD --out recipe.json` or recipe.save(path)"
            )
        known = {"cyclr_recipe", "notes", *cls._CONSTRAINTS}
        if unknown := sorted(set(data) - known):
            raise SpecError(f"recipe.{unknown[0]} is not a field; the fields: {sorted(known)}")
        given = {name for name, value in data.items() if value is not None}
        if missing := sorted({"lr", "total_steps"} - given):
            raise SpecError(f"recipe.{missing[0]} is missing; a recipe needs it")
        notes = data.get("notes") or ()
        if not isinstance(notes, list | tuple) or not all(isinstance(n, str) for n in notes):
            raise SpecError(complaint("recipe.notes", "a list of sentences", notes, "bracket them"))
        fields = {name: data[name] for name in cls._CONSTRAINTS if data.get(name) is not None}
        units = _units(fields, units or Units())
        fields["total_steps"] = units.total_steps
        for name in _SCHEDULES:
            if name in fields:
                fields[name] = from_dict(fields[name], where=f"recipe.{name}", units=units)
        return cls(**fields, notes=tuple(notes))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe to a JSON file.

        Raises:
            InputError: The file cannot be written.
        """
        jsonfile.write(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, units: Units | None = None) -> Recipe:
        """Read a recipe from a JSON file.

        Args:
            path: The file.
            units: See :meth:`from_dict`.

        Raises:
            SpecError: The file cannot be read, or is not a recipe.
        """
        try:
            return cls.from_dict(jsonfile.read(path, what="a recipe"), units=units)
        except SpecError as error:
            raise SpecError(f"{path} is not a recipe: {error}") from error
        except InputError as error:
            raise SpecError(str(error)) from error


def _units(fields: dict[str, Any], given: Units) -> Units:
    """Complete the units by what a recipe says itself, and turn its length into steps."""
    per_epoch, total = fields.get("steps_per_epoch"), fields["total_steps"]
    if per_epoch is not None:
        count = Recipe._CONSTRAINTS["steps_per_epoch"].check("Recipe.steps_per_epoch", per_epoch)
        given = dataclasses.replace(given, steps_per_epoch=count)
    if isinstance(total, str):
        total = given.steps(total, where="recipe.total_steps")
    count = Recipe._CONSTRAINTS["total_steps"].check("Recipe.total_steps", total)
    return dataclasses.replace(given, total_steps=count)
