"""Which learning rate, on which schedule, and when to stop.

The names below are imported when first used, so that ``import cyclr`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclr.errors import CyclrError
    from cyclr.experiments.task import Task
    from cyclr.planning import plan
    from cyclr.rangetest import Outcome, RangeRecord, RangeTest, Reading
    from cyclr.recipe import Recipe
    from cyclr.schedules import (
        Chain,
        Clamp,
        Constant,
        CosineSweep,
        Cyclical,
        ExponentialDecay,
        ExponentialSweep,
        ExpRange,
        InverseDecay,
        InverseSqrt,
        Knee,
        LinearSweep,
        MultiStep,
        Noam,
        OneCycle,
        Opposite,
        PolynomialDecay,
        Rex,
        Scale,
        Schedule,
        SlantedTriangular,
        StepDecay,
        Triangular,
        Triangular2,
        Units,
        WarmRestarts,
        WarmupStableDecay,
        cite,
        from_dict,
        from_json,
        from_toml,
        warmup,
    )

__version__ = "0.1.0.dev0"

_HOMES = {
    "cyclr.errors": ("CyclrError",),
    "cyclr.experiments.task": ("Task",),
    "cyclr.rangetest": ("Outcome", "RangeRecord", "RangeTest", "Reading"),
    "cyclr.planning": ("plan",),
    "cyclr.recipe": ("Recipe",),
    "cyclr.schedules": (
        "Chain",
        "Clamp",
        "Constant",
        "CosineSweep",
        "Cyclical",
        "ExpRange",
        "ExponentialDecay",
        "ExponentialSweep",
        "InverseDecay",
        "InverseSqrt",
        "Knee",
        "LinearSweep",
        "MultiStep",
        "Noam",
        "OneCycle",
        "Opposite",
        "PolynomialDecay",
        "Rex",
        "Scale",
        "Schedule",
        "SlantedTriangular",
        "StepDecay",
        "Triangular",
        "Triangular2",
        "Units",
        "WarmRestarts",
        "WarmupStableDecay",
        "cite",
        "from_dict",
        "from_json",
        "from_toml",
        "from_toml",
        "warmup",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Chain",
    "Clamp",
    "Constant",
    "CosineSweep",
    "Cyclical",
    "CyclrError",
    "ExpRange",
    "ExponentialDecay",
    "ExponentialSweep",
    "InverseDecay",
    "InverseSqrt",
    "Knee",
    "LinearSweep",
    "MultiStep",
    "Noam",
    "OneCycle",
    "Opposite",
    "Outcome",
    "PolynomialDecay",
    "RangeRecord",
    "RangeTest",
    "Reading",
    "Recipe",
    "Rex",
    "Scale",
    "Schedule",
    "SlantedTriangular",
    "StepDecay",
    "Task",
    "Triangular",
    "Triangular2",
    "Units",
    "WarmRestarts",
    "WarmupStableDecay",
    "cite",
    "from_dict",
    "from_json",
    "from_toml",
    "plan",
    "warmup",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'cyclr' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
