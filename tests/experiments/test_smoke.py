"""First steps on made-up images: of the shape of the data that they stand in for."""

from typing import Any

import pytest

from cyclr.experiments.images import load_data
from cyclr.experiments.smoke import SHAPES, first_steps, shape_of

POLICY = {"kind": "constant", "value": 0.1}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_images_of_the_same_shape_are_made(name: str) -> None:
    first = first_steps({"data": {"name": name}, "policy": POLICY})
    made = load_data(first["data"])
    shape = SHAPES[name]
    assert made.train.images.shape == (40, shape.channels, shape.size, shape.size)
    assert 0 <= int(made.train.labels.min()) <= int(made.train.labels.max()) < shape.classes


def test_the_shape_of_digits_is_that_of_the_data_set() -> None:
    images = load_data({"name": "digits"}).train.images
    shape = SHAPES["digits"]
    assert images.shape == (shape.train, shape.channels, shape.size, shape.size)


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"name": "synthetic", "classes": 3, "channels": 1, "size": 8}, (8, 3, 1)),
        ({"name": "cifar10", "size": 16, "train": 45000}, (16, 10, 3)),
    ],
)
def test_what_a_grid_says_of_its_data_is_kept(
    data: dict[str, Any], kept: tuple[int, int, int]
) -> None:
    made = first_steps({"data": data, "policy": POLICY})["data"]
    assert made == {
        "name": "synthetic",
        "size": kept[0],
        "classes": kept[1],
        "channels": kept[2],
        "train": 40,
    }
    assert shape_of(data).train == data.get("train")


def test_a_range_test_takes_enough_steps_to_be_read() -> None:
    sweep = {"kind": "linear_sweep", "start_lr": 0.0, "end_lr": 0.1, "steps": 100}
    data = {"name": "digits"}
    assert first_steps({"data": data, "policy": sweep}) == {
        **first_steps({"data": data, "policy": POLICY}),
        "stop_after": 12,
        "evaluate_every": 1,
    }
