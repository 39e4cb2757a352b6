"""The package, imported once, and what all of this integration needs to know of its Trainer."""

from typing import Any

from cyclr.extras import require

transformers: Any = require(
    "transformers", caller="cyclr.integrations.transformers", extra="transformers"
)


def inner(optimizer: Any) -> Any:
    """Take an optimizer out of Accelerate's wrapper, which has no hooks."""
    return getattr(optimizer, "optimizer", optimizer)
