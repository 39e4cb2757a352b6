"""Probes: what can be seen of a training at next to no cost, every so many steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cyclr.training.distributed import Processes

_SMOOTHING, _START = 0.1, 0.1  # of the estimate of the optimal rate, as in the paper


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
        self._found: dict[str, torch.Tensor] = {}

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
            self._thetas = [self._flat()]
            squares = [
                _local(p.grad).detach().float().square().sum()
                for p in self._parameters
                if p.grad is not None
            ]
            self._found = {"gradient": torch.stack(squares).sum() / grad_scale**2}

    def after(self) -> dict[str, torch.Tensor] | None:
        """Look after an update; give what was found when that ends a probe, as tensors."""
        if not self._thetas:
            return None
        self._thetas.append(self._flat())
        if len(self._thetas) < 3:
            return None
        first, middle, last = self._thetas
        self._thetas = []
        update = middle - first
        sums = [
            self._found["gradient"],
            update.square().sum(),
            first.square().sum(),
            update.abs().sum(),
            (2 * middle - first - last).abs().sum(),
        ]
        return self._finish(torch.stack(sums))

    def _finish(self, sums: torch.Tensor) -> dict[str, torch.Tensor]:
        if self._processes is not None:
            sums = self._processes.mean(sums) * self._processes.count
        gradient, update, weight, change, bend = sums
        optimal = self._rate * change / bend
        return {
            "grad_norm": gradient.sqrt(),
            "update_ratio": (update / weight).sqrt(),
            "optimal_lr": optimal,
        }

    def smooth(self, optimal_lr: float) -> float:
        """Add an estimate of the optimal rate to the running mean, and give that."""
        # Where the parameters did not bend at all, there is no estimate to add.
        if 0 < optimal_lr < float("inf"):
            self._mean = _SMOOTHING * optimal_lr + (1 - _SMOOTHING) * self._mean
        return self._mean

    def skip(self) -> None:
        """Give up the probe in progress: an update was skipped."""
        self._thetas = []

    def _flat(self) -> torch.Tensor:
        return torch.cat([_local(p).detach().float().flatten() for p in self._parameters])

    def state_dict(self) -> dict[str, Any]:
        """Give the running mean and the probe in progress."""
        return {
            "mean": self._mean,
            "rate": self._rate,
            "thetas": list(self._thetas),
            "found": dict(self._found) if self._thetas else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._mean, self._rate = state["mean"], state["rate"]
        device = self._parameters[0].device
        self._thetas = [theta.to(device) for theta in state["thetas"]]
        self._found = {name: value.to(device) for name, value in state["found"].items()}


def _local(tensor: Any) -> torch.Tensor:
    """Take this process's part of a sharded tensor."""
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part
