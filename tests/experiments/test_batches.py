"""Batches as functions of the step."""

import pytest
import torch

from cyclr.experiments.batches import Batches, make_prepare, mirror, seeded
from cyclr.experiments.data import Images


def _batches(n: int = 10, size: int = 4, **changes: str) -> Batches:
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2)
    settings = {"order": "shuffled", "augment": "none", **changes}
    data = Images(images, torch.arange(n))
    return Batches(data, size=size, seed=5, prepare=lambda x: x.float(), **settings)


def test_a_fixed_order_goes_round_and_round() -> None:
    batches = _batches(order="fixed")
    assert [batches.indices(step).tolist() for step in range(3)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 0, 1],
    ]


def test_a_shuffled_pass_holds_every_example_once() -> None:
    batches = _batches()
    seen = torch.cat([batches.indices(step) for step in range(5)])
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_a_batch_larger_than_the_set_spans_passes() -> None:
    seen = _batches(n=3, size=7).indices(1).tolist()
    assert len(seen) == 7
    assert sorted(seen[-4:][:3]) == [0, 1, 2] or sorted(seen[2:5]) == [0, 1, 2]


@pytest.mark.parametrize("augment", ["none", "mirror", "crop_mirror"])
def test_a_batch_depends_on_seed_and_step_alone(augment: str) -> None:
    onward, backward = _batches(augment=augment), _batches(augment=augment)
    forward = [onward(step) for step in range(8)]
    for step in reversed(range(8)):
        inputs, labels = backward(step)
        assert torch.equal(inputs, forward[step][0])
        assert torch.equal(labels, forward[step][1])


def test_inputs_are_channels_last() -> None:
    inputs, labels = _batches()(0)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(inputs[:, 0, 0, 0].long(), labels)


def test_mirroring_flips_about_half_left_to_right() -> None:
    images = torch.arange(2000.0).view(1000, 1, 1, 2)
    flipped = mirror(images, seeded(0, 2, 0))[:, 0, 0, 0] > images[:, 0, 0, 0]
    assert 400 < int(flipped.sum()) < 600
    assert torch.equal(mirror(images, seeded(0, 2, 0)).sort(3).values, images)


def test_draws_of_different_streams_and_steps_differ() -> None:
    draws = {
        float(torch.rand((), generator=seeded(*key)))
        for key in [(0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0)]
    }
    assert len(draws) == 4


def test_preparations() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    centered = make_prepare("pixel_mean", images)(images)
    torch.testing.assert_close(centered, images.float() - images.float().mean(0))
    torch.testing.assert_close(make_prepare("pixel_mean_unit", images)(images), centered / 255)
    torch.testing.assert_close(make_prepare("unit", images)(images), images.float() / 255)
    standard = make_prepare("channel", images)(images)
    torch.testing.assert_close(standard.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert standard.pow(2).mean((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], rel=1e-5)
