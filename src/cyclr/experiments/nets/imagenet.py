"""Caffe's AlexNet and GoogLeNet, for 224×224 images and, with a smaller stem, for 64×64.

Both can be made narrower, for machines that the whole net is too much for.

Source: BVLC/caffe, ``models/bvlc_alexnet/train_val.prototxt`` and
``models/bvlc_googlenet/train_val.prototxt``.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from cyclr.errors import InputError
from cyclr.experiments.nets.fillers import gaussian, xavier
from cyclr.experiments.nets.lrn import AcrossChannelsLRN
from cyclr.experiments.nets.rates import Rates

_SIZES = (64, 224)


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _check(size: int, width: float) -> None:
    if size not in _SIZES:
        raise InputError(f"net.size must be 64 or 224, got {size}")
    if not 0 < width <= 1:
        raise InputError(f"net.width must be in (0, 1], got {width}")


def _narrowed(units: int, width: float) -> int:
    """Take a share of a layer's units, an even number so that it still splits into two groups."""
    return 2 * max(1, round(units * width / 2))


class AlexNet(nn.Module):
    """AlexNet: ``(batch, 3, size, size)`` to ``(batch, classes)``.

    At 224 it is Caffe's net (which takes 227×227; pooling meets the same 6×6 from 224), with
    60,965,224 parameters for 1000 classes. At 64 the first convolution is 5×5 with stride 2, and
    the rest is the same but for fc6, which sees 4×4 instead of 6×6.

    Args:
        size: 224 or 64.
        classes: Number of outputs.
        hidden: Units of fc6 and fc7, 4096 in Caffe's net.
        width: Share of the convolutions' channels, in (0, 1].

    With fewer units the first weights of the layers that read them are larger, by the square root
    of how many times fewer, so that their sums start at the size they have in the whole net.
    """

    def __init__(
        self, size: int = 224, classes: int = 1000, hidden: int = 4096, width: float = 1.0
    ) -> None:
        super().__init__()
        _check(size, width)
        stem = (11, 4, 0) if size == 224 else (5, 2, 2)
        first, second, inner = (_narrowed(units, width) for units in (96, 256, 384))
        self.conv1 = nn.Conv2d(3, first, stem[0], stem[1], padding=stem[2])
        self.conv2 = nn.Conv2d(first, second, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(second, inner, 3, padding=1)
        self.conv4 = nn.Conv2d(inner, inner, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(inner, second, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(second * (36 if size == 224 else 16), hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, classes)
        self.pool, self.norm = _pool(), AcrossChannelsLRN()
        self.drop = nn.Dropout(0.5)
        fewer, fewer_hidden = (1 / width) ** 0.5, (4096 / hidden) ** 0.5
        gaussian(self.conv1, 0.01)
        gaussian(self.conv3, 0.01 * fewer)
        gaussian(self.fc8, 0.01 * fewer_hidden)
        for layer in (self.conv2, self.conv4, self.conv5):
            gaussian(layer, 0.01 * fewer, bias=0.1)
        gaussian(self.fc6, 0.005 * fewer, bias=0.1)
        gaussian(self.fc7, 0.005 * fewer_hidden, bias=0.1)
        self.rates: Rates = _double_biases(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify images."""
        x = self.pool(self.norm(self.conv1(x).relu_()))
        x = self.pool(self.norm(self.conv2(x).relu_()))
        x = self.conv4(self.conv3(x).relu_()).relu_()
        x = self.pool(self.conv5(x).relu_()).flatten(1)
        x = self.drop(self.fc6(x).relu_())
        x = self.drop(self.fc7(x).relu_())
        result: torch.Tensor = self.fc8(x)
        return result


class _Conv(nn.Sequential):
    """A convolution with a bias of 0.2, and ReLU."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2)
        xavier(conv, bias=0.2)
        super().__init__(conv, nn.ReLU(inplace=True))


class Inception(nn.Module):
    """Four branches side by side: 1×1, 3×3, 5×5 and pooled.

    Args:
        channels: Channels of the input.
        sizes: Channels of the 1×1, the 3×3's reduction, the 3×3, the 5×5's reduction, the 5×5 and
            the pooled branch.
    """

    def __init__(self, channels: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = sizes
        self.out = one + three + five + pooled
        self.branches = nn.ModuleList(
            [
                _Conv(channels, one, 1),
                nn.Sequential(_Conv(channels, reduce3, 1), _Conv(reduce3, three, 3)),
                nn.Sequential(_Conv(channels, reduce5, 1), _Conv(reduce5, five, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, padding=1), _Conv(channels, pooled, 1)),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Concatenate the branches' channels."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class _Auxiliary(nn.Sequential):
    """A classifier half-way, whose loss counts 0.3; only there in training."""

    def __init__(self, channels: int, classes: int, pool: nn.Module, width: float) -> None:
        reduced, units = _narrowed(128, width), _narrowed(1024, width)
        hidden, last = nn.Linear(16 * reduced, units), nn.Linear(units, classes)
        xavier(hidden, bias=0.2)
        xavier(last)
        super().__init__(
            pool,
            _Conv(channels, reduced, 1),
            nn.Flatten(),
            hidden,
            nn.ReLU(inplace=True),
            nn.Dropout(0.7),
            last,
        )


class GoogLeNet(nn.Module):
    """GoogLeNet: ``(batch, 3, size, size)`` to ``(batch, classes)``.

    At 224 it is Caffe's net, with 13,378,280 parameters for 1000 classes, two auxiliary classifiers
    included. At 64 the feature maps are 8×8 where they were 28×28, then 4×4 and 2×2, and the
    auxiliary classifiers see their 4×4 without pooling.

    In training it returns ``[(outputs, weight of the loss), …]``, the last classifier first.

    Args:
        size: 224 or 64.
        classes: Number of outputs.
        width: Share of every layer's units, in (0, 1].
    """

    BLOCKS: ClassVar[dict[str, tuple[int, ...]]] = {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }

    def __init__(self, size: int = 224, classes: int = 1000, width: float = 1.0) -> None:
        super().__init__()
        _check(size, width)
        stem, channels = _narrowed(64, width), _narrowed(192, width)
        self.stem = nn.Sequential(
            _Conv(3, stem, 7, 2),
            _pool(),
            AcrossChannelsLRN(),
            _Conv(stem, stem, 1),
            _Conv(stem, channels, 3),
            AcrossChannelsLRN(),
            _pool(),
        )
        self.blocks, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for name, sizes in self.BLOCKS.items():
            block = Inception(channels, tuple(_narrowed(units, width) for units in sizes))
            self.blocks[name], channels = block, block.out
            if name in ("4a", "4d"):
                pool = nn.AvgPool2d(5, 3) if size == 224 else nn.Identity()
                self.heads[name] = _Auxiliary(channels, classes, pool, width)
        self.pool = _pool()
        self.drop = nn.Dropout(0.4)
        self.fc = nn.Linear(channels, classes)
        xavier(self.fc)
        self.rates: Rates = _double_biases(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[tuple[torch.Tensor, float]]:
        """Classify images."""
        x = self.stem(x)
        heads: list[tuple[torch.Tensor, float]] = []
        for name, block in self.blocks.items():
            if name in ("4a", "5a"):
                x = self.pool(x)
            x = block(x)
            if self.training and name in self.heads:
                heads.append((self.heads[name](x), 0.3))
        result: torch.Tensor = self.fc(self.drop(x.mean((2, 3))))
        return [(result, 1.0), *heads] if self.training else result


def _double_biases(net: nn.Module) -> Rates:
    """Biases learn at twice the rate, and do not decay."""
    return {name: (2, 0) for name, _ in net.named_parameters() if name.endswith("bias")}
