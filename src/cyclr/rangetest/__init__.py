"""The learning rate range test: sweep, record, reading."""

from cyclr.rangetest.reading import Reading
from cyclr.rangetest.record import Outcome, RangeRecord, Series
from cyclr.rangetest.repeats import combine
from cyclr.rangetest.sweep import RangeTest

__all__ = ["Outcome", "RangeRecord", "RangeTest", "Reading", "Series", "combine"]
