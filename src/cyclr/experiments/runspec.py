"""One run of an experiment, resolved: everything that decides what comes out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cyclr.errors import SpecError
from cyclr.recipe import Recipe
from cyclr.schedules.fields import Constraint

AUGMENTATIONS = ("none", "mirror", "crop_mirror")
PREPARATIONS = ("pixel_mean", "pixel_mean_unit", "channel", "unit")


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What one run does.

    Attributes:
        data: See ``cyclr.experiments.images.load_data``.
        net: See :func:`cyclr.experiments.nets.make_net`.
        optimizer: See :func:`cyclr.experiments.optimizers.make_optimizer`.
        recipe: Rate (and momentum) at every step, and how many steps.
        seed: Of the initial weights and everything drawn later, ≥ 0.
        batch_size: Examples per update, ≥ 1.
        order: ``"fixed"``: the training set as it is, over and over, as Caffe reads it;
            ``"shuffled"``: a new permutation for every pass. A batch may span two passes.
        prepare: ``"pixel_mean"``: bytes minus the mean image; ``"pixel_mean_unit"``: that over
            255; ``"channel"``: every channel standardized; ``"unit"``: bytes over 255.
        augment: ``"none"``, ``"mirror"`` or ``"crop_mirror"`` (shifts by up to 4 pixels as well).
        evaluate_every: Steps between evaluations on the test set, ≥ 1; also at stopping points and
            at the end.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast (weights stay float32).
        measures: Names of further measurements, see :mod:`cyclr.experiments.measures`.
        stop_after: End after this many steps, ≥ 1, whatever the recipe's length; None for all.
    """

    data: Mapping[str, Any]
    net: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    recipe: Recipe
    seed: int = 0
    batch_size: int = 128
    order: str = "shuffled"
    prepare: str = "channel"
    augment: str = "none"
    evaluate_every: int = 1000
    precision: str = "float32"
    measures: tuple[str, ...] = field(default=())
    stop_after: int | None = None

    _CONSTRAINTS: ClassVar[dict[str, Constraint]] = {
        "seed": Constraint(kind="integer", ge=0),
        "batch_size": Constraint(kind="integer", ge=1),
        "order": Constraint(kind="choice", options=("fixed", "shuffled")),
        "prepare": Constraint(kind="choice", options=PREPARATIONS),
        "augment": Constraint(kind="choice", options=AUGMENTATIONS),
        "evaluate_every": Constraint(kind="integer", ge=1),
        "precision": Constraint(kind="choice", options=("float32", "bfloat16")),
        "stop_after": Constraint(kind="integer", ge=1, optional=True),
    }

    def __post_init__(self) -> None:
        for name, constraint in self._CONSTRAINTS.items():
            constraint.check(f"run.{name}", getattr(self, name))
        object.__setattr__(self, "measures", tuple(self.measures))

    @property
    def steps(self) -> int:
        """How many updates the run makes."""
        total = self.recipe.total_steps
        return total if self.stop_after is None else min(total, self.stop_after)

    def to_dict(self) -> dict[str, Any]:
        """Write the spec as plain data; what is at its default is left out, but not the seed."""
        data: dict[str, Any] = {}
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if value == entry.default and entry.name != "seed":
                continue
            data[entry.name] = value.to_dict() if isinstance(value, Recipe) else value
        plain: dict[str, Any] = json.loads(json.dumps(data))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunSpec:
        """Read a spec from plain data.

        Raises:
            SpecError: A field is unknown, missing or out of bounds.
        """
        fields = {entry.name for entry in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - fields):
            raise SpecError(f"run.{unknown[0]} is not a field; the fields: {sorted(fields)}")
        if missing := sorted({"data", "net", "optimizer", "recipe"} - set(data)):
            raise SpecError(f"run.{missing[0]} is missing; a run needs it")
        return cls(**{**data, "recipe": Recipe.from_dict(data["recipe"])})

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that change with anything that matters to the result."""
        data = self.to_dict()
        data["recipe"].pop("notes", None)
        text = json.dumps(data, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
