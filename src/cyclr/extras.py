"""Optional dependencies: imported where they are used, with an error that says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from cyclr.errors import MissingExtraError


def require(module: str, *, caller: str, extra: str) -> Any:
    """Import an optional module.

    Args:
        module: What to import, such as ``matplotlib.pyplot``.
        caller: What needs it, for the error.
        extra: The extra of the cyclr package that installs it.

    Raises:
        MissingExtraError: The module is not installed; names the caller and the pip command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != top:
            raise  # the module is there, and something it needs itself is not
        raise MissingExtraError(caller, top, extra) from error
