"""DenseNet-40 with growth 12: three blocks of twelve layers, no bottlenecks."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from cyclr.errors import InputError
from cyclr.experiments.nets.fillers import fill_bn_net
from cyclr.experiments.nets.rates import Rates


class _Layer(nn.Sequential):
    """BatchNorm, ReLU, convolution, dropout."""

    def __init__(self, width: int, out: int, kernel: int, dropout: float, momentum: float) -> None:
        super().__init__(
            nn.BatchNorm2d(width, momentum=momentum),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out, kernel, padding=kernel // 2, bias=False),
            nn.Dropout(dropout) if dropout else nn.Identity(),
        )


class _Dense(_Layer):
    """A layer whose input goes on beside its output."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Append the layer's output to its input's channels."""
        return torch.cat([super().forward(x), x], dim=1)  # type: ignore[no-untyped-call]


class DenseNet40(nn.Module):
    """DenseNet, k = 12, for 32×32 images.

    Args:
        depth: Layers, 3n + 4.
        growth: Channels each layer adds.
        classes: Number of outputs.
        channels: Channels of the images.
        dropout: After every convolution but the first, in [0, 1); 0.2 without augmentation.
        bn_momentum: Of BatchNorm.

    Shapes: ``(batch, channels, h, w)`` to ``(batch, classes)``; h and w multiples of 4.

    Source: Huang et al., arXiv 1608.06993; lnsmith54/hyperParam1,
    ``Cifar/architectures/genDensenet40.prototxt``.
    """

    rates: ClassVar[Rates] = {"fc.bias": (2, 1)}

    def __init__(
        self,
        depth: int = 40,
        growth: int = 12,
        classes: int = 10,
        channels: int = 3,
        dropout: float = 0.2,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if depth < 7 or depth % 3 != 1:
            raise InputError(f"net.depth must be 3n + 4, such as 40, got {depth}")
        width = 16
        body: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        for group in range(3):
            if group:
                body += [_Layer(width, width, 1, dropout, bn_momentum), nn.AvgPool2d(2)]
            for _ in range((depth - 4) // 3):
                body.append(_Dense(width, growth, 3, dropout, bn_momentum))
                width += growth
        self.body = nn.Sequential(*body)
        self.norm = nn.BatchNorm2d(width, momentum=bn_momentum)
        self.fc = nn.Linear(width, classes)
        fill_bn_net(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify images."""
        x = torch.relu(self.norm(self.body(x)))
        result: torch.Tensor = self.fc(x.mean((2, 3)))
        return result
