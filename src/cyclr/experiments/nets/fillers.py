"""Caffe's weight fillers; torch's of the same names count differently.

Source: BVLC/caffe, ``include/caffe/filler.hpp``.
"""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def gaussian(layer: nn.Conv2d | nn.Linear, deviation: float, bias: float = 0.0) -> None:
    """Fill weights from N(0, deviation²), and biases with a constant."""
    layer.weight.normal_(0.0, deviation)
    if layer.bias is not None:
        layer.bias.fill_(bias)


@torch.no_grad()
def xavier(layer: nn.Conv2d | nn.Linear, bias: float = 0.0) -> None:
    """Fill weights uniformly from ±√(3 / fan_in), and biases with a constant."""
    limit = math.sqrt(3.0 / layer.weight[0].numel())
    layer.weight.uniform_(-limit, limit)
    if layer.bias is not None:
        layer.bias.fill_(bias)


def msra(layer: nn.Conv2d | nn.Linear, bias: float = 0.0) -> None:
    """Fill weights from N(0, 2 / fan_in), and biases with a constant."""
    gaussian(layer, math.sqrt(2.0 / layer.weight[0].numel()), bias)


def fill_bn_net(net: nn.Module) -> None:
    """Fill a net as the papers' prototxts do: convolutions msra, the last layer xavier."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            msra(layer)
        elif isinstance(layer, nn.Linear):
            xavier(layer)
