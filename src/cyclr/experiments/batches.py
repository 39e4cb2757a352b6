"""Batches of in-memory images, each a function of the step alone: nothing to save, exact resume."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cyclr.experiments.augment import crop_and_mirror
from cyclr.experiments.data import Images

Prepare = Callable[[torch.Tensor], torch.Tensor]


def seeded(seed: int, stream: int, index: int) -> torch.Generator:
    """Make the generator of one draw: streams and indices of one seed do not share numbers."""
    mixed = (seed * 1_000_003 + stream) * 2_000_000_011 + index
    return torch.Generator().manual_seed(mixed % (2**63 - 1))


class Batches:
    """Batch k of a training set read over and over, prepared and augmented.

    Args:
        data: The training images.
        size: Examples in a batch, ≥ 1.
        order: ``"fixed"`` or ``"shuffled"``, see :class:`~cyclr.experiments.runspec.RunSpec`.
        augment: ``"none"``, ``"mirror"`` or ``"crop_mirror"``.
        seed: Of the permutations and the augmentation.
        prepare: From bytes to the net's input.
    """

    def __init__(
        self, data: Images, *, size: int, order: str, augment: str, seed: int, prepare: Prepare
    ) -> None:
        self._data, self._size, self._order = data, size, order
        self._augment, self._seed, self._prepare = augment, seed, prepare
        self._orders: dict[int, torch.Tensor] = {}

    def indices(self, step: int) -> torch.Tensor:
        """Say which examples batch ``step`` holds."""
        n = len(self._data.labels)
        positions = torch.arange(step * self._size, (step + 1) * self._size)
        if self._order == "fixed":
            return positions % n
        pieces = [
            self._permutation(epoch)[positions[positions // n == epoch] % n]
            for epoch in range(int(positions[0]) // n, int(positions[-1]) // n + 1)
        ]
        return torch.cat(pieces)

    def _permutation(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            n = len(self._data.labels)
            drawn = torch.randperm(n, generator=seeded(self._seed, 1, epoch))
            last = self._orders.get(epoch - 1)
            self._orders = {epoch: drawn} if last is None else {epoch - 1: last, epoch: drawn}
        return self._orders[epoch]

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give batch ``step``: inputs ready for the net, and labels."""
        index = self.indices(step)
        inputs = self._prepare(self._data.images[index])
        if self._augment != "none":
            generator = seeded(self._seed, 2, step)
            if self._augment == "mirror":
                inputs = mirror(inputs, generator)
            else:
                inputs = crop_and_mirror(inputs, generator)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs, self._data.labels[index]


def mirror(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror every other image, left to right, drawn from the generator."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def make_prepare(kind: str, images: torch.Tensor) -> Prepare:
    """Make the function from bytes to a net's input.

    Args:
        kind: See :class:`~cyclr.experiments.runspec.RunSpec`.
        images: The training images that means are taken of, in bytes.
    """
    if kind == "unit":
        return lambda batch: batch.float().div_(255.0)
    if kind == "channel":
        mean, deviation = _channels(images)
        return lambda batch: batch.float().sub_(mean).div_(deviation)
    total = torch.zeros(images.shape[1:], dtype=torch.float64)
    for piece in torch.split(images, 5000):
        total += piece.sum(0, dtype=torch.int64)
    center = (total / len(images)).float().unsqueeze(0)
    center = center.contiguous(memory_format=torch.channels_last)
    scale = 255.0 if kind == "pixel_mean_unit" else 1.0
    return lambda batch: batch.float().sub_(center).div_(scale)


def _channels(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every channel, as ``(1, channels, 1, 1)``."""
    shape = (1, images.shape[1], 1, 1)
    count = images.numel() // images.shape[1]
    mean, square = torch.zeros(2, images.shape[1], dtype=torch.float64)
    for piece in torch.split(images, 1000):
        numbers = piece.double()
        mean += numbers.sum((0, 2, 3)) / count
        square += numbers.square().sum((0, 2, 3)) / count
    deviation = (square - mean.square()).sqrt().clamp_min(1e-6)
    return mean.float().view(shape), deviation.float().view(shape)
