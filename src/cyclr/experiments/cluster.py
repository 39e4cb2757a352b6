"""A Ray cluster to run on."""

from __future__ import annotations

from typing import Any

from cyclr.extras import require


def connect(address: str) -> Any:
    """Join a Ray cluster, unless this process has joined one.

    Args:
        address: Of the cluster; ``"auto"`` to find it, ``"local"`` for one of its own.

    Returns:
        The module ``ray``.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray = require("ray", caller="--ray", extra="ray")
    if not ray.is_initialized():
        ray.init(address=address, logging_level="warning", log_to_driver=True)
    return ray
