"""Everything a sweep touches, remembered and put back exactly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import StateError
from cyclr.integrations.torch.attributes import DATA, Attributes
from cyclr.integrations.torch.interrupts import uninterrupted
from cyclr.integrations.torch.remembering import (
    Undo,
    remember_generator,
    remember_gradient,
    remember_optimizer,
    remember_part,
    remember_stateful,
    remember_tensor,
)
from cyclr.integrations.torch.surroundings import (
    data_parts,
    hidden_modules,
    owners_of,
    parts_of,
    remember_random,
    remember_settings,
)
from cyclr.integrations.torch.vault import DiskVault, Vault

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

    - of modules, also those in their lists and dicts: parameters, buffers, gradients,
      ``requires_grad``, train/eval mode, extra state, hooks, and plain attributes
      (:class:`~cyclr.integrations.torch.attributes.Attributes`);
    - of optimizers and those that they hold: state, groups, hooks and plain attributes, and those
      of their parameters that no module given here holds, with their gradients;
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
        called: What is called, such as a loss or a scaler; None stands for nothing. Remembered are
            objects, and those behind bound methods and partial functions, with the tensors they
            hold.
        frozen: Whether to copy frozen parameters of nets that data hold, such as an encoder in a
            transform; without it they are taken as given.

    Raises:
        InputError: A module has parameters that have no shape yet, or the file cannot be written.
    """

    def __init__(
        self,
        *things: Any,
        folder: str | os.PathLike[str] | None = None,
        elsewhere: Iterable[nn.Module] = (),
        called: Iterable[Any] = (),
        frozen: bool = True,
    ) -> None:
        self._vault = Vault() if folder is None else DiskVault(folder)
        self._left = False
        self._training: list[Undo] = []
        self._surroundings: list[Undo] = []
        things = tuple({id(thing): thing for thing in things}.values())
        modules = [t for t in (*things, *elsewhere) if isinstance(t, nn.Module)]
        known = {id(p) for module in modules for p in module.parameters()}
        seen = {id(part) for module in modules for part in module.modules()}
        given = {id(thing) for thing in things}
        behind = [owner for function in called for owner in owners_of(function)]
        for thing in (*things, *(owner for owner in behind if id(owner) not in given)):
            if isinstance(thing, Optimizer):
                self._training.extend(_remember_loose(thing, known, self._vault))
            trained = isinstance(thing, nn.Module | Optimizer | torch.amp.GradScaler)
            called_only = id(thing) not in given  # a loss, which a repeat begins anew as well
            undos = self._training if trained or called_only else self._surroundings
            undos.extend(_remember(thing, self._vault, _Known(seen, frozen)))
            if called_only and not trained:
                undos.append(Attributes(thing).restore)
        # Last, and by themselves: what is put back before may draw numbers and change settings.
        self._settings = [remember_random(), remember_settings()]
        self._vault.seal(
            {
                "models": [t.state_dict() for t in things if isinstance(t, nn.Module)],
                "optimizers": [t.state_dict() for t in things if isinstance(t, Optimizer)],
            }
            if folder is not None
            else {}
        )

    def restore(self) -> None:
        """Put everything back; may be called again after more changes.

        Raises:
            StateError: Something could not be put back; all the rest has been.
        """
        errors = self._undone(self._training, self._surroundings)
        _report([*errors, *_undone(self._settings)])

    def rewind(self) -> None:
        """Put back models, optimizers and scalers only; data and random generators go on.

        Raises:
            StateError: As for :meth:`restore`.
        """
        _report(self._undone(self._training))

    def _undone(self, *lists: list[Undo]) -> list[Exception]:
        self._vault.open()
        try:
            with torch.no_grad():
                return [error for undos in lists for error in _undone(undos)]
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
        try:
            with uninterrupted():
                self._leave()
        except KeyboardInterrupt:
            if not self._left:  # it came before it could be made to wait
                self._leave()
            raise

    def _leave(self) -> None:
        try:
            self.restore()
        finally:
            self.forget()
            self._left = True


def _undone(undos: Iterable[Undo]) -> list[Exception]:
    """Undo one by one, whatever becomes of the others; give what failed."""
    errors = []
    for undo in undos:
        try:
            undo()
        except Exception as error:
            errors.append(error)
    return errors


def _report(errors: list[Exception]) -> None:
    if errors:
        first = f"{type(errors[0]).__name__}: {errors[0]}"
        raise StateError(
            f"{len(errors)} of the things that were remembered could not be put back, the rest is "
            f"as it was; the first: {first}"
        ) from errors[0]


class _Known(NamedTuple):
    """What is remembered by itself, by id, and whether frozen parameters of other nets are."""

    trained: set[int]
    frozen: bool


def _remember(thing: Any, vault: Vault, known: _Known) -> Iterator[Undo]:
    if isinstance(thing, nn.Module):
        yield from _remember_module(thing, vault, known)
    elif isinstance(thing, Optimizer):
        yield from remember_optimizer(thing, vault)
    else:
        yield from _remember_around(thing, vault, set(), known)


def _remember_around(thing: Any, vault: Vault, seen: set[int], known: _Known) -> Iterator[Undo]:
    """Remember what is not trained: data, generators, scalers, and what they hold in turn."""
    if id(thing) in seen or id(thing) in known.trained or len(seen) >= _OBJECTS:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):  # such as a net that a loss compares by, or a transform
        yield from _remember_module(thing, vault, known, frozen=known.frozen)
        return
    if isinstance(thing, torch.Generator):
        yield remember_generator(thing)
        return
    loader = isinstance(thing, torch.utils.data.DataLoader)
    stateful = hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")
    stateful = stateful and not loader and not _is_trainer(thing, known.trained)
    if stateful:
        yield remember_stateful(thing)
    # After the state: loading it may leave a mark that it was loaded. With all tensors of what has
    # a state: it may have put others in their place, and the old ones have been written to. Of
    # others, large ones are data.
    if hasattr(thing, "__dict__"):
        yield Attributes(thing, most=None if stateful else DATA).restore
    if not isinstance(thing, Optimizer | torch.amp.GradScaler):
        for part in data_parts(thing) if loader else parts_of(thing):
            yield from _remember_around(part, vault, seen, known)


def _is_trainer(thing: Any, trained: set[int]) -> bool:
    """Say whether a thing is, or holds, what is trained: its state would be all of that again."""
    held = vars(thing).values() if hasattr(thing, "__dict__") else ()
    return isinstance(thing, Optimizer) or any(
        isinstance(value, Optimizer) or id(value) in trained for value in held
    )


def _remember_module(
    module: nn.Module, vault: Vault, known: _Known, *, frozen: bool = True
) -> Iterator[Undo]:
    parts = [*module.modules()]
    seen = known.trained | {id(part) for part in parts}
    for hidden in hidden_modules(parts):
        if id(hidden) not in seen:
            seen |= {id(part) for part in hidden.modules()}
            parts += hidden.modules()
    parameters = {id(p): p for part in parts for p in part.parameters(recurse=False)}
    for part in parts:
        if not type(part).__module__.startswith(_WRAPPERS):
            yield Attributes(part, parts=False, known=parameters).restore
        yield remember_part(part, vault, frozen=frozen)
    for parameter in parameters.values():
        yield remember_gradient(parameter, vault)


def _remember_loose(optimizer: Optimizer, known: set[int], vault: Vault) -> Iterator[Undo]:
    """Remember the parameters that are in no module, as those of a loss or a separate head."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in known:
                known.add(id(parameter))
                yield remember_tensor(parameter, vault)
                yield remember_gradient(parameter, vault)
