"""Transformers: a recipe in the Trainer, and a range test on the Trainer's own loss and data.

A :class:`~cyclr.integrations.torch.Scheduler` can also be passed as it is:
``Trainer(…, optimizers=(optimizer, Scheduler(optimizer, recipe)))``.
"""

from cyclr.integrations.transformers.callback import CycleCallback
from cyclr.integrations.transformers.range_test import range_test

__all__ = ["CycleCallback", "range_test"]
