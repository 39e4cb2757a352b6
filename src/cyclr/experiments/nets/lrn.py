"""Caffe's two local response normalizations, in float32 and with few temporaries.

Source: BVLC/caffe, ``lrn_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_Mean = Callable[[torch.Tensor], torch.Tensor]


class _Normalize(torch.autograd.Function):
    """``x / (1 + alpha · A(x²))^¾`` with few temporaries, where A is a mean over a window.

    With ``s = 1 + alpha · A(x²)`` and an A that is its own transpose::

        dx = g · s^−¾ − 2 · ¾ · alpha · x · A(g · x · s^−7/4)
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, alpha: float, mean: _Mean) -> torch.Tensor:
        half = mean(x * x).mul_(alpha).add_(1.0).rsqrt_()  # s^−½
        scale = half.sqrt().mul_(half)  # s^−¾
        ctx.save_for_backward(x, half, scale)
        ctx.alpha, ctx.mean = alpha, mean
        return x * scale

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, half, scale = ctx.saved_tensors
        scaled = grads[0] * scale
        spread = ctx.mean((scaled * x).mul_(half).mul_(half)).mul_(x)
        return scaled.sub_(spread, alpha=1.5 * ctx.alpha), None, None


def _over_pixels(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.avg_pool2d(x, 3, stride=1, padding=1)


def _over_channels(x: torch.Tensor) -> torch.Tensor:
    """Mean over five neighbouring channels, by shifted sums (pooling needs one dimension more)."""
    total = x.clone()
    for shift in (1, 2):
        total[:, shift:].add_(x[:, :-shift])
        total[:, :-shift].add_(x[:, shift:])
    return total.mul_(1 / 5)


class _LRN(nn.Module):
    mean: Callable[[torch.Tensor], torch.Tensor]

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize ``(batch, channels, h, w)``."""
        result: torch.Tensor = _Normalize.apply(x.float(), self.alpha, type(self).mean)  # type: ignore[no-untyped-call] # torch has no types here
        return result


class WithinChannelLRN(_LRN):
    """Local response normalization within channels, over a 3×3 window, with beta ¾.

    ::

        y = x / (1 + alpha · mean of x² over the window)^¾

    Zeros outside the image count in the mean, as in Caffe. Computed in float32 whatever the input:
    with Caffe's alpha, bfloat16 would round it all away.

    Args:
        alpha: As in Caffe, where it multiplies the mean (not the sum) of the squares, ≥ 0.
    """

    mean = staticmethod(_over_pixels)

    def __init__(self, alpha: float = 5e-5) -> None:
        super().__init__(alpha)


class AcrossChannelsLRN(_LRN):
    """Local response normalization over five neighbouring channels, with beta ¾.

    ::

        y = x / (1 + alpha · mean of x² over the channels c − 2 to c + 2)^¾

    Channels beyond the first and the last count as zeros. Computed in float32 whatever the input.

    Args:
        alpha: Multiplies the mean of the squares, ≥ 0.
    """

    mean = staticmethod(_over_channels)

    def __init__(self, alpha: float = 1e-4) -> None:
        super().__init__(alpha)
