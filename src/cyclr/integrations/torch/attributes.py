"""Plain attributes of objects, remembered and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn

Undo = Callable[[], None]

# Their entries are parameters, buffers and modules, which a Snapshot remembers one by one.
_OWN = ("_parameters", "_buffers", "_modules")


class Attributes:
    """Remembers the attributes of objects, and puts them back on every way out.

    A :class:`~cyclr.integrations.torch.snapshot.Snapshot` remembers what training is known to
    change. A user's ``training_step`` may also count, append to a list or feed a metric, and a
    framework leaves references on what it trains; those are plain attributes. Lists, dicts and sets
    are put back in place, however nested, and so are tensors and random generators; of other
    objects only the reference is.

    Args:
        *things: Any objects with attributes; of a module, all its parts.
        tensors: Whether to copy tensors. Without it they are taken as given, which is right for
            objects that hold whole data sets.
    """

    def __init__(self, *things: Any, tensors: bool = True) -> None:
        seen: set[int] = set()
        self._undo: list[Undo] = []
        for thing in things:
            for part in thing.modules() if isinstance(thing, nn.Module) else (thing,):
                self._undo += _remember_object(part, tensors, seen)

    def restore(self) -> None:
        """Put everything back; may be called again after more changes."""
        with torch.no_grad():
            for undo in self._undo:
                undo()

    def __enter__(self) -> Self:
        """Return the memory itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Restore, however the block was left."""
        self.restore()


def _remember_object(thing: Any, tensors: bool, seen: set[int]) -> list[Undo]:
    attributes = vars(thing)
    undos = _remember_dict(attributes, tensors=tensors, seen=seen, skip=_OWN)
    for name in _OWN:
        if isinstance(attributes.get(name), dict):
            undos += _remember_dict(attributes[name], tensors=False, seen=seen)
    return undos


def _remember_dict(
    original: dict[Any, Any], *, tensors: bool, seen: set[int], skip: tuple[str, ...] = ()
) -> list[Undo]:
    saved = dict(original)

    def undo() -> None:
        if original.keys() != saved.keys() or any(original[k] is not saved[k] for k in saved):
            original.clear()
            original.update(saved)

    entries = (value for key, value in saved.items() if key not in skip)
    return [undo, *_remember_entries(entries, tensors, seen)]


def _remember_entries(values: Any, tensors: bool, seen: set[int]) -> list[Undo]:
    undos: list[Undo] = []
    for value in values:
        if id(value) not in seen and isinstance(value, _KINDS):
            seen.add(id(value))
            undos += _remember_value(value, tensors, seen)
    return undos


def _remember_value(value: Any, tensors: bool, seen: set[int]) -> list[Undo]:
    if isinstance(value, dict):
        return _remember_dict(value, tensors=tensors, seen=seen)
    if isinstance(value, list | set):
        return [_remember_collection(value), *_remember_entries(tuple(value), tensors, seen)]
    if isinstance(value, tuple):
        return _remember_entries(value, tensors, seen)
    if isinstance(value, torch.Generator):
        return [_remember_generator(value)]
    # Parameters are the Snapshot's; to copy them here too would cost their memory twice.
    return [_remember_tensor(value)] if tensors and not isinstance(value, nn.Parameter) else []


_KINDS = (dict, list, set, tuple, torch.Generator, torch.Tensor)


def _remember_collection(value: Any) -> Undo:
    saved = tuple(value)

    def undo() -> None:
        value.clear()
        (value.extend if isinstance(value, list) else value.update)(saved)

    return undo


def _remember_generator(generator: torch.Generator) -> Undo:
    saved = generator.get_state()

    def undo() -> None:
        generator.set_state(saved)

    return undo


def _remember_tensor(tensor: torch.Tensor) -> Undo:
    saved = tensor.detach().clone()

    def undo() -> None:
        if tensor.shape == saved.shape:
            tensor.copy_(saved)
        else:
            tensor.data = saved.clone()

    return undo
