"""Lightning itself, under whichever of its two names it is installed."""

from __future__ import annotations

from typing import Any

from cyclr.errors import MissingExtraError
from cyclr.extras import require

_CALLER = "cyclr.integrations.lightning"


def _package() -> Any:
    try:
        return require("lightning.pytorch", caller=_CALLER, extra="lightning")
    except MissingExtraError as missing:
        try:
            return require("pytorch_lightning", caller=_CALLER, extra="lightning")
        except MissingExtraError:
            raise missing from None


pl = _package()
loggers = require(f"{pl.__name__}.loggers.logger", caller=_CALLER, extra="lightning")
