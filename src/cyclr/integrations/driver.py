"""What integrations share whatever the framework: reading plans, going round data.

Nothing here imports a framework; torch is only looked at where something else has loaded it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cyclr.errors import DataError, InputError, SpecError, complaint
from cyclr.integrations.nonfinite import is_about_values, story
from cyclr.integrations.validation import joined, measured
from cyclr.rangetest import RangeTest
from cyclr.recipe import Recipe
from cyclr.schedules.spec import Schedule


def as_recipe(plan: Any) -> Recipe:
    """Turn a schedule (of the rate) into a recipe; recipes pass through.

    Raises:
        SpecError: It is neither.
    """
    if isinstance(plan, Recipe):
        return plan
    if isinstance(plan, Schedule):
        # The length is only needed where training must end; what follows a plan never ends.
        return Recipe(lr=plan, total_steps=plan.total_steps or 1)
    raise SpecError(
        complaint("plan", "a cyclr schedule or Recipe", plan, "try Triangular(...) or plan(...)")
    )


def essence(data: Mapping[str, Any]) -> dict[str, Any]:
    """Drop from a recipe's data what does not change any value."""
    return {key: value for key, value in data.items() if key not in ("notes", "steps_per_epoch")}


def make_test(
    sweep: Schedule | RangeTest | None,
    steps: int | None,
    *,
    optimizer: Mapping[str, Any] | None,
    batches: Any,
) -> RangeTest:
    """Make the range test that a driver runs, after a look at its data.

    Args:
        sweep: A schedule of the rate, a test to drive, or None for a range that the test finds.
        steps: Without a sweep, how dense its rates are, ≥ 2; 100 if None.
        optimizer: What the sweep is run with, for the record.
        batches: The data.

    Raises:
        InputError: Both sweep and steps are given.
        DataError: The data cannot be gone through again and again.
    """
    if hasattr(batches, "__next__"):
        raise DataError(
            "batches is an iterator, which cannot be put back to where it was; "
            "pass what it was made from, such as the data loader"
        )
    if not hasattr(batches, "__iter__") and not _is_indexed(batches):
        raise DataError(complaint("batches", "re-iterable", batches, "pass a data loader or list"))
    if sweep is not None and steps is not None:
        raise InputError("steps is the length of the default sweep; set it in your sweep instead")
    length = _length(batches)
    test = new_test(sweep) if isinstance(sweep, RangeTest) else RangeTest(sweep, steps=steps)
    test.fill_in(optimizer=optimizer or {}, steps_per_epoch=length, rewinds=True)
    return test


def drive(
    test: RangeTest,
    update: Callable[[float], Mapping[str, Any]],
    on_step: Callable[[RangeTest], None] | None,
    validate: Callable[[], Any] | None = None,
    validate_every: int | None = None,
) -> None:
    """Go through a test once; an update that NaN or infinity prevents ends it, and raises nothing.

    Args:
        test: The test.
        update: Makes an update at a rate and gives its numbers, ``"loss"`` among them.
        on_step: Called after every update.
        validate: Gives metrics by name, before an update.
        validate_every: Updates between validations; None for what the test thinks best.
    """
    for lr in test:
        try:
            metrics = measured(test, validate, validate_every)
            numbers = joined(metrics, update(lr), "the update")
        except Exception as error:
            if test.step == 0 or not is_about_values(error):
                raise
            test.fail(story(test.step, error))
        else:
            test.tell(**numbers)
        if on_step is not None:
            on_step(test)


def new_test(test: RangeTest) -> RangeTest:
    """Give a range test to drive, if it has not been driven yet.

    Raises:
        InputError: It has; its record is of that training.
    """
    if test.has_begun:
        raise InputError(
            f"sweep is a range test that has made {test.step} updates already, of this training or "
            "of another; make a new one"
        )
    return test


def endless(batches: Any) -> Iterator[Any]:
    """Go round and round the data.

    Raises:
        DataError: There is not a single batch.
    """
    while True:
        count = 0
        for batch in batches if hasattr(batches, "__iter__") else _by_index(batches):
            count += 1
            yield batch
        if count == 0:
            raise DataError("batches is empty: there is not a single batch to train on")


def _is_indexed(batches: Any) -> bool:
    """Say whether it is a sequence without iteration, as Keras's PyDataset is."""
    return hasattr(batches, "__getitem__") and hasattr(batches, "__len__")


def _by_index(batches: Any) -> Iterator[Any]:
    return (batches[index] for index in range(len(batches)))


def _length(batches: Any) -> int | None:
    """Count the batches of an epoch, where they can be counted."""
    try:
        return max(1, len(batches))
    except TypeError:  # a generator-like or endless data set
        return None
