"""Crops and mirroring, against a loop over every crop an image can have."""

import pytest
import torch

from cyclr.experiments.augment import crop_and_mirror


def _images(n: int = 24, channels: int = 3, height: int = 9, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((n, channels, height, width), generator=generator) + 0.5


def _augment(images: torch.Tensor, seed: int = 0, **options: int) -> torch.Tensor:
    return crop_and_mirror(images, torch.Generator().manual_seed(seed), **options)


def _crop(image: torch.Tensor, down: int, right: int, mirrored: bool) -> torch.Tensor:
    """Shift one image pixel by pixel; what comes from outside is zero."""
    _, height, width = image.shape
    found = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            source_row, source_column = row + down, column + right
            if 0 <= source_row < height and 0 <= source_column < width:
                found[:, row, column] = image[:, source_row, source_column]
    return found.flip(2) if mirrored else found


@pytest.mark.parametrize("pad", [1, 3])
def test_each_image_is_one_of_its_crops_and_all_kinds_occur(pad: int) -> None:
    images = _images()
    found = _augment(images, pad=pad)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    kinds = set()
    for image, result in zip(images, found, strict=True):
        matches = [
            (down, right, mirrored)
            for down in range(-pad, pad + 1)
            for right in range(-pad, pad + 1)
            for mirrored in (False, True)
            if torch.equal(_crop(image, down, right, mirrored), result)
        ]
        assert len(matches) == 1
        kinds.add(matches[0])
    assert {mirrored for *_, mirrored in kinds} == {False, True}
    assert {down for down, *_ in kinds} == set(range(-pad, pad + 1))
    assert {right for _, right, _ in kinds} == set(range(-pad, pad + 1))


def _rows(n: int, height: int, width: int) -> torch.Tensor:
    """Make images whose pixels hold the number of their row, from 1."""
    return torch.arange(1.0, height + 1).view(1, 1, height, 1).repeat(n, 1, 1, width)


def test_about_half_are_mirrored_and_shifts_are_even() -> None:
    columns = _rows(4000, 11, 3).transpose(2, 3)
    mirrored = _augment(columns, pad=0)[:, 0, 0, 0] == 11
    assert 0.46 < float(mirrored.float().mean()) < 0.54
    shifted = _augment(_rows(4000, 11, 5), pad=2)[:, 0, 5, 2]  # row 6 if it were not shifted
    counts = torch.bincount(shifted.long(), minlength=12)
    assert int(counts[4:9].sum()) == 4000
    assert int(counts[4:9].min()) > 700


def test_it_is_a_function_of_the_generator_alone() -> None:
    images = _images()
    before = images.clone()
    torch.manual_seed(1)
    one = _augment(images, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(_augment(images, seed=5), one)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(_augment(images, seed=6), one)
    assert torch.equal(images, before)


def test_the_default_shifts_by_up_to_four() -> None:
    found = _augment(_rows(500, 21, 9))
    assert set(found[:, 0, 10, 4].tolist()) == set(range(7, 16))
