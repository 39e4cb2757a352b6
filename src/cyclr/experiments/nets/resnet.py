"""Residual nets for 32×32 images: the ones of the super-convergence papers, and He et al.'s.

The papers' prototxts give convolutions before BatchNorm a bias, which BatchNorm takes out again; we
leave it out. Caffe's ``moving_average_fraction`` is 1 − torch's ``momentum``.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from cyclr.errors import InputError
from cyclr.experiments.nets.fillers import fill_bn_net, msra
from cyclr.experiments.nets.rates import Rates


def _conv(width_in: int, width_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)


def _blocks(depth: int) -> int:
    """Blocks in each of the three groups of a net of 6n + 2 layers."""
    if depth < 8 or depth % 6 != 2:
        raise InputError(f"net.depth must be 6n + 2, such as 20, 56 or 110, got {depth}")
    return (depth - 2) // 6


def _widen(x: torch.Tensor, more: int) -> torch.Tensor:
    """Append channels of zeros."""
    return nn.functional.pad(x, (0, 0, 0, 0, 0, more)) if more else x


class TopinBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, as in the super-convergence prototxts.

    A block that goes down keeps its input's width in both convolutions, halves the resolution in
    the first, takes the mean over 3×3 with stride 2 as its shortcut, and appends as many channels
    of zeros after the last ReLU.

    Args:
        width: Channels of the input.
        down: Whether to halve the resolution and double the channels.
        momentum: Of BatchNorm.
    """

    def __init__(self, width: int, *, down: bool, momentum: float) -> None:
        super().__init__()
        self.more = width if down else 0
        self.conv1 = _conv(width, width, 2 if down else 1)
        self.norm1 = nn.BatchNorm2d(width, momentum=momentum)
        self.conv2 = _conv(width, width)
        self.norm2 = nn.BatchNorm2d(width, momentum=momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        shortcut = nn.functional.avg_pool2d(x, 3, stride=2, ceil_mode=True) if self.more else x
        return _widen((y + shortcut).relu_(), self.more)


class TopinResNet(nn.Module):
    """ResNet-20, -56 or -110 of the super-convergence papers.

    Args:
        depth: Layers, 6n + 2.
        classes: Number of outputs.
        channels: Channels of the images.
        stem_stride: Stride of the first convolution: 1 as in the prototxt, or 2 as in the paper's
            text.
        bn_momentum: 1 − Caffe's ``moving_average_fraction``: 0.001 for the paper's long runs, 0.05
            for its short ones.

    Shapes: ``(batch, channels, 32, 32)`` to ``(batch, classes)``.

    Source: lnsmith54/super-convergence, ``architectures/``; arXiv 1708.07120.
    """

    rates: ClassVar[Rates] = {"fc.bias": (2, 1)}

    def __init__(
        self,
        depth: int = 56,
        classes: int = 10,
        channels: int = 3,
        stem_stride: int = 1,
        bn_momentum: float = 0.05,
    ) -> None:
        super().__init__()
        n = _blocks(depth)
        self.stem = _conv(channels, 16, stem_stride)
        self.norm = nn.BatchNorm2d(16, momentum=bn_momentum)
        body = [(16, False)] * n
        for width in (16, 32):
            body += [(width, True)] + [(2 * width, False)] * (n - 1)
        self.body = nn.Sequential(
            *(TopinBlock(width, down=down, momentum=bn_momentum) for width, down in body)
        )
        self.fc = nn.Linear(64, classes)
        fill_bn_net(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify images."""
        x = self.body(self.norm(self.stem(x)).relu_())
        result: torch.Tensor = self.fc(x.mean((2, 3)))
        return result


class HeBlock(nn.Module):
    """A basic block with the shortcut without parameters, which may be left out at random.

    Args:
        width_in: Channels of the input.
        width: Channels of the output.
        stride: Of the first convolution.
        survival: Probability that the block is there in a training step; in evaluation its residual
            is multiplied by it. 1 is an ordinary block.
    """

    def __init__(self, width_in: int, width: int, stride: int, survival: float) -> None:
        super().__init__()
        self.stride, self.more, self.survival = stride, width - width_in, survival
        self.conv1 = _conv(width_in, width, stride)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block, or only its shortcut."""
        shortcut = _widen(x[:, :, :: self.stride, :: self.stride], self.more)
        if self.training and self.survival < 1 and float(torch.rand(())) >= self.survival:
            return shortcut.relu()
        y: torch.Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        if not self.training and self.survival < 1:
            y = y * self.survival
        return (y + shortcut).relu_()


class HeResNet(nn.Module):
    """He et al.'s CIFAR ResNet with parameter-free shortcuts, and with stochastic depth.

    Args:
        depth: Layers, 6n + 2.
        classes: Number of outputs.
        channels: Channels of the images.
        survival: Survival probability of the last block; those before fall linearly from 1, as in
            stochastic depth. 1 for an ordinary ResNet, 0.5 in the paper.

    Shapes: ``(batch, channels, 32, 32)`` to ``(batch, classes)``.

    Source: He et al., arXiv 1512.03385, section 4.2; Huang et al., arXiv 1603.09382.
    """

    def __init__(
        self, depth: int = 110, classes: int = 10, channels: int = 3, survival: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 < survival <= 1:
            raise InputError(f"net.survival must be in (0, 1], got {survival}")
        n = _blocks(depth)
        self.stem = _conv(channels, 16)
        self.norm = nn.BatchNorm2d(16)
        sizes = [(16, 16, 1)] * n
        for width in (32, 64):
            sizes += [(width // 2, width, 2)] + [(width, width, 1)] * (n - 1)
        self.body = nn.Sequential(
            *(
                HeBlock(*size, 1 - (i + 1) / len(sizes) * (1 - survival))
                for i, size in enumerate(sizes)
            )
        )
        self.fc = nn.Linear(64, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                msra(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify images."""
        x = self.body(self.norm(self.stem(x)).relu_())
        result: torch.Tensor = self.fc(x.mean((2, 3)))
        return result


class WideBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, without a ReLU after the sum.

    Args:
        width_in: Channels of the input.
        width: Channels of the output.
        down: Whether to halve the resolution; the shortcut is then a 2×2 convolution.
        momentum: Of BatchNorm.
    """

    def __init__(self, width_in: int, width: int, *, down: bool, momentum: float) -> None:
        super().__init__()
        self.conv1 = _conv(width_in, width, 2 if down else 1)
        self.norm1 = nn.BatchNorm2d(width, momentum=momentum)
        self.conv2 = _conv(width, width)
        self.norm2 = nn.BatchNorm2d(width, momentum=momentum)
        self.shortcut = nn.Sequential()
        if down:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width, 2, 2, bias=False),
                nn.BatchNorm2d(width, momentum=momentum),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        result: torch.Tensor = y + self.shortcut(x)
        return result


class WideResNet32(nn.Module):
    """The WRN-32 of Smith's experiments: groups 16, 64 and 256 channels wide, five blocks each.

    Args:
        classes: Number of outputs.
        channels: Channels of the images.
        bn_momentum: 1 − Caffe's ``moving_average_fraction``.

    Shapes: ``(batch, channels, 32, 32)`` to ``(batch, classes)``.

    Source: lnsmith54/hyperParam1, ``Cifar/architectures/wide32cifar.prototxt``.
    """

    rates: ClassVar[Rates] = {"fc.bias": (2, 0)}

    def __init__(self, classes: int = 10, channels: int = 3, bn_momentum: float = 0.1) -> None:
        super().__init__()
        self.stem = _conv(channels, 16)
        self.norm = nn.BatchNorm2d(16, momentum=bn_momentum)
        body, width = [], 16
        for group in (16, 64, 256):
            for i in range(5):
                down = i == 0 and group > 16
                body.append(WideBlock(width, group, down=down, momentum=bn_momentum))
                width = group
        self.body = nn.Sequential(*body)
        self.fc = nn.Linear(256, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                msra(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify images."""
        x = self.body(self.norm(self.stem(x)).relu_())
        result: torch.Tensor = self.fc(x.mean((2, 3)))
        return result
