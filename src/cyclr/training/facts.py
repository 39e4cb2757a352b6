"""What can be seen of a task from outside, to notice that a run is gone on with another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from cyclr.integrations.torch.groups import ratios, wrapped
from cyclr.recipe import Recipe
from cyclr.training.assembly import Work

_PLAIN = (bool, int, float, str)


def facts_of(work: Work) -> dict[str, Any]:
    """Describe the training data and the optimizer as plain data, where that is known.

    Returns:
        ``batch_size``, ``batches_per_epoch`` and ``training_examples`` as far as the data tells
        them, and ``optimizer``: its ``name`` and, for each of its ``groups``, the settings that
        are plain numbers or flags and that the recipe does not schedule.
    """
    known = {
        "batch_size": _batch_size(work.batches),
        "batches_per_epoch": _length(work.batches),
        "training_examples": _examples(work.batches),
    }
    facts: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    optimizer = wrapped(work.optimizer)
    groups = list(_groups(optimizer, work.recipe))
    return {**facts, "optimizer": {"name": type(optimizer).__name__, "groups": groups}}


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which facts are not as saved ones, in words; what either does not know is no difference.

    Settings of another kind of optimizer are not compared: its name says enough.
    """
    found = [
        f"{name} was {saved[name]!r} and is now {value!r}"
        for name, value in now.items()
        if name != "optimizer" and name in saved and saved[name] != value
    ]
    before, after = saved.get("optimizer"), now["optimizer"]
    if before is None:
        return found
    if before["name"] != after["name"]:
        return [*found, f"the optimizer was {before['name']} and is now {after['name']}"]
    return found + _group_differences(before["groups"], after["groups"])


def _group_differences(before: list[Any], after: list[Any]) -> list[str]:
    if len(before) != len(after):
        return [f"the optimizer's parameter groups were {len(before)} and are now {len(after)}"]
    several = len(after) > 1
    found = []
    for i, (one, two) in enumerate(zip(before, after, strict=True)):
        which = f"group {i} of the optimizer" if several else "the optimizer"
        found += [
            f"{name} of {which} was {one[name]!r} and is now {value!r}"
            for name, value in two.items()
            if name in one and one[name] != value
        ]
    return found


def _groups(optimizer: Optimizer, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Give each group's plain settings without those that the recipe sets."""
    scheduled = {"lr"} | ({"weight_decay"} if recipe.weight_decay is not None else set())
    if recipe.momentum is not None:
        scheduled.add("momentum")
    shares = ratios(optimizer, "lr")
    for group, share in zip(optimizer.param_groups, shares, strict=True):
        facts: dict[str, Any] = {"share_of_lr": share}
        for name in optimizer.defaults:
            value = group.get(name)
            if name == "betas" and recipe.momentum is not None:
                value = value[1:] if isinstance(value, tuple | list) else None
            if name not in scheduled and _is_plain(value):
                facts[name] = list(value) if isinstance(value, tuple) else value
        yield facts


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(isinstance(entry, _PLAIN) for entry in value)
    return isinstance(value, _PLAIN)


def _batch_size(batches: Any) -> int | None:
    if isinstance(batches, list | tuple):
        return _count(batches[0]) if batches else None
    owners = (batches, getattr(batches, "batch_sampler", None), getattr(batches, "sampler", None))
    sizes = (getattr(owner, "batch_size", None) for owner in owners)
    return next((size for size in sizes if isinstance(size, int)), None)


def _examples(batches: Any) -> int | None:
    if isinstance(batches, list | tuple):
        counts = [_count(batch) for batch in batches]
        return None if None in counts else sum(count for count in counts if count is not None)
    return _length(getattr(batches, "dataset", None))


def _count(batch: Any) -> int | None:
    """Count a batch's examples, if its targets are a tensor."""
    targets = batch[1] if isinstance(batch, list | tuple) and len(batch) == 2 else None
    return len(targets) if isinstance(targets, torch.Tensor) and targets.dim() else None


def _length(thing: Any) -> int | None:
    try:
        return len(thing)
    except (TypeError, NotImplementedError, AttributeError):
        return None  # a stream, or a loader over one
