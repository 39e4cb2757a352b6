"""What surrounds a training, remembered: random generators, torch's settings, and data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

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
    parts += [*samplers, *_nested(loader.dataset)]
    unique = {id(part): part for part in parts if part is not None}
    yield from unique.values()


def _nested(dataset: Any) -> Iterator[Any]:
    """Give a data set and those inside it, as subsets, concatenations and wrappers hold them."""
    seen: set[int] = set()
    waiting = [dataset]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        for value in vars(part).values() if hasattr(part, "__dict__") else ():
            inside = value if isinstance(value, list | tuple) and len(value) < 1000 else (value,)
            waiting += [v for v in inside if isinstance(v, torch.utils.data.Dataset)]
