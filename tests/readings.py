"""A reading to plan from, with any of its fields changed."""

from typing import Any

from cyclr import Outcome, Reading


def reading(**changes: Any) -> Reading:
    fields: dict[str, Any] = {
        "base_lr": 0.02,
        "max_lr": 0.1,
        "rule": "knee",
        "outcome": Outcome.DIVERGED,
        "optimizer": {"name": "SGD", "momentum": 0.9},
        "steps_per_epoch": 100,
    }
    return Reading(**{**fields, **changes})
