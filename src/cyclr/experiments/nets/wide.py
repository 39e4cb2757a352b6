"""Wide residual nets as SGDR trains them: WRN-28-10 and its relatives."""

from __future__ import annotations

import torch
from torch import nn

from cyclr.errors import InputError
from cyclr.experiments.nets.fillers import fill_bn_net


class _PreActivated(nn.Module):
    """BatchNorm and ReLU before each of two 3×3 convolutions, beside a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = None
        if width_in != width:
            self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        active = self.norm1(x).relu()
        y = self.conv2(self.norm2(self.conv1(active)).relu())
        result: torch.Tensor = y + (x if self.shortcut is None else self.shortcut(active))
        return result


class WideResNet(nn.Module):
    """WRN-depth-widen for 32×32 images: 36,479,194 parameters as WRN-28-10 with ten classes.

    Args:
        depth: Layers, 6n + 4.
        widen: How many times 16, 32 and 64 channels the three groups have, ≥ 1.
        classes: Number of outputs.
        channels: Channels of the images.

    Shapes: ``(batch, channels, h, w)`` to ``(batch, classes)``.

    Source: Zagoruyko & Komodakis, arXiv 1605.07146; loshchil/SGDR.
    """

    def __init__(
        self, depth: int = 28, widen: int = 10, classes: int = 10, channels: int = 3
    ) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise InputError(f"net.depth must be 6n + 4, such as 28, got {depth}")
        body: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False)]
        width = 16
        for group, stride in ((16, 1), (32, 2), (64, 2)):
            for i in range((depth - 4) // 6):
                body.append(_PreActivated(width, group * widen, stride if i == 0 else 1))
                width = group * widen
        self.body = nn.Sequential(*body)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)
        fill_bn_net(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify images."""
        x = self.norm(self.body(x)).relu_()
        result: torch.Tensor = self.fc(x.mean((2, 3)))
        return result
