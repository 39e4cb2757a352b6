"""The optimizers of the papers' experiments: Caffe's own, and torch's with Caffe's settings.

Source: BVLC/caffe, ``src/caffe/solvers/*.cpp`` and the defaults of ``caffe.proto``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import InputError, complaint
from cyclr.experiments.nets.rates import parameter_groups


class CaffeSGD(Optimizer):
    """Caffe's SGD: the rate is inside the velocity, so a change of rate acts through the momentum.

    ::

        v ← momentum · v + lr · (gradient + weight_decay · w)
        w ← w − v                                               plain
        w ← w − ((1 + momentum) · v − momentum · v_before)      Nesterov

    With a constant rate this is torch's SGD; torch multiplies the whole velocity by the new rate.

    Args:
        params: Parameters or groups.
        lr: Rate, ≥ 0.
        momentum: In [0, 1).
        weight_decay: L2 coefficient, ≥ 0.
        nesterov: Whether to look ahead.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update of every parameter that has a gradient.

        Args:
            closure: Evaluated first, with gradients, and its result returned.
        """
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for p in weights:
                if "velocity" not in self.state[p]:
                    self.state[p]["velocity"] = torch.zeros_like(p)
            _update(group, weights, [self.state[p]["velocity"] for p in weights])
        return result


def _update(group: Any, weights: list[Any], velocities: list[torch.Tensor]) -> None:
    gradients = [p.grad for p in weights]
    if group["weight_decay"]:
        gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
    before = [v.clone() for v in velocities] if group["nesterov"] else None
    torch._foreach_mul_(velocities, group["momentum"])
    torch._foreach_add_(velocities, gradients, alpha=group["lr"])
    if before is None:
        torch._foreach_sub_(weights, velocities)
    else:
        torch._foreach_sub_(weights, velocities, alpha=1 + group["momentum"])
        torch._foreach_add_(weights, before, alpha=group["momentum"])


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "caffe_sgd": CaffeSGD,
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}
"""By name in a grid; the other keys of its ``optimizer`` table are passed on."""


def make_optimizer(net: nn.Module, settings: Mapping[str, Any]) -> Optimizer:
    """Make an optimizer over a net's parameters, in groups by their multipliers.

    Args:
        net: The net.
        settings: ``kind``, one of :data:`OPTIMIZERS`; ``weight_decay``; and what else it takes.

    Raises:
        InputError: The kind is unknown, or it does not take one of the settings.
    """
    options = dict(settings)
    kind = options.pop("kind", None)
    if kind not in OPTIMIZERS:
        known = "one of " + ", ".join(sorted(OPTIMIZERS))
        raise InputError(complaint("optimizer.kind", known, kind, "pick one"))
    groups = parameter_groups(net, options.pop("weight_decay", 0.0))
    try:
        return OPTIMIZERS[kind](groups, lr=1.0, **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer {kind!r} cannot be made: {error}") from error
