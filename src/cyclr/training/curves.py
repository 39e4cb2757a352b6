"""The values a recipe gives its updates, looked up."""

from __future__ import annotations

from typing import Any

import numpy as np

from cyclr.recipe import Recipe

_BLOCK = 1024


class Curves:
    """Looks up what a recipe says for a step.

    Steps are evaluated in aligned blocks, as the torch scheduler does: many at once cost little
    more than one, and a step's value does not depend on where a run began.

    Args:
        recipe: What to look up.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._block = -1
        self._values: dict[str, list[Any]] = {}

    def at(self, step: int) -> dict[str, float]:
        """Give every hyper-parameter's value used by update ``step``."""
        block, row = divmod(step, _BLOCK)
        if block != self._block:
            steps = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
            self._values = {
                name: np.asarray(schedule(steps), dtype=np.float64).tolist()
                for name, schedule in self._recipe.schedules.items()
            }
            self._block = block
        return {name: values[row] for name, values in self._values.items()}
