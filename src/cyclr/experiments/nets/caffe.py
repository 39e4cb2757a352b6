"""Caffe's two CIFAR-10 nets and its LeNet, exactly as printed in its examples.

Source: BVLC/caffe, ``examples/cifar10/cifar10_full_train_test.prototxt``,
``cifar10_quick_train_test.prototxt`` and ``examples/mnist/lenet_train_test.prototxt``; the
arithmetic of ``lrn_layer.cpp`` and ``pooling_layer.cpp``. The CIFAR-10 nets take pixels from 0 to
255 minus the training set's mean image, LeNet takes pixels from 0 to 1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from cyclr.experiments.nets.fillers import gaussian, xavier
from cyclr.experiments.nets.lrn import WithinChannelLRN
from cyclr.experiments.nets.rates import Rates


def _max_pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _mean_pool() -> nn.Module:
    """Pool as Caffe does: at the border the mean is over the pixels that are there."""
    return nn.AvgPool2d(3, stride=2, ceil_mode=True)


class Cifar10Full(nn.Sequential):
    """``cifar10_full``: ``(batch, 3, 32, 32)`` to ``(batch, 10)``, 89,578 parameters.

    Attributes:
        rates: What each parameter's rate and weight decay are multiplied by.
    """

    rates: ClassVar[Rates] = {
        "conv1.weight": (1, 1),
        "conv1.bias": (2, 1),
        "conv2.weight": (1, 1),
        "conv2.bias": (2, 1),
        "conv3.weight": (1, 1),
        "conv3.bias": (1, 1),
        "ip1.weight": (1, 250),
        "ip1.bias": (2, 0),
    }

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.pool1 = _max_pool()
        self.relu1 = nn.ReLU()
        self.norm1 = WithinChannelLRN()
        self.conv2 = nn.Conv2d(32, 32, 5, padding=2)
        self.relu2 = nn.ReLU()
        self.pool2 = _mean_pool()
        self.norm2 = WithinChannelLRN()
        self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
        self.relu3 = nn.ReLU()
        self.pool3 = _mean_pool()
        self.flat = nn.Flatten()
        self.ip1 = nn.Linear(1024, 10)
        _gaussian(self, {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "ip1": 0.01})


class Cifar10Quick(nn.Sequential):
    """``cifar10_quick``: ``(batch, 3, 32, 32)`` to ``(batch, 10)``, 145,578 parameters.

    Attributes:
        rates: What each parameter's rate and weight decay are multiplied by.
    """

    rates: ClassVar[Rates] = {
        f"{layer}.{kind}": (factor, 1)
        for layer in ("conv1", "conv2", "conv3", "ip1", "ip2")
        for kind, factor in (("weight", 1), ("bias", 2))
    }

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.pool1 = _max_pool()
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 32, 5, padding=2)
        self.relu2 = nn.ReLU()
        self.pool2 = _mean_pool()
        self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
        self.relu3 = nn.ReLU()
        self.pool3 = _mean_pool()
        self.flat = nn.Flatten()
        self.ip1 = nn.Linear(1024, 64)
        self.ip2 = nn.Linear(64, 10)
        _gaussian(self, {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "ip1": 0.1, "ip2": 0.1})


class LeNet(nn.Sequential):
    """Caffe's LeNet: ``(batch, 1, 28, 28)`` to ``(batch, 10)``, 431,080 parameters.

    Attributes:
        rates: What each parameter's rate and weight decay are multiplied by.
    """

    rates: ClassVar[Rates] = {
        f"{layer}.{kind}": (factor, 1)
        for layer in ("conv1", "conv2", "ip1", "ip2")
        for kind, factor in (("weight", 1), ("bias", 2))
    }

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.flat = nn.Flatten()
        self.ip1 = nn.Linear(800, 500)
        self.relu1 = nn.ReLU()
        self.ip2 = nn.Linear(500, 10)
        for layer in (self.conv1, self.conv2, self.ip1, self.ip2):
            xavier(layer)


def _gaussian(net: nn.Module, deviations: dict[str, float]) -> None:
    """Fill the layers' weights from normal distributions, and their biases with zeros."""
    for name, deviation in deviations.items():
        layer = net.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        gaussian(layer, deviation)
