"""Putting back what a Lightning Trainer leaves on a module, its data and the process."""

from __future__ import annotations

import copy
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from cyclr.integrations.torch.attributes import Attributes
from cyclr.integrations.torch.snapshot import Snapshot


def is_datamodule(data: Any) -> bool:
    """Say whether it is a LightningDataModule."""
    return hasattr(data, "train_dataloader")


@contextmanager
def unseen(module: Any, data: Any) -> Iterator[None]:
    """Remember all that a fit changes of a module and its data, and put it back."""
    owners = [module, data] if is_datamodule(data) else [module]
    loaders = [*_loaders(data)]
    for owner in owners:
        loaders += [value for value in vars(owner).values() if isinstance(value, DataLoader)]
    parts = [part for x in loaders for part in (x, x.sampler, x.batch_sampler) if part is not None]
    with (
        torch.inference_mode(False),  # a callback may call from within a validation
        Attributes(module),
        Attributes(*owners[1:], *parts, tensors=False),
        Snapshot(module, *loaders),
        _placement(module),
        torch.enable_grad(),
    ):
        yield


@contextmanager
def _placement(module: torch.nn.Module) -> Iterator[None]:
    """Put tensors back to their device and type: a Trainer moves them, and leaves them moved."""
    tensors = [*module.parameters(), *module.buffers()]
    places = [(tensor, tensor.device, tensor.dtype) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, device, dtype in places:
            if (tensor.device, tensor.dtype) != (device, dtype):
                tensor.grad = None  # of the other type; the snapshot knows the right one
                tensor.data = tensor.data.to(device, dtype)


def _loaders(data: Any) -> Iterator[DataLoader[Any]]:
    """Find the data loaders in a collection of them."""
    if isinstance(data, DataLoader):
        yield data
    elif isinstance(data, dict | list | tuple):
        for entry in data.values() if isinstance(data, dict) else data:
            yield from _loaders(entry)


def twin(data: Any) -> Any:
    """Copy data loaders shallowly, so that iterators of theirs that are in use go on."""
    if isinstance(data, dict):
        return {key: twin(entry) for key, entry in data.items()}
    if type(data) in (list, tuple):
        return type(data)(map(twin, data))
    if not isinstance(data, DataLoader):
        return data
    loader = copy.copy(data)
    for name in ("_iterator", "next_iter_state"):  # the second is torchdata's
        if name in vars(loader):
            object.__setattr__(loader, name, None)
    return loader


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning from saying of the sweep's Trainer what it says of the user's."""
    names = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning)\b")
        try:
            for log, _ in levels:
                log.setLevel(logging.ERROR)
            yield
        finally:
            for log, level in levels:
                log.setLevel(level)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C come through: a Trainer turns it into an exit, and ignores it from then on."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
