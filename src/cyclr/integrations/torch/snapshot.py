"""Everything a sweep touches, remembered and put back exactly."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim.optimizer import Optimizer

from cyclr.errors import InputError

Undo = Callable[[], None]


class Snapshot:
    """Remembers the state of models, optimizers, scalers, loaders and random generators.

    Restoring is exact, and in place: parameters, buffers, gradients and optimizer state keep their
    identity, so that references to them, compiled graphs and optimizer groups stay valid. Used as
    a context manager, it restores on every way out, exceptions and Ctrl-C included::

        with Snapshot(model, optimizer):
            …                               # whatever happens here, nothing of it remains

    What is remembered: parameters, buffers, gradients, ``requires_grad``, train/eval mode and extra
    state of modules; state and groups of optimizers; ``state_dict`` of anything else that has one
    (gradient scalers, stateful loaders, samplers, datasets); the generators of loaders and
    samplers; Python's, NumPy's and torch's global random generators, on every device in use.

    Args:
        *things: Modules, optimizers, data loaders, generators, or objects with ``state_dict`` and
            ``load_state_dict``.

    Raises:
        InputError: A module has parameters that have no shape yet.
    """

    def __init__(self, *things: Any) -> None:
        self._undo: list[Undo] = []
        for thing in things:
            self._undo.extend(_remember(thing))
        self._undo.append(_remember_random())

    def restore(self) -> None:
        """Put everything back; may be called again after more changes."""
        with torch.no_grad():
            for undo in self._undo:
                undo()

    def __enter__(self) -> Self:
        """Return the snapshot itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Restore, however the block was left."""
        self.restore()


def _remember(thing: Any) -> Iterator[Undo]:
    if isinstance(thing, nn.Module):
        yield _remember_module(thing)
    elif isinstance(thing, Optimizer):
        yield _remember_optimizer(thing)
    elif isinstance(thing, torch.Generator):
        yield _remember_generator(thing)
    elif isinstance(thing, torch.utils.data.DataLoader):
        for part in _loader_parts(thing):
            yield from _remember(part)
    elif hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        yield _remember_stateful(thing)


def _loader_parts(loader: torch.utils.data.DataLoader[Any]) -> Iterable[Any]:
    """Find what iterating over a loader, even over a copy of it, could change."""
    samplers = [
        loader.sampler,
        loader.batch_sampler,
        getattr(loader.batch_sampler, "sampler", None),
    ]
    owners: list[Any] = [loader, *samplers]
    parts = [getattr(owner, "generator", None) for owner in owners]
    parts += [*samplers, loader.dataset]
    unique = {id(part): part for part in parts if part is not None}
    return unique.values()


def _remember_module(module: nn.Module) -> Undo:
    undos = [_remember_part(part) for part in module.modules()]
    undos += [_remember_gradient(parameter) for parameter in module.parameters()]

    def undo() -> None:
        for put_back in undos:
            put_back()

    return undo


def _remember_part(part: nn.Module) -> Undo:
    """Remember what one module itself holds, without its children."""
    training = part.training
    both: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
    stores = [(store, dict(store)) for store in both]
    saved = [{name: _clone(tensor) for name, tensor in before.items()} for _, before in stores]
    has_extra = type(part).get_extra_state is not nn.Module.get_extra_state
    extra = copy.deepcopy(part.get_extra_state()) if has_extra else None

    def undo() -> None:
        part.training = training
        for (store, before), values in zip(stores, saved, strict=True):
            for name in set(store) - set(before):
                del store[name]
            for name, tensor in before.items():
                store[name] = _put_back(tensor, values[name])
        if has_extra:
            part.set_extra_state(copy.deepcopy(extra))

    return undo


def _remember_gradient(parameter: nn.Parameter) -> Undo:
    requires_grad, grad = parameter.requires_grad, parameter.grad
    saved = _clone(grad)

    def undo() -> None:
        parameter.requires_grad_(requires_grad)
        parameter.grad = _put_back(grad, saved)

    return undo


def _clone(tensor: torch.Tensor | None) -> torch.Tensor | None:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        raise InputError(
            "the model has lazy parameters without a shape, which cannot be remembered; "
            "run one forward pass first"
        )
    return None if tensor is None else tensor.detach().clone()


def _put_back(tensor: torch.Tensor | None, saved: torch.Tensor | None) -> torch.Tensor | None:
    if tensor is not None and saved is not None:
        if tensor.shape != saved.shape:
            tensor.data = saved.clone()
        else:
            tensor.copy_(saved)
    return tensor


def _remember_optimizer(optimizer: Optimizer) -> Undo:
    state = {key: _remember_dict(value) for key, value in optimizer.state.items()}
    groups = list(optimizer.param_groups)
    settings = [_remember_dict(group, skip="params") for group in groups]
    called = getattr(optimizer, "_opt_called", None)

    def undo() -> None:
        for key in set(optimizer.state) - set(state):
            del optimizer.state[key]
        for key, rebuild in state.items():
            optimizer.state[key] = rebuild()
        optimizer.param_groups[:] = groups
        for rebuild in settings:
            rebuild()
        if called is None:
            optimizer.__dict__.pop("_opt_called", None)
        else:
            optimizer._opt_called = called  # type: ignore[attr-defined]

    return undo


def _remember_dict(original: Any, skip: str | None = None) -> Callable[[], Any]:
    """Remember a dict of tensors and plain values; the returned function puts them back into it."""
    if not isinstance(original, dict):
        saved = copy.deepcopy(original)
        return lambda: copy.deepcopy(saved)
    entries = {
        name: (value, _clone(value) if isinstance(value, torch.Tensor) else _copy_plain(value))
        for name, value in original.items()
        if name != skip
    }

    def rebuild() -> Any:
        for name in set(original) - set(entries) - {skip}:
            del original[name]
        for name, (value, saved) in entries.items():
            is_tensor = isinstance(value, torch.Tensor)
            original[name] = _put_back(value, saved) if is_tensor else _copy_plain(saved)
        return original

    return rebuild


def _copy_plain(value: Any) -> Any:
    """Copy nested plain state; callables and the like, which cannot be copied, are kept."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _remember_stateful(thing: Any) -> Undo:
    saved = copy.deepcopy(thing.state_dict())

    def undo() -> None:
        thing.load_state_dict(copy.deepcopy(saved))

    return undo


def _remember_generator(generator: torch.Generator) -> Undo:
    saved = generator.get_state()
    return lambda: _ignore(generator.set_state(saved))


def _remember_random() -> Undo:
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


def _ignore(_: object) -> None:
    """Turn an expression's value into nothing."""
