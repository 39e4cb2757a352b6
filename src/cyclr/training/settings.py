"""How to train a recipe: everything about a run that is neither recipe, model nor data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import torch

from cyclr.errors import InputError
from cyclr.schedules.fields import Constraint

PRECISIONS = ("no", "fp16", "bf16")
ON_PLATEAU = ("go-on", "lower", "stop")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train. The fields above ``checkpoint_every`` decide what numbers come out.

    Attributes:
        accumulate: Micro-batches per update, ≥ 1.
        max_grad_norm: Clip the gradient's norm to this, > 0; None for no clipping.
        mixed_precision: ``"no"``, ``"fp16"`` or ``"bf16"``.
        compile: Whether to ``torch.compile`` the model.
        channels_last: Whether model and image batches have their channels last in memory.
        ema_decay: Decay of the moving average of the weights, in (0, 1); None for none.
        on_plateau: ``"go-on"``, ``"lower"`` or ``"stop"``, when a cycle brings no gain.
        plateau_cycles: Cycles at the same bounds before that is judged, ≥ 2.
        monitor: The metric that says what a gain is, with ``+`` or ``-`` before it if its name does
            not tell whether more or less of it is better; None for accuracy if there is one,
            otherwise the loss.
        validate_every: Steps between evaluations besides those at the stopping points, ≥ 1; None
            for only those.
        probe_every: Steps between probes, ≥ 3; None for none.
        split_batches: Whether several processes split each batch. Otherwise each is given its own.
        checkpoint_every: Steps between checkpoints besides those at the stopping points, ≥ 1; None
            for none.
        checkpoint_minutes: Minutes between them, > 0; None for no such limit.
        keep: How many checkpoints to keep besides the best and the last cycle end's, ≥ 1.
        snapshots: Whether to keep the checkpoint of every cycle's end.
    """

    accumulate: int = 1
    max_grad_norm: float | None = None
    mixed_precision: str = "no"
    compile: bool = False
    channels_last: bool = False
    ema_decay: float | None = None
    on_plateau: str = "go-on"
    plateau_cycles: int = 3
    monitor: str | None = None
    validate_every: int | None = None
    probe_every: int | None = 50
    split_batches: bool = True
    checkpoint_every: int | None = None
    checkpoint_minutes: float | None = 10.0
    keep: int = 3
    snapshots: bool = False

    _CONSTRAINTS: ClassVar[dict[str, Constraint]] = {
        "accumulate": Constraint(kind="integer", ge=1),
        "max_grad_norm": Constraint(kind="real", gt=0, optional=True),
        "mixed_precision": Constraint(kind="choice", options=PRECISIONS),
        "compile": Constraint(kind="flag"),
        "channels_last": Constraint(kind="flag"),
        "ema_decay": Constraint(kind="real", gt=0, lt=1, optional=True),
        "on_plateau": Constraint(kind="choice", options=ON_PLATEAU),
        "plateau_cycles": Constraint(kind="integer", ge=2),
        "validate_every": Constraint(kind="integer", ge=1, optional=True),
        "probe_every": Constraint(kind="integer", ge=3, optional=True),
        "split_batches": Constraint(kind="flag"),
        "checkpoint_every": Constraint(kind="integer", ge=1, optional=True),
        "checkpoint_minutes": Constraint(kind="real", gt=0, optional=True),
        "keep": Constraint(kind="integer", ge=1),
        "snapshots": Constraint(kind="flag"),
    }
    # What may differ when a run is resumed, because it has no influence on the numbers.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"checkpoint_every", "checkpoint_minutes", "keep", "snapshots"}
    )

    def __post_init__(self) -> None:
        for name, constraint in self._CONSTRAINTS.items():
            object.__setattr__(self, name, constraint.check(name, getattr(self, name)))
        if self.mixed_precision == "fp16" and not torch.accelerator.is_available():
            raise InputError("mixed_precision fp16 needs a GPU, and there is none; use bf16 or no")

    def to_dict(self) -> dict[str, Any]:
        """Write the settings as plain data."""
        return dataclasses.asdict(self)

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """Say which settings that decide the numbers are not as saved ones, in words."""
        mine = self.to_dict()
        return [
            f"{name} was {saved[name]!r} and is now {mine[name]!r}"
            for name in mine
            if name not in self.FREE and name in saved and saved[name] != mine[name]
        ]


class SettingsFields(TypedDict, total=False):
    """The fields of :class:`Settings`, as keyword arguments."""

    accumulate: int
    max_grad_norm: float | None
    mixed_precision: str
    compile: bool
    channels_last: bool
    ema_decay: float | None
    on_plateau: str
    plateau_cycles: int
    monitor: str | None
    validate_every: int | None
    probe_every: int | None
    split_batches: bool
    checkpoint_every: int | None
    checkpoint_minutes: float | None
    keep: int
    snapshots: bool


def check_precision(mixed_precision: str) -> None:
    """Refuse a precision that does not exist, or not on this machine.

    Raises:
        InputError: It is not one of the three, or fp16 without a GPU.
    """
    Settings(mixed_precision=mixed_precision)
