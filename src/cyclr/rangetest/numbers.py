"""Numbers of other libraries as Python's."""

from __future__ import annotations

from typing import Any

from cyclr.errors import InputError, complaint


def plain(value: Any) -> Any:
    """Turn NumPy's and torch's numbers into Python's, which JSON can hold."""
    return value.item() if hasattr(value, "item") else value


def as_number(name: str, value: Any) -> float:
    """Read one number from a Python number or anything with one element."""
    try:
        # Through item(): torch warns when a tensor that requires a gradient is made a float.
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        remedy = "reduce it to one number first, for example with .mean()"
        raise InputError(complaint(name, "a single number", value, remedy)) from error
