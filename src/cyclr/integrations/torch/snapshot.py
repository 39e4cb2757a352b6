"""Everything a sweep touches, remembered and put back exactly."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.integrations.torch.attributes import Attributes
from cyclr.integrations.torch.interrupts import uninterrupted
from cyclr.integrations.torch.surroundings import (
    data_parts,
    parts_of,
    remember_random,
    remember_settings,
)
from cyclr.integrations.torch.vault import DiskVault, Vault

Undo = Callable[[], None]

_OBJECTS = 10_000  # in what surrounds a training; where there are more, they are data

# Wrappers whose attributes mirror a state outside of Python, which does not come back with them.
_WRAPPERS = ("torch.nn.parallel", "torch.distributed")


class Snapshot:
    """Remembers the state of models, optimizers, scalers, loaders and random generators.

    Restoring is exact, and in place: parameters, buffers, gradients and optimizer state keep their
    identity, so that references to them, compiled graphs and optimizer groups stay valid. Used as
    a context manager, it restores on every way out, exceptions and Ctrl-C included::

        with Snapshot(model, optimizer):
            …                               # whatever happens here, nothing of it remains

    What is remembered:

    - of modules: parameters, buffers, gradients, ``requires_grad``, train/eval mode, extra state,
      hooks, and plain attributes (:class:`~cyclr.integrations.torch.attributes.Attributes`);
    - of optimizers: state, groups, hooks and plain attributes, and those of their parameters that
      no module given here holds, with their gradients;
    - of data loaders: the generators, samplers, data sets, transforms and collate functions in
      them, and of other iterables the objects they hold, all with their plain attributes;
    - ``state_dict`` of anything that has one (gradient scalers, stateful loaders and samplers);
    - Python's, NumPy's and torch's global random generators, on every device in use;
    - torch's settings: gradients enabled, default dtype, determinism, cuDNN, anomaly detection.

    Args:
        *things: Modules, optimizers, data loaders, generators, objects with ``state_dict`` and
            ``load_state_dict``, and other iterables, of which plain attributes are remembered.
        folder: Keep copies of tensors in a file in this folder instead of in memory. The file is
            deleted by :meth:`forget` and when the ``with`` block is left; after a crash it, and a
            text beside it, say how to get the weights back.
        elsewhere: Modules that another snapshot remembers, to which parameters of optimizers may
            belong.

    Raises:
        InputError: A module has parameters that have no shape yet, or the file cannot be written.
    """

    def __init__(
        self,
        *things: Any,
        folder: str | os.PathLike[str] | None = None,
        elsewhere: Iterable[nn.Module] = (),
    ) -> None:
        self._vault = Vault() if folder is None else DiskVault(folder)
        self._training: list[Undo] = []
        self._surroundings: list[Undo] = []
        modules = [t for t in (*things, *elsewhere) if isinstance(t, nn.Module)]
        known = {id(p) for module in modules for p in module.parameters()}
        for thing in things:
            if isinstance(thing, Optimizer):
                self._training.extend(_remember_loose(thing, known, self._vault))
            trained = isinstance(thing, nn.Module | Optimizer | torch.amp.GradScaler)
            undos = self._training if trained else self._surroundings
            undos.extend(_remember(thing, self._vault))
        self._surroundings += [remember_random(), remember_settings()]
        self._vault.seal(
            {
                "models": [t.state_dict() for t in things if isinstance(t, nn.Module)],
                "optimizers": [t.state_dict() for t in things if isinstance(t, Optimizer)],
            }
            if folder is not None
            else {}
        )

    def restore(self) -> None:
        """Put everything back; may be called again after more changes."""
        self.rewind()
        for undo in self._surroundings:
            undo()

    def rewind(self) -> None:
        """Put back models, optimizers and scalers only; data and random generators go on."""
        self._vault.open()
        try:
            with torch.no_grad():
                for undo in self._training:
                    undo()
        finally:
            self._vault.close()

    def forget(self) -> None:
        """Delete the file, if there is one; nothing can be restored any more."""
        self._vault.forget()

    def __enter__(self) -> Self:
        """Return the snapshot itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Restore, however the block was left; a Ctrl-C that comes meanwhile waits until then."""
        with uninterrupted():
            self.restore()
            self.forget()


def _remember(thing: Any, vault: Vault) -> Iterator[Undo]:
    if isinstance(thing, nn.Module):
        yield from _remember_module(thing, vault)
    elif isinstance(thing, Optimizer):
        yield from _remember_optimizer(thing, vault)
    else:
        yield from _remember_around(thing, set())


def _remember_around(thing: Any, seen: set[int]) -> Iterator[Undo]:
    """Remember what is not trained: data, generators, scalers, and what they hold in turn."""
    if id(thing) in seen or len(seen) >= _OBJECTS:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Generator):
        yield _remember_generator(thing)
        return
    loader = isinstance(thing, torch.utils.data.DataLoader)
    stateful = hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")
    if stateful and not loader and not isinstance(thing, nn.Module | Optimizer):
        yield _remember_stateful(thing)
    # After the state: loading it may leave a mark that it was loaded.
    if hasattr(thing, "__dict__"):
        yield Attributes(thing, tensors=False).restore
    if not isinstance(thing, nn.Module | Optimizer | torch.amp.GradScaler):
        for part in data_parts(thing) if loader else parts_of(thing):
            yield from _remember_around(part, seen)


def _remember_module(module: nn.Module, vault: Vault) -> Iterator[Undo]:
    for part in module.modules():
        if not type(part).__module__.startswith(_WRAPPERS):
            yield Attributes(part, parts=False).restore
        yield _remember_part(part, vault)
    for parameter in module.parameters():
        yield _remember_gradient(parameter, vault)


def _remember_loose(optimizer: Optimizer, known: set[int], vault: Vault) -> Iterator[Undo]:
    """Remember the parameters that are in no module, as those of a loss or a separate head."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in known:
                known.add(id(parameter))
                yield _remember_tensor(parameter, vault)
                yield _remember_gradient(parameter, vault)


