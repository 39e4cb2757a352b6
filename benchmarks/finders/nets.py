"""The nets of the finders' tasks: small, of many kinds."""

from __future__ import annotations

import itertools

import torch
from torch import nn


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Make a plain perceptron over flattened inputs."""
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


def normed_mlp(*widths: int) -> nn.Sequential:
    """Make a perceptron with LayerNorm and GELU over flattened inputs."""
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(*widths[-2:]))


def conv(channels: int, classes: int, width: int = 16, *, norm: bool, size: int) -> nn.Sequential:
    """Make three strided convolutions and a linear layer."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate([(channels, width), (width, 2 * width), (2 * width, 4 * width)]):
        kernel, pad = (5, 2) if i == 0 else (3, 1)
        layers.append(nn.Conv2d(a, b, kernel, 2, pad, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm2d(b))
        layers.append(nn.ReLU())
        size = -(-size // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * size * size, classes))


def grouped_conv(channels: int, classes: int, width: int, *, size: int) -> nn.Sequential:
    """Make :func:`conv` with GroupNorm of four groups in place of BatchNorm."""
    layers = list(conv(channels, classes, width, norm=True, size=size))
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            layers[i] = nn.GroupNorm(4, layer.num_features)
    return nn.Sequential(*layers)


class Sine(nn.Module):
    """The sine as activation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return x.sin()


class Window(nn.Module):
    """Symbols of a window, embedded side by side, to the next symbol."""

    def __init__(self, symbols: int, length: int, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, width)
        self.net = mlp(width * length, 128, symbols)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict from ``(batch, length)``."""
        return self.net(self.embed(x))


class Residual(nn.Module):
    """A residual net over 8×8 maps, with BatchNorm."""

    def __init__(self, channels: int, classes: int, width: int = 32, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 4, 4, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify ``(batch, channels, 32, 32)``."""
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(torch.relu(x).mean((2, 3)))


class Patches(nn.Module):
    """A small vision transformer: patches, attention, mean."""

    def __init__(self, channels: int, classes: int, size: int, patch: int, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.place = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify ``(batch, channels, size, size)``."""
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.encoder(tokens).mean(1))


class Recurrent(nn.Module):
    """A recurrent net over symbols, or over the rows of an image."""

    def __init__(self, kind: type[nn.RNNBase], width: int, outputs: int, symbols: int = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, width) if symbols else None
        self.rnn = kind(width if symbols else 8, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict at every symbol, or once after the last row."""
        sequence = self.embed(x) if self.embed is not None else x.flatten(1, 2)
        out, _ = self.rnn(sequence)
        return self.head(out if self.embed is not None else out[:, -1])


class Decoder(nn.Module):
    """A small causal transformer over symbols."""

    def __init__(self, symbols: int, length: int, width: int = 48, *, first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, width)
        self.place = nn.Parameter(0.02 * torch.randn(1, length, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, batch_first=True, norm_first=first
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, symbols)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict the next symbol at every symbol."""
        return self.head(self.encoder(self.embed(x) + self.place, mask=self.mask))
