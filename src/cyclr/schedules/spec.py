"""What every schedule is: frozen data, checked when made, called with a step, written as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform, overload

import numpy as np

from cyclr.errors import SpecError, complaint
from cyclr.extras import require
from cyclr.schedules.arrays import SCALAR, Operations, Value, widened
from cyclr.schedules.fields import Constraint, choice, flag, integer, real, schedule, sequence
from cyclr.schedules.ranges import evaluate
from cyclr.schedules.units import Units

T = TypeVar("T")

_FAR = 2**63  # steps are 64-bit integers wherever they are arrays
_COUNT = Constraint(kind="integer", ge=0)
_KINDS: dict[str, type[Schedule]] = {}


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(real, integer, choice, flag, schedule, sequence),
)
def spec(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass and register it for JSON under its kind."""
    made = dataclass(frozen=True, kw_only=True)(cls)
    if issubclass(made, Schedule) and not made.__name__.startswith("_"):
        made.kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", made.__name__).lower()
        _KINDS[made.kind] = made
    return made


class Schedule(ABC):
    """A hyper-parameter's value as a pure function of the step.

    ``schedule(k)`` is the value *used by* optimizer update ``k``, counted from 0. The step may be
    an int, or an array of them in NumPy, torch or JAX (traced or not); the answer has the same
    form. There is no counter inside: equal schedules give equal values in any order of calls.

    Steps at or beyond :attr:`total_steps` give the value at which the schedule ends.

    Subclasses are made with the ``spec`` decorator, declare their fields with the helpers of
    :mod:`cyclr.schedules.fields`, and implement ``_value``.
    """

    kind: ClassVar[str]
    """The name under which the schedule is written to JSON."""
    source: ClassVar[str]
    """The paper or code the formula comes from."""

    def __post_init__(self) -> None:
        for name, constraint in self.constraints().items():
            value = constraint.check(f"{type(self).__name__}.{name}", getattr(self, name))
            object.__setattr__(self, name, value)
        self._check()

    @classmethod
    def constraints(cls) -> dict[str, Constraint]:
        """What each field must be, by field name."""
        return {
            field.name: field.metadata["constraint"]
            for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        }

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: T) -> T: ...
    def __call__(self, step: Any) -> Any:
        """Give the value used by update ``step``, or by each of an array of steps.

        Raises:
            SpecError: A step is negative (checked for ints and NumPy arrays; a traced array cannot
                be looked into) or not a whole number.
        """
        if type(step) is int and 0 <= step < _FAR:
            return self._value(SCALAR, step)
        return self._value_of(step)

    def _value_of(self, step: Any) -> Any:
        """Serve everything but the common case: arrays, NumPy integers, and bad input."""
        if isinstance(step, np.generic) or not hasattr(step, "dtype"):
            return self._value(SCALAR, _near("step", _COUNT.check("step", step)))
        if isinstance(step, np.ndarray):
            if step.dtype.kind not in "iuf":
                raise SpecError(
                    complaint("steps", "an array of numbers", step.dtype, "pass np.arange(n)")
                )
            if step.size:
                if not step.min() >= 0:  # negative, or not a number
                    raise SpecError(complaint("steps", "≥ 0", step.min().item(), "count from 0"))
                _near("steps", step.max().item())
        return evaluate(self._value, widened(step))

    @abstractmethod
    def _value(self, ops: Operations, step: Value) -> Value:
        """Evaluate the formula; written once for numbers and arrays, free of branches."""

    def _check(self) -> None:  # noqa: B027 -- most schedules have nothing to check here
        """Check what involves several fields; raises SpecError."""

    # A cached property, unlike a property, lets a subclass have a field of the same name.
    @cached_property
    def total_steps(self) -> int | None:
        """How many updates the schedule describes; None when it goes on for ever."""
        return self._length()

    def _length(self) -> int | None:
        return None

    def cycle_ends(self, until: int | None = None) -> tuple[int, ...]:
        """Count the updates done at each cycle's end, up to and including ``until``.

        A model is best judged, kept and stopped there: the rate has come back to its lower bound.

        Args:
            until: The last count to list, in steps (≥ 0). Defaults to :attr:`total_steps`.

        Raises:
            SpecError: ``until`` is not given and the schedule never ends.
        """
        if until is not None:
            until = _near("until", _COUNT.check("until", until))
        else:
            until = self.total_steps
        if until is None:
            raise SpecError(
                f"{type(self).__name__} never ends, so its cycle ends cannot all be listed; "
                "pass until=<steps>"
            )
        return self._cycle_ends(until)

    def _cycle_ends(self, until: int) -> tuple[int, ...]:
        """List the cycle ends; schedules without cycles have one, their end."""
        total = self.total_steps
        return (total,) if total is not None and total <= until else ()

    def replace(self, **changes: Any) -> Self:
        """Make a copy with some fields changed, checked like a new one."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def to_dict(self) -> dict[str, Any]:
        """Write the schedule as plain data: its kind, then every field that is not None."""
        data: dict[str, Any] = {"kind": self.kind}
        for name in self.constraints():
            value = getattr(self, name)
            if value is not None:
                data[name] = _plain(value)
        return data

    def to_json(self, *, indent: int | None = None) -> str:
        """Write the schedule as JSON; :func:`from_json` reads it back equal."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_toml(self) -> str:
        """Write the schedule as TOML; :func:`from_toml` reads it back equal.

        Raises:
            MissingExtraError: The package tomli-w is not installed.
        """
        writer = require("tomli_w", caller="Schedule.to_toml", extra="cli")
        return str(writer.dumps(self.to_dict()))

    def plot(self, *, steps: int | None = None, axes: Any = None, label: str | None = None) -> Any:
        """Draw the schedule.

        Args:
            steps: How many steps to draw, ≥ 1; by default the schedule's length.
            axes: Matplotlib axes to draw on, to compare several; new ones if None.
            label: Name in the legend; the kind if None.

        Returns:
            The axes; ``axes.figure.savefig(path)`` writes a file.

        Raises:
            SpecError: The schedule never ends and ``steps`` is not given.
            MissingExtraError: Matplotlib is not installed.
        """
        from cyclr.schedules.draw import plot

        return plot(self, steps=steps, axes=axes, label=label)


