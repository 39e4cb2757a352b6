"""What NaN and infinity bring besides a loss: exceptions of code that checks, and warnings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import torch

from cyclr.integrations.nonfinite import is_about_values

_HUGE = 1e9  # of a weight: products of a few such overflow float32


def blames_values(error: Exception, models: Iterable[torch.nn.Module]) -> bool:
    """Say whether an exception is about values that are not finite, rather than a mistake in code.

    It is when it says so (its type is one of arithmetic's, or its words name NaN, infinity or
    divergence), and when trained parameters of the models or their gradients are no longer finite,
    or parameters above 1e9. A KeyError, TypeError and the like is a mistake in any case.
    """
    # torch's own type, public though not in its __all__.
    if isinstance(error, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return True
    told = is_about_values(error)
    if told is not None:
        return told
    return any(
        not _sane(tensor, limit)
        for model in models
        for parameter in model.parameters()
        if parameter.requires_grad
        for tensor, limit in ((parameter.detach(), _HUGE), (parameter.grad, math.inf))
        if tensor is not None
    )


def _sane(tensor: torch.Tensor, limit: float) -> bool:
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    return bool((values.abs() < limit).all())  # NaN is not less than anything


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Show a warning from a place in the code once, however often its text changes.

    An exploding model may give one with every step, with another number in it each time. The
    warnings module's own filters and what it remembers stay untouched.
    """
    shown: set[tuple[Any, ...]] = set()
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        place = (category, filename, lineno)
        if place not in shown:
            shown.add(place)
            before(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
