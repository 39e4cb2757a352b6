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


def separable(channels: int, classes: int, width: int) -> nn.Sequential:
    """Make depthwise and pointwise convolutions with BatchNorm, and a mean over places."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 2, 1)]
    for a, b in [(width, 2 * width), (2 * width, 4 * width)]:
        layers += [nn.Conv2d(a, a, 3, 2, 1, groups=a, bias=False), nn.BatchNorm2d(a), nn.ReLU()]
        layers += [nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes)]
    return nn.Sequential(*layers, *pooled)


def painter(width: int) -> nn.Sequential:
    """Make convolutions that give a grey picture its three colours."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, 3, 3, padding=1),
    )


class Mixer(nn.Module):
    """Perceptrons across patches and across channels in turn, with LayerNorm, two blocks."""

    def __init__(self, channels: int, classes: int, size: int, patch: int, width: int = 48) -> None:
        super().__init__()
        places = (size // patch) ** 2
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.across = nn.ModuleList(self._block(places) for _ in range(2))
        self.within = nn.ModuleList(self._block(width) for _ in range(2))
        self.head = nn.Linear(width, classes)

    @staticmethod
    def _block(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify ``(batch, channels, size, size)``."""
        x = self.embed(x).flatten(2)
        for across, within in zip(self.across, self.within, strict=True):
            x = x + across(x)
            x = x + within(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x.mean(2))


class Causal(nn.Module):
    """Dilated convolutions over symbols that see what came before."""

    def __init__(self, symbols: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, width)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=2 * pace, dilation=pace) for pace in (1, 2, 4)
        )
        self.head = nn.Linear(width, symbols)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict the next symbol at every symbol."""
        x = self.embed(x).transpose(1, 2)
        for layer in self.layers:
            x = x + torch.relu(layer(x)[:, :, : x.shape[2]])
        return self.head(x.transpose(1, 2))


class Variational(nn.Module):
    """A variational autoencoder; gives what it decodes, and mean and log-variance, side by side."""

    def __init__(self, inputs: int, width: int, codes: int) -> None:
        super().__init__()
        self.encode = mlp(inputs, width, 2 * codes)
        self.decode = mlp(codes, width, inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode, draw a code in training, and decode."""
        mean, log_variance = self.encode(x).chunk(2, dim=1)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        code = mean + (0.5 * log_variance).exp() * noise
        return torch.cat([self.decode(code), mean, log_variance], 1)


def evidence(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative evidence bound of :class:`Variational` for a normal of unit variance, per input."""
    width = targets.shape[1]
    mean, log_variance = outputs[:, width:].chunk(2, dim=1)
    error = 0.5 * ((outputs[:, :width] - targets) ** 2).sum(1)
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return (error + divergence).mean() / width
