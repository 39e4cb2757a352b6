"""Where a snapshot keeps copies of tensors: in memory, or in a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from cyclr.errors import InputError

_HOW = """This file was written by cyclr before a range test, which deletes it when it has put \
everything back.
If it is still here, the process was killed. What the model and the optimizer were before:

    saved = torch.load({path!r}, weights_only=False)
    model.load_state_dict(saved["models"][0])
    optimizer.load_state_dict(saved["optimizers"][0])

Delete it when you have no more use for it.
"""

Get = Callable[[], torch.Tensor]


class Vault:
    """Keeps tensors in memory. The same tensor, given twice, is kept once."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[torch.Tensor, Get]] = {}

    def keep(self, tensor: torch.Tensor) -> Get:
        """Keep a tensor as it is now; the returned function gives it again.

        Raises:
            InputError: It has no shape yet.
        """
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise InputError(
                "the model has lazy parameters without a shape, which cannot be remembered; "
                "run one forward pass first"
            )
        if id(tensor) not in self._kept:
            # The tensor itself is held too: its id must not be given to another.
            self._kept[id(tensor)] = tensor, self._store(tensor.detach())
        return self._kept[id(tensor)][1]

    def _store(self, tensor: torch.Tensor) -> Get:
        saved = tensor.clone()
        return lambda: saved

    def seal(self, states: Mapping[str, Any]) -> None:
        """Say that all has been kept.

        Args:
            states: State dicts by name, for whoever has to read a file by hand.
        """

    def open(self) -> None:
        """Say that kept tensors will be asked for."""

    def close(self) -> None:
        """Say that no more will be asked for, for now."""

    def forget(self) -> None:
        """Say that none will be asked for any more."""


class DiskVault(Vault):
    """Keeps tensors in a file, which says how to get at them after a crash.

    Args:
        folder: Where to put the file; must exist.

    Raises:
        InputError: It does not.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__()
        if not Path(folder).is_dir():
            raise InputError(f"snapshot_dir must be a folder that exists, got {folder}; make it")
        self._folder = Path(folder)
        self._tensors: list[torch.Tensor] = []
        self._loaded: list[torch.Tensor] = []
        self.path: Path | None = None

    def _store(self, tensor: torch.Tensor) -> Get:
        place = len(self._tensors)
        self._tensors.append(tensor)
        return lambda: self._loaded[place]

    def seal(self, states: Mapping[str, Any]) -> None:
        """Write the file, completely or not at all.

        Raises:
            InputError: It cannot be written.
        """
        handle, part = tempfile.mkstemp(dir=self._folder, prefix="cyclr-snapshot-", suffix=".part")
        path = Path(part).with_suffix(".pt")
        how = _HOW.format(path=str(path))
        try:
            with os.fdopen(handle, "wb") as file:
                # State dicts share the tensors' storage, so each is written once.
                torch.save({"how": how, **states, "tensors": self._tensors}, file)
                file.flush()
                os.fsync(file.fileno())
            path.with_suffix(".txt").write_text(how)
            Path(part).replace(path)
        except BaseException as error:
            Path(part).unlink(missing_ok=True)
            path.with_suffix(".txt").unlink(missing_ok=True)
            if isinstance(error, OSError | RuntimeError):  # torch turns a full disk into the latter
                raise InputError(
                    f"cannot write a snapshot to {self._folder}: {error}; "
                    "make room, or choose another snapshot_dir"
                ) from error
            raise
        self.path = path
        self._tensors = []
        self._kept = {}

    def open(self) -> None:
        """Map the file into memory: pages are read as they are copied from."""
        assert self.path is not None
        # Our own file, written a moment ago: nothing in it is foreign.
        saved = torch.load(self.path, mmap=True, weights_only=False, map_location="cpu")
        self._loaded = saved["tensors"]

    def close(self) -> None:
        """Let go of the mapped file."""
        self._loaded = []

    def forget(self) -> None:
        """Delete the file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(".txt").unlink(missing_ok=True)
            self.path = None
