"""What a user measures in a sweep besides the loss: when that is done, and what it must give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cyclr.errors import InputError, complaint
from cyclr.integrations.host import host_random
from cyclr.rangetest import RangeTest
from cyclr.rangetest.numbers import as_number
from cyclr.schedules.fields import Constraint


def check_validation(validate: Any, validate_every: Any) -> None:
    """Refuse a validation that cannot be called, or is never made.

    Raises:
        InputError: validate is no function, or validate_every breaks its bound or is alone.
    """
    check_callable("validate", validate)
    Constraint(kind="integer", ge=1, optional=True).check("validate_every", validate_every)
    if validate is None and validate_every is not None:
        raise InputError("validate_every needs validate; pass the function that measures")


def check_callable(name: str, value: Any) -> None:
    """Refuse what cannot be called.

    Raises:
        InputError: It is there, and cannot.
    """
    if value is not None and not callable(value):
        raise InputError(complaint(name, "a function", value, "pass one, or leave it out"))


def measured(
    test: RangeTest, validate: Callable[[], Any] | None, every: int | None
) -> dict[str, float]:
    """Validate before an update, if it is time.

    Not on the way back; and of a scout once, so that what is wrong with it shows at once. Random
    numbers of Python, NumPy and torch that it draws are put back: without it, the sweep is the
    same.

    Args:
        test: A test whose rate for the update has been asked for.
        validate: Gives metrics by name; None for none.
        every: Updates between validations, ≥ 1; None for what the test thinks best.

    Raises:
        InputError: What it gives is not a mapping of numbers, or has one named ``loss``.
    """
    elsewhere = test.on_way_back or (test.is_scouting and test.step > 0)
    if validate is None or elsewhere or test.step % (every or test.validate_every):
        return {}
    with host_random():
        found = validate()
    if not isinstance(found, Mapping):
        form = 'a mapping of metrics, such as {"val_accuracy": 0.9}'
        raise InputError(complaint("what validate gave", form, found, "name the number"))
    if "loss" in found:
        raise InputError(
            'validate gave a metric named "loss", which is the training loss; name it val_loss'
        )
    return {name: as_number(name, value) for name, value in found.items()}


def joined(
    metrics: Mapping[str, float], told: Mapping[str, Any], what: str = "train_step"
) -> dict[str, Any]:
    """Put what was measured and what an update told side by side.

    Raises:
        InputError: Both have a number of the same name.
    """
    if twice := sorted(set(metrics) & set(told)):
        raise InputError(
            f"{what} and validate both gave {twice[0]!r}; name the validation's otherwise, such as "
            f"val_{twice[0]}"
        )
    return {**metrics, **told}
