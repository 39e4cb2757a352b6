"""Exceptions about NaN and infinity, told from mistakes in code, whatever the framework."""

from __future__ import annotations

import re

import numpy as np

from cyclr.errors import InputError

# Errors of arithmetic itself: numpy's with errstate, math's, JAX's, and decompositions of what
# blew up.
_ARITHMETIC: tuple[type[Exception], ...] = (
    FloatingPointError,
    OverflowError,
    np.linalg.LinAlgError,
)
_WORDS = re.compile(
    r"\b(nans?|infs?|infinity|non-?finite|not finite)\b"
    r"|\binvalid (values|value encountered)\b"
    r"|explode|diverge",
    re.I,
)
# Of code, whatever the values are.
_MISTAKES = (KeyError, AttributeError, NameError, TypeError, ImportError, InputError)
# torch's own words for a scaler that saw no gradient, which is a mistake and no overflow.
_NOT = re.compile(r"no inf checks were recorded", re.I)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # a terminal's, which Keras writes into its errors


def is_about_values(error: Exception) -> bool | None:
    """Say whether an exception tells that it is about values that are not finite.

    Returns:
        True when its type is one of arithmetic's or its words name NaN, infinity or divergence;
        False when it is a mistake in any case, as a KeyError or TypeError is; None when it does not
        tell.
    """
    if isinstance(error, _ARITHMETIC):
        return True
    if isinstance(error, _MISTAKES) or _NOT.search(str(error)):
        return False
    return True if _WORDS.search(str(error)) else None


def story(step: int, error: Exception) -> str:
    """Word what ended a sweep, for its record's notes."""
    words = " ".join(_COLOURS.sub("", str(error)).split())
    return (
        f"Step {step} raised {type(error).__name__} ({words[:200]}), taken as a sign of values "
        "that are not finite; the sweep ended there."
    )
