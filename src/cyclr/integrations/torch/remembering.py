"""What single things remember of themselves: a module's part, a tensor, an optimizer, a generator.

Each function notes what is there now and returns what puts it back, in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.integrations.torch.attributes import DATA, Attributes, fill
from cyclr.integrations.torch.groups import family
from cyclr.integrations.torch.vault import Vault

Undo = Callable[[], None]


def remember_tensor(tensor: torch.Tensor, vault: Vault) -> Undo:
    """Remember one tensor."""
    saved = vault.keep(tensor)

    def undo() -> None:
        _put_back(tensor, saved)

    return undo


def remember_part(part: nn.Module, vault: Vault, *, frozen: bool = True) -> Undo:
    """Remember what one module itself holds, without its children.

    Args:
        part: The module.
        vault: Where copies are kept.
        frozen: Whether to copy parameters that need no gradient.
    """

    def keep(tensor: torch.Tensor | None) -> Callable[[], torch.Tensor] | None:
        given = isinstance(tensor, nn.Parameter) and not tensor.requires_grad and not frozen
        return None if given else _keep(tensor, vault)

    training = part.training
    both: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
    stores = [(store, dict(store)) for store in both]
    saved = [{name: keep(tensor) for name, tensor in s.items()} for _, s in stores]
    has_extra = type(part).get_extra_state is not nn.Module.get_extra_state
    extra = copy.deepcopy(part.get_extra_state()) if has_extra else None

    def undo() -> None:
        part.training = training
        for (store, before), values in zip(stores, saved, strict=True):
            for name, tensor in before.items():
                _put_back(tensor, values[name])
            _restore_entries(store, before)
        if has_extra:
            part.set_extra_state(copy.deepcopy(extra))

    return undo


def _restore_entries(store: Any, before: dict[str, Any]) -> None:
    """Let a module's dict hold what it held, in that order; a compiled module's cannot be set."""
    now = dict(store)
    if list(now) != list(before) or any(now[name] is not before[name] for name in before):
        for name in now:
            del store[name]
        for name, tensor in before.items():
            store[name] = tensor


def remember_gradient(parameter: nn.Parameter, vault: Vault) -> Undo:
    """Remember a parameter's gradient, and whether it has one."""
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
        if tensor.shape != value.shape or tensor.dtype != value.dtype:
            tensor.data = value.to(tensor.device, copy=True)
        else:
            fill(tensor, value)
    return tensor


def remember_optimizer(optimizer: Optimizer, vault: Vault) -> Iterator[Undo]:
    """Remember state, settings and attributes of an optimizer and of those it holds."""
    for one in family(optimizer):
        yield from _remember_one(one, vault)


def _remember_one(optimizer: Optimizer, vault: Vault) -> Iterator[Undo]:
    # First the attributes: they say which dict the state is in.
    yield Attributes(optimizer, most=DATA).restore
    state = {key: _remember_dict(value, vault) for key, value in optimizer.state.items()}
    groups = list(optimizer.param_groups)
    settings = [_remember_group(group) for group in groups]

    def undo() -> None:
        for key in set(optimizer.state) - set(state):
            del optimizer.state[key]
        for key, rebuild in state.items():
            optimizer.state[key] = rebuild()
        optimizer.param_groups[:] = groups
        for rebuild in settings:
            rebuild()

    yield undo


def _remember_group(group: dict[str, Any]) -> Callable[[], Any]:
    """Remember which settings a group has; the attributes put back what is within them, in place.

    They may be shared with other groups and with what the user holds, so they are not copied.
    """
    saved = dict(group)

    def rebuild() -> None:
        group.clear()
        group.update(saved)

    return rebuild


def _remember_dict(original: Any, vault: Vault) -> Callable[[], Any]:
    """Remember a dict of tensors and plain values; the returned function puts them back into it."""
    if not isinstance(original, dict):
        saved = copy.deepcopy(original)
        return lambda: copy.deepcopy(saved)
    tensors = {k: (t, vault.keep(t)) for k, t in original.items() if isinstance(t, torch.Tensor)}
    plain = {name: _copy_plain(value) for name, value in original.items() if name not in tensors}

    def rebuild() -> Any:
        for name in set(original) - set(plain) - set(tensors):
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


def remember_stateful(thing: Any) -> Undo:
    """Remember what has a state dict."""
    saved = copy.deepcopy(thing.state_dict())

    def undo() -> None:
        thing.load_state_dict(copy.deepcopy(saved))

    return undo


def remember_generator(generator: torch.Generator) -> Undo:
    """Remember where a generator is."""
    saved = generator.get_state()

    def undo() -> None:
        generator.set_state(saved)

    return undo
