"""Augmentation of whole batches as tensors, drawn from a given generator."""

from __future__ import annotations

import torch


def crop_and_mirror(images: torch.Tensor, generator: torch.Generator, pad: int = 4) -> torch.Tensor:
    """Shift each image by up to ``pad`` pixels, filling with zeros, and mirror every other one.

    Args:
        images: ``(batch, channels, h, w)``, floating point.
        generator: Where the shifts and mirrorings are drawn from.
        pad: Largest shift in each direction, in pixels, ≥ 0.
    """
    n, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    shift = torch.randint(0, 2 * pad + 1, (2, n), generator=generator)
    rows = shift[0].view(n, 1) + torch.arange(height)
    columns = shift[1].view(n, 1) + torch.arange(width)
    mirrored = torch.rand(n, generator=generator) < 0.5
    columns = torch.where(mirrored.view(n, 1), columns.flip(1), columns)
    index = torch.arange(n)
    # Indexing the first, third and fourth axes puts the channels last; view them in their place.
    picked = padded[index.view(n, 1, 1), :, rows.view(n, height, 1), columns.view(n, 1, width)]
    return picked.permute(0, 3, 1, 2)
