"""Plain attributes of objects, remembered and put back."""

from __future__ import annotations

import collections
import functools
import math
import random
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import nn

Undo = Callable[[], None]


class _Copied(NamedTuple):
    """Which tensors and arrays are copied: of which types, and up to how many entries."""

    kinds: tuple[type, ...] = ()
    most: float = math.inf


_FEW = 100  # entries up to which small tensors in a collection are no data
DATA = 10_000  # entries from which on a collection is data
# Their entries are parameters, buffers and modules, which a Snapshot remembers one by one.
_OWN = ("_parameters", "_buffers", "_modules")


class Attributes:
    """Remembers the attributes of objects, and puts them back on every way out.

    A :class:`~cyclr.integrations.torch.snapshot.Snapshot` remembers what training is known to
    change. A user's ``training_step`` may also count, append to a list or feed a metric, and a
    framework leaves references on what it trains; those are plain attributes. Lists, dicts, sets,
    deques and byte arrays are put back in place, however nested, and so are tensors, arrays and
    random generators (torch's, NumPy's, Python's); of other objects only the reference is.
    Collections of more than ten thousand entries are taken to be data, which nothing changes.

    Args:
        *things: Any objects with attributes; of a module, all its parts.
        tensors: Whether to copy tensors and arrays. Without it they are taken as given, which is
            right for objects that hold whole data sets.
        parts: Whether to look at the modules within a module.
        known: Ids of the parameters that are remembered elsewhere; None stands for all there are.
        most: Entries of the largest tensors and arrays that are copied, and not out of collections
            of more than a hundred; None for any.
    """

    def __init__(
        self,
        *things: Any,
        tensors: bool = True,
        parts: bool = True,
        known: Collection[int] | None = None,
        most: int | None = None,
    ) -> None:
        # Parameters that others remember are as good as seen: copying them twice costs memory.
        seen: set[int] = set(known or ())
        kinds: tuple[type, ...] = (torch.Tensor, np.ndarray) if tensors else ()
        if tensors and known is not None:
            kinds += (nn.Parameter,)
        copied = _Copied(kinds, math.inf if most is None else most)
        self._undo: list[Undo] = []
        for thing in things:
            whole = parts and isinstance(thing, nn.Module)
            for part in thing.modules() if whole else (thing,):
                self._undo += _remember_object(part, copied, seen)

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


def _remember_object(thing: Any, copied: _Copied, seen: set[int]) -> list[Undo]:
    attributes = vars(thing)
    undos = _remember_dict(attributes, copied, seen, skip=_OWN)
    for name in _OWN:
        if isinstance(attributes.get(name), dict):
            undos += _remember_dict(attributes[name], _Copied(), seen)
    return undos


def _remember_dict(
    original: dict[Any, Any], copied: _Copied, seen: set[int], *, skip: tuple[str, ...] = ()
) -> list[Undo]:
    saved = dict(original)

    def undo() -> None:
        if list(original) != list(saved) or any(original[k] is not saved[k] for k in saved):
            original.clear()
            original.update(saved)

    entries = (value for key, value in saved.items() if key not in skip)
    return [undo, *_remember_entries(entries, copied, seen)]


def _remember_entries(values: Any, copied: _Copied, seen: set[int]) -> list[Undo]:
    undos: list[Undo] = []
    for value in values:
        if id(value) not in seen and isinstance(value, _KINDS):
            seen.add(id(value))
            undos += _remember_value(value, copied, seen)
    return undos


def _remember_value(value: Any, copied: _Copied, seen: set[int]) -> list[Undo]:
    if isinstance(value, (dict, tuple, *_LISTS)):
        if len(value) > DATA:
            return []
        if len(value) > _FEW and copied.most < math.inf:
            copied = _Copied()  # many small tensors are data as well
    if isinstance(value, dict):
        return _remember_dict(value, copied, seen)
    if isinstance(value, _LISTS):
        return [_remember_collection(value), *_remember_entries(tuple(value), copied, seen)]
    if isinstance(value, tuple):
        return _remember_entries(value, copied, seen)
    if isinstance(value, _GENERATORS):
        return [_remember_generator(value)]
    return _remember_numbers(value, copied)


def _remember_numbers(value: torch.Tensor | np.ndarray, copied: _Copied) -> list[Undo]:
    left_out = isinstance(value, nn.Parameter) and nn.Parameter not in copied.kinds
    if isinstance(value, torch.Tensor) and (value.is_meta or value.is_nested):
        return []  # the first has no values, the second cannot be filled
    size = value.size if isinstance(value, np.ndarray) else value.numel()
    if left_out or not copied.kinds or size > copied.most:
        return []
    return [_remember_array(value) if isinstance(value, np.ndarray) else _remember_tensor(value)]


_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_LISTS = (list, set, collections.deque, bytearray)
_KINDS = (dict, *_LISTS, tuple, torch.Tensor, np.ndarray, *_GENERATORS)


def _remember_collection(value: Any) -> Undo:
    saved = tuple(value)

    def undo() -> None:
        value.clear()
        (value.update if isinstance(value, set) else value.extend)(saved)

    return undo


def _remember_generator(generator: Any) -> Undo:
    if isinstance(generator, random.Random):
        return functools.partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return functools.partial(setattr, bits, "state", bits.state)
    return functools.partial(generator.set_state, generator.get_state())


def _remember_array(array: Any) -> Undo:
    saved = array.copy()

    def undo() -> None:
        if array.shape == saved.shape and array.flags.writeable:
            array[...] = saved

    return undo


def _remember_tensor(tensor: torch.Tensor) -> Undo:
    saved = tensor.detach().clone()

    def undo() -> None:
        if tensor.shape != saved.shape or tensor.dtype != saved.dtype:
            tensor.data = saved.clone()
        elif not _same(tensor, saved):  # else a graph that needs it goes on being valid
            fill(tensor, saved)

    return undo


def _same(tensor: torch.Tensor, saved: torch.Tensor) -> bool:
    """Say whether a tensor has the values saved; not known of sparse ones."""
    return tensor.layout == torch.strided and torch.equal(tensor, saved)


def fill(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Copy into a tensor of the same shape, also into one that ``copy_`` alone does not fill.

    In an expanded tensor one number stands in many places, and may be written in one of them only.
    One made under ``inference_mode`` may be written there only.
    """
    if tensor.layout == torch.strided:
        for dimension, stride in enumerate(tensor.stride()):
            if stride == 0 and tensor.shape[dimension] > 1:
                tensor, value = tensor.narrow(dimension, 0, 1), value.narrow(dimension, 0, 1)
    if not tensor.is_inference():
        tensor.copy_(value)
        return
    with torch.inference_mode():
        tensor.copy_(value)
