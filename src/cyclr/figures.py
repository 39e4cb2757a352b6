"""How losses and metrics are shown to a reader."""

from __future__ import annotations


def show(value: float) -> str:
    """Show a loss or metric: four digits after the point, or four digits where those say nothing.

    >>> show(0.98765), show(12.0), show(1.7123e-7), show(6510044672.0)
    ('0.9877', '12.0000', '1.712e-07', '6.51e+09')
    """
    plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{value:.4f}" if plain else f"{value:.4g}"
