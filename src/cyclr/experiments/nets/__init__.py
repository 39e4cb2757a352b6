"""The papers' nets, by the name a grid calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cyclr.errors import InputError, complaint
from cyclr.experiments.nets.caffe import Cifar10Full, Cifar10Quick, LeNet
from cyclr.experiments.nets.densenet import DenseNet40
from cyclr.experiments.nets.imagenet import AlexNet, GoogLeNet
from cyclr.experiments.nets.resnet import HeResNet, TopinResNet, WideResNet32
from cyclr.experiments.nets.wide import WideResNet

NETS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    "cifar10_full": Cifar10Full,  # also the "3-layer net" of arXiv 1803.09820
    "cifar10_quick": Cifar10Quick,
    "densenet40": DenseNet40,
    "googlenet": GoogLeNet,
    "he_resnet": HeResNet,  # with survival < 1: stochastic depth
    "lenet": LeNet,
    "resnet": TopinResNet,
    "wrn": WideResNet,
    "wrn32": WideResNet32,
}
"""By name in a grid; the other keys of its ``net`` table are passed on."""


def make_net(settings: Mapping[str, Any]) -> nn.Module:
    """Make a net from torch's random generator.

    Args:
        settings: ``kind``, one of :data:`NETS`, and what that net takes.

    Raises:
        InputError: The kind is unknown, or it does not take one of the settings.
    """
    options = dict(settings)
    kind = options.pop("kind", None)
    if kind not in NETS:
        known = "one of " + ", ".join(sorted(NETS))
        raise InputError(complaint("net.kind", known, kind, "pick one"))
    try:
        return NETS[kind](**options)
    except TypeError as error:
        raise InputError(f"net {kind!r} cannot be made: {error}") from error


__all__ = ["NETS", "make_net"]
