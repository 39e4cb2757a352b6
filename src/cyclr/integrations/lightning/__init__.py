"""Lightning: recipes in ``configure_optimizers`` or a callback, and a range test of any module."""

from cyclr.integrations.lightning.callback import CycleCallback, configuration
from cyclr.integrations.lightning.range_test import range_test

__all__ = ["CycleCallback", "configuration", "range_test"]
