"""The rules: pure functions from a record to bounds, one a file."""

from collections.abc import Callable

from cyclr.rangetest.record import RangeRecord
from cyclr.rangetest.rules.accuracy import accuracy
from cyclr.rangetest.rules.basin import basin
from cyclr.rangetest.rules.bounds import Bounds
from cyclr.rangetest.rules.decade import decade
from cyclr.rangetest.rules.edge import edge
from cyclr.rangetest.rules.knee import knee
from cyclr.rangetest.rules.peers import PEER_RULES

RULES: dict[str, Callable[[RangeRecord], Bounds]] = {
    "accuracy": accuracy,
    "basin": basin,
    "decade": decade,
    "edge": edge,
    "knee": knee,
    **PEER_RULES,
}

__all__ = ["RULES", "Bounds", "accuracy", "basin", "decade", "edge", "knee"]
