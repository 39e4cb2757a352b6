"""The tier of every grid that makes the first steps of its runs, on made-up images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SMOKE = "smoke"
_STEPS = 3


class Shape(NamedTuple):
    """What a data set's images are like, and how many there are to train on."""

    size: int
    classes: int
    channels: int
    train: int | None


SHAPES: dict[str, Shape] = {
    "cifar10": Shape(32, 10, 3, 50_000),
    "digits": Shape(8, 10, 1, 1_438),
    "fashion-mnist": Shape(28, 10, 1, 60_000),
    "imagenet": Shape(224, 1000, 3, 1_281_167),
    "tiny-imagenet-100": Shape(64, 100, 3, 50_000),
}
"""Of the data sets that are not made up, by name."""


def shape_of(data: Mapping[str, Any]) -> Shape:
    """Say what the images of a run's data are like.

    Args:
        data: As in a grid.
    """
    known = SHAPES.get(data["name"], Shape(32, 10, 3, None))
    own = {key: data[key] for key in Shape._fields if key in data}
    return known._replace(**own)


def first_steps(merged: Mapping[str, Any]) -> dict[str, Any]:
    """Keep all but the data and the length: the first steps, on images of the same shape.

    Args:
        merged: A run's settings, as in a grid.
    """
    shape = shape_of(merged["data"])._replace(train=40)
    batch = min(4, merged.get("batch_size", 128))
    data = {"name": "synthetic", **shape._asdict()}
    first: dict[str, Any] = {"data": data, "batch_size": batch, "stop_after": _STEPS}
    if merged["policy"].get("kind") == "linear_sweep":
        # Enough to read bounds from, for the rows that are planned from them.
        first |= {"stop_after": 4 * _STEPS, "evaluate_every": 1}
    return first
