"""The papers' nets, by the name a grid calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cyclr.errors import InputError, complaint
from cyclr.experiments.nets.caffe import Cifar10Full, Cifar10Quick

NETS: dict[str, Callable[..., nn.Module]] = {
    "cifar10_full": Cifar10Full,
    "cifar10_quick": Cifar10Quick,
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