def _near(where: str, step: T) -> T:
    """Refuse a step that no 64-bit counter reaches."""
    if step >= _FAR:  # type: ignore[operator] # a number
        raise SpecError(complaint(where, "< 2**63", step, "count optimizer updates"))
    return step


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


def from_dict(data: Any, *, where: str = "schedule", units: Units | None = None) -> Schedule:
    """Read a schedule from plain data, as :meth:`Schedule.to_dict` wrote it.

    Args:
        data: A mapping with the key ``"kind"`` and the fields of that kind.
        where: What to call the mapping in an error, such as ``recipe.lr``.
        units: Lets whole-number fields be durations such as ``"4ep"`` or ``"0.3run"``; what is
            made of them holds steps only.

    Raises:
        SpecError: The kind is unknown, or a field is unknown, missing or out of bounds.
    """
    if not isinstance(data, dict) or "kind" not in data:
        remedy = 'write {"kind": "triangular", ...}'
        raise SpecError(complaint(where, 'an object with a "kind" key', data, remedy))
    fields = {name: value for name, value in data.items() if name != "kind"}
    cls = _KINDS.get(data["kind"]) if isinstance(data["kind"], str) else None
    if cls is None:
        known = "one of " + ", ".join(sorted(_KINDS))
        raise SpecError(complaint(f"{where}.kind", known, data["kind"], "pick one"))
    constraints = cls.constraints()
    if unknown := sorted(set(fields) - set(constraints)):
        known = ", ".join(constraints)
        raise SpecError(f"{where}.{unknown[0]} is not a field of {cls.kind}; its fields: {known}")
    required = {
        f.name
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if f.default is dataclasses.MISSING
    }
    if missing := sorted(required - set(fields)):
        raise SpecError(f"{where}.{missing[0]} is missing; {cls.kind} needs it")
    return cls(
        **{
            name: _read(constraints[name], value, f"{where}.{name}", units)
            for name, value in fields.items()
        }
    )


def _read(constraint: Constraint, value: Any, where: str, units: Units | None) -> Any:
    """Turn nested plain data into schedules and durations into steps."""
    if constraint.kind == "schedule" and value is not None:
        return from_dict(value, where=where, units=units)
    if constraint.kind == "integer" and isinstance(value, str):
        return (units or Units()).steps(value, where=where)
    if constraint.kind == "tuple" and constraint.item:
        if not isinstance(value, list | tuple):
            raise SpecError(complaint(where, "a list", value, "write [...]"))
        return tuple(
            _read(constraint.item, entry, f"{where}[{i}]", units) for i, entry in enumerate(value)
        )
    return value


def from_json(text: str, *, units: Units | None = None) -> Schedule:
    """Read a schedule from JSON.

    >>> units = Units(steps_per_epoch=390)
    >>> text = '{"kind": "triangular", "base_lr": 0.001, "max_lr": 0.006, "stepsize": "4ep"}'
    >>> from_json(text, units=units).stepsize
    1560

    Args:
        text: What :meth:`Schedule.to_json` wrote, or a person.
        units: See :func:`from_dict`.

    Raises:
        SpecError: The text is not JSON, or not a schedule; the message names the field.
    """
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, TypeError) as error:
        raise SpecError(f"a schedule must be written as JSON: {error}") from error
    return from_dict(data, units=units)


def from_toml(text: str, *, units: Units | None = None) -> Schedule:
    """Read a schedule from TOML.

    Args:
        text: What :meth:`Schedule.to_toml` wrote, or a person.
        units: See :func:`from_dict`.

    Raises:
        SpecError: The text is not TOML, or not a schedule; the message names the field.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise SpecError(f"a schedule must be written as TOML: {error}") from error
    return from_dict(data, units=units)


def cite(schedule: Schedule) -> str:
    """Name the paper or code a schedule's formula comes from."""
    return schedule.source
