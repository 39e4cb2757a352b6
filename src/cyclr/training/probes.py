"""Probes: what can be seen of a training at next to no cost, every so many steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from cyclr.training.distributed import Processes

_SMOOTHING, _START = 0.1, 0.1  # of the estimate of the optimal rate, as in the paper


class Seen(NamedTuple):
    """What a probe saw, still on the device.

    Attributes:
        sums: Over all parameters: the gradient's, the update's and the weights' squares, and the
            two sums of the estimate.
        rate: The rate of the probe's first update.
    """

    sums: torch.Tensor
    rate: float


class Probes:
    """Gradient norm, update-to-weight ratio and Smith & Topin's estimate of the optimal rate.

    With θ the parameters before the updates i, i+1 and after both, and ε the rate of update i::

        grad_norm        = ‖∇L(θ_i)‖                            before clipping
        update_ratio     = ‖θ_{i+1} − θ_i‖ / ‖θ_i‖
        optimal_lr       = ε · Σ|θ_{i+1} − θ_i| / Σ|2 θ_{i+1} − θ_i − θ_{i+2}|
        optimal_lr_mean ← 0.1 · optimal_lr + 0.9 · optimal_lr_mean,   0.1 at first

    The sums go over all trainable parameters, not over buffers. On a quadratic loss with the same
    curvature h in all directions, under plain gradient descent, ``optimal_lr`` is 1/h, the rate
    that reaches the minimum in one step. Momentum, weight decay and batch noise blur it.

    Args:
        parameters: The parameters to watch; those without gradients are left out.
        every: Steps between the first updates of two probes, ≥ 3.
        processes: Among whom the parameters are sharded, if they are.

    Reference: arXiv 1708.07120 (version of ICLR 2018), equations 7 and 8.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], every: int, processes: Processes | None = None
    ) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        self._every = every
        self._processes = processes
        self._mean = _START
        self._rate = 0.0
        self._thetas: list[torch.Tensor] = []
        self._gradient: torch.Tensor | None = None

    def due(self, step: int) -> bool:
        """Whether the updates from ``step`` on are to be watched, or are being watched."""
        return step % self._every == 0 or bool(self._thetas)

    def before(self, step: int, lr: float, grad_scale: float = 1.0) -> None:
        """Look at parameters and gradients before update ``step``, when it begins a probe.

        Args:
            step: The update about to be made.
            lr: The rate it uses.
            grad_scale: What a gradient scaler has multiplied the gradients by.
        """
        if step % self._every == 0:
            self._rate = lr
            self._thetas = [_flat(self._parameters)]
            gradient = _flat([p.grad for p in self._parameters if p.grad is not None])
            self._gradient = gradient.dot(gradient) / grad_scale**2

    def after(self) -> Seen | None:
        """Look after an update; give what was seen when that ends a probe."""
        if not self._thetas:
            return None
        self._thetas.append(_flat(self._parameters))
        if len(self._thetas) < 3:
            return None
        first, middle, last = self._thetas
        assert self._gradient is not None
        update = middle - first
        bend = update - (last - middle)
        sums = [self._gradient, update.dot(update), first.dot(first)]
        sums += [torch.linalg.vector_norm(part, 1) for part in (update, bend)]
        self._thetas, self._gradient = [], None
        return Seen(torch.stack(sums), self._rate)

    def read(self, seen: Seen) -> dict[str, float]:
        """Turn what a probe saw into its figures, and add to the running mean."""
        sums = seen.sums
        if self._processes is not None:
            sums = self._processes.mean(sums) * self._processes.count
        gradient, update, weight, change, bend = sums.tolist()
        optimal = seen.rate * change / bend if bend > 0 else math.inf
        return {
            "grad_norm": math.sqrt(gradient),
            "update_ratio": math.sqrt(update / weight) if weight > 0 else math.inf,
            "optimal_lr": optimal,
            "optimal_lr_mean": self._smooth(optimal),
        }

    def _smooth(self, optimal_lr: float) -> float:
        # Where the parameters did not move, or did not bend at all, there is no estimate to add.
        if 0 < optimal_lr < math.inf:
            self._mean = _SMOOTHING * optimal_lr + (1 - _SMOOTHING) * self._mean
        return self._mean

    def skip(self) -> None:
        """Give up the probe in progress: an update was skipped."""
        self._thetas, self._gradient = [], None

    def state_dict(self) -> dict[str, Any]:
        """Give the running mean and the probe in progress."""
        return {
            "mean": self._mean,
            "rate": self._rate,
            "thetas": list(self._thetas),
            "gradient": self._gradient,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._mean, self._rate = state["mean"], state["rate"]
        device = self._parameters[0].device
        self._thetas = [theta.to(device) for theta in state["thetas"]]
        gradient = state["gradient"]
        self._gradient = None if gradient is None else gradient.to(device)


@torch.no_grad()
def _flat(tensors: Iterable[Any]) -> torch.Tensor:
    """Put tensors, or this process's parts of them, into one vector."""
    return torch.cat([_local(tensor).reshape(-1) for tensor in tensors]).float()


def _local(tensor: Any) -> torch.Tensor:
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part.coalesce().values() if part.is_sparse else part  # an embedding's gradient
