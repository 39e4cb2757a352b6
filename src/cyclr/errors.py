"""Every exception cyclr raises.

::

    CyclrError
    ├── InputError (ValueError)          the request was wrong: exit code 2
    │   ├── SpecError                    a schedule's or recipe's field
    │   ├── RecordError                  a record, or a file that should be one
    │   ├── TaskError                    a task that cannot be found or built
    │   ├── DataError                    data that cannot be read, or is empty
    │   └── CheckpointError              a checkpoint that is damaged, foreign or does not fit
    ├── StateError (RuntimeError)        calls in an order that has no meaning
    ├── TrainingError (RuntimeError)     the work itself failed: exit code 1
    └── MissingExtraError (ImportError)  an optional dependency is not installed: exit code 2

    KeyboardInterrupt
    └── Interrupted                      training was told to stop, and did: exit code 128 + signal

A message says where, which constraint, which value, and what to do about it.
"""

from __future__ import annotations


class CyclrError(Exception):
    """The root of everything cyclr raises on purpose."""


class InputError(CyclrError, ValueError):
    """The request was wrong; nothing was started."""


class SpecError(InputError):
    """A field of a schedule or a recipe breaks its constraint."""


class RecordError(InputError):
    """A range test's record cannot be read, or does not hold what a rule needs."""


class TaskError(InputError):
    """A task cannot be found, imported or built."""


class DataError(InputError):
    """Data cannot be read, or holds nothing to train on."""


class CheckpointError(InputError):
    """A checkpoint, or the run it belongs to, cannot be gone on from."""


class StateError(CyclrError, RuntimeError):
    """A call came in an order that has no meaning, such as telling before asking."""


class TrainingError(CyclrError, RuntimeError):
    """The work started and failed, for example with a loss that is NaN from the first step."""


class MissingExtraError(CyclrError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, caller: str, package: str, extra: str) -> None:
        super().__init__(
            f"{caller} needs {package}, which is not installed; run: pip install 'cyclr[{extra}]'"
        )


class Interrupted(KeyboardInterrupt):
    """Training was told to stop by a signal; it finished its update and kept what it had.

    Attributes:
        signal: The signal's number.
        step: Updates made.
    """

    def __init__(self, message: str, *, signal: int, step: int) -> None:
        super().__init__(message)
        self.signal, self.step = signal, step


_LONGEST = 120  # characters of a value in a message: the rest would bury the sentence


def complaint(where: str, constraint: str, value: object, remedy: str) -> str:
    """Word a complaint about a value: where, what it must be, what it is, what to do."""
    shown = repr(value)
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST - 2]} …"
    return f"{where} must be {constraint}, got {shown}; {remedy}"