def _remember_tensor(tensor: torch.Tensor, vault: Vault) -> Undo:
    saved = vault.keep(tensor)

    def undo() -> None:
        _put_back(tensor, saved)

    return undo


def _remember_part(part: nn.Module, vault: Vault) -> Undo:
    """Remember what one module itself holds, without its children."""
    training = part.training
    both: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
    stores = [(store, dict(store)) for store in both]
    saved = [{name: _keep(tensor, vault) for name, tensor in s.items()} for _, s in stores]
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


def _remember_gradient(parameter: nn.Parameter, vault: Vault) -> Undo:
    requires_grad, grad = parameter.requires_grad, parameter.grad
    saved = _keep(grad, vault)

    def undo() -> None:
        parameter.requires_grad_(requires_grad)
        parameter.grad = _put_back(grad, saved)

    return undo


def _keep(tensor: torch.Tensor | None, vault: Vault) -> Callable[[], torch.Tensor] | None:
    return None if tensor is None else vault.keep(tensor)


def _put_back(
    tensor: torch.Tensor | None, saved: Callable[[], torch.Tensor] | None
) -> torch.Tensor | None:
    if tensor is not None and saved is not None:
        value = saved()
        if tensor.shape != value.shape:
            tensor.data = value.to(tensor.device, copy=True)
        else:
            tensor.copy_(value)
    return tensor


def _remember_optimizer(optimizer: Optimizer, vault: Vault) -> Iterator[Undo]:
    # First the attributes: they say which dict the state is in.
    yield Attributes(optimizer, tensors=False).restore
    state = {key: _remember_dict(value, vault) for key, value in optimizer.state.items()}
    groups = list(optimizer.param_groups)
    settings = [_remember_dict(group, vault, skip="params") for group in groups]

    def undo() -> None:
        for key in set(optimizer.state) - set(state):
            del optimizer.state[key]
        for key, rebuild in state.items():
            optimizer.state[key] = rebuild()
        optimizer.param_groups[:] = groups
        for rebuild in settings:
            rebuild()

    yield undo


def _remember_dict(original: Any, vault: Vault, skip: str | None = None) -> Callable[[], Any]:
    """Remember a dict of tensors and plain values; the returned function puts them back into it."""
    if not isinstance(original, dict):
        saved = copy.deepcopy(original)
        return lambda: copy.deepcopy(saved)
    tensors = {k: (t, vault.keep(t)) for k, t in original.items() if isinstance(t, torch.Tensor)}
    plain = {
        name: _copy_plain(value)
        for name, value in original.items()
        if name != skip and name not in tensors
    }

    def rebuild() -> Any:
        for name in set(original) - set(plain) - set(tensors) - {skip}:
            del original[name]
        for name, (tensor, get) in tensors.items():
            original[name] = _put_back(tensor, get)
        for name, value in plain.items():
            original[name] = _copy_plain(value)
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

    def undo() -> None:
        generator.set_state(saved)

    return undo
