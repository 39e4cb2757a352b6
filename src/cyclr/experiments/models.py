"""The nets of the built-in tasks: small, for CPUs."""

from __future__ import annotations

import torch
from torch import nn


class Residual(nn.Module):
    """Two 3×3 convolutions with BatchNorm beside a shortcut, added and rectified.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        stride: Of the first convolution, and of the shortcut.

    Shapes: ``(batch, channels_in, h, w)`` to ``(batch, channels_out, h/stride, w/stride)``.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def small_resnet(channels: int = 3, classes: int = 10, width: int = 32) -> nn.Sequential:
    """Make an eight-layer residual net that halves the resolution in each of three blocks.

    Args:
        channels: Channels of the images.
        classes: Number of outputs.
        width: Channels after the first convolution; doubled by each block.

    Shapes: ``(batch, channels, h, w)`` to ``(batch, classes)``; h and w at least 8.
    """
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Residual(width, 2 * width, stride=2),
        Residual(2 * width, 4 * width, stride=2),
        Residual(4 * width, 8 * width, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


def digits_net() -> nn.Sequential:
    """Make a small convolutional net for 8×8 digits: ``(batch, 1, 8, 8)`` to ``(batch, 10)``."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 10),
    )
