"""What surrounds a training, remembered: random generators, torch's settings, and data."""

from __future__ import annotations

import functools
import random
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch import nn

Undo = Callable[[], None]


def remember_random() -> Undo:
    """Remember Python's, NumPy's and torch's global generators, on every device in use."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def undo() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return undo


def remember_settings() -> Undo:
    """Remember the settings of torch that a step or a validation may change and forget."""
    cudnn = torch.backends.cudnn
    flags = {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    strict = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    anomaly, check = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()

    def undo() -> None:
        for name, value in flags.items():
            if getattr(cudnn, name) != value:
                setattr(cudnn, name, value)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.use_deterministic_algorithms(strict, warn_only=lenient)
        torch.autograd.set_detect_anomaly(anomaly, check)

    return undo


def data_parts(loader: torch.utils.data.DataLoader[Any]) -> Iterator[Any]:
    """Find what iterating over a loader, even over a copy of it, could change."""
    batch_sampler = loader.batch_sampler
    samplers = [loader.sampler, batch_sampler, getattr(batch_sampler, "sampler", None)]
    parts = [getattr(owner, "generator", None) for owner in (loader, *samplers)]
    parts += [*samplers, loader.dataset, *_held(loader.collate_fn)]
    unique = {id(part): part for part in parts if part is not None}
    yield from unique.values()


def parts_of(thing: Any) -> Iterator[Any]:
    """Give the objects that one holds and that may change as it is used.

    Data sets hold others, as subsets and concatenations do, and transforms; a wrapper holds the
    loader it reads from. What only holds data, such as arrays and tables, is left out, and so is
    what is neither iterated over nor called.
    """
    values = vars(thing).values() if hasattr(thing, "__dict__") else ()
    for value in values:
        yield from _held(value)


def hidden_modules(parts: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Find the modules that others hold in lists and dicts, where torch does not look for them."""
    for part in parts:
        for name, value in vars(part).items():
            if name not in _OWN and isinstance(value, dict | list | tuple | set):
                yield from (thing for thing in _held(value) if isinstance(thing, nn.Module))


def owners_of(function: Any) -> Iterator[Any]:
    """Find the objects that a call of a function may change: itself, or what it is bound to."""
    if isinstance(function, functools.partial):
        for part in (function.func, *function.args, *function.keywords.values()):
            yield from owners_of(part)
    elif isinstance(function, types.MethodType):
        yield function.__self__
    elif hasattr(function, "__dict__") and not isinstance(
        function, type | types.FunctionType | torch.Tensor
    ):
        yield function


def _held(value: Any, depth: int = 2) -> Iterator[Any]:
    """Look into collections, partial functions and bound methods for objects with attributes."""
    if isinstance(value, functools.partial):
        inside: Iterable[Any] = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, types.MethodType):
        inside = (value.__self__,)
    elif isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, list | tuple | set):
        inside = value
    else:
        if _may_change(value):
            yield value
        return
    if depth and (not isinstance(value, Sized) or len(value) < _DATA):
        for entry in inside:
            yield from _held(entry, depth - 1)


def _may_change(value: Any) -> bool:
    """Say whether it is something to iterate over, to index or to call, and not plain data."""
    kind = type(value)
    if isinstance(value, type | types.FunctionType | torch.Tensor):
        return False
    home = kind.__module__.partition(".")[0]
    if not hasattr(value, "__dict__") or home in _DATA_PACKAGES | sys.stdlib_module_names:
        return False
    return any(hasattr(kind, name) for name in ("__iter__", "__getitem__", "__call__"))


_DATA = 1000
# Hooks may be bound to anything, the net's own trainer included.
_OWN = ("_modules", *(name for name in vars(nn.Module()) if name.endswith("hooks")))
_DATA_PACKAGES = {"numpy", "pandas", "polars", "pyarrow", "datasets", "PIL", "h5py", "scipy"}
