"""How losses and metrics are shown."""

import math

import pytest

from cyclr.figures import show


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0000"),
        (0.98765, "0.9877"),
        (-2.5, "-2.5000"),
        (1e-3, "0.0010"),
        (9.99e-4, "0.000999"),
        (1.7123e-7, "1.712e-07"),
        (9999.0, "9999.0000"),
        (6510044672.0, "6.51e+09"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_small_and_large_numbers_keep_their_digits(value: float, shown: str) -> None:
    assert show(value) == shown
