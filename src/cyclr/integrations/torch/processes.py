"""Data-parallel processes: one loss for all, so that all stop at the same step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import distributed


class Processes:
    """The processes of ``torch.distributed``, where there are several; else just this one.

    Args:
        device: Where the model is; what is exchanged goes through it.
    """

    def __init__(self, device: torch.device) -> None:
        running = distributed.is_available() and distributed.is_initialized()
        self.count: int = distributed.get_world_size() if running else 1
        self._device = device

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Average numbers over the processes; NaN in one is NaN in all.

        Every process must give the same names.
        """
        if self.count == 1 or not values:
            return dict(values)
        names = sorted(values)
        # MPS has no float64, and of the others each has.
        dtype = torch.float32 if self._device.type == "mps" else torch.float64
        numbers = torch.tensor([values[name] for name in names], dtype=dtype, device=self._device)
        distributed.all_reduce(numbers)
        return dict(zip(names, (numbers / self.count).tolist(), strict=True))
