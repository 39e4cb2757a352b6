"""Where runs are kept: checkpoints under a cache, finished results beside the grids."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cyclr import jsonfile
from cyclr.errors import InputError, TrainingError

try:
    import fcntl
except ImportError:  # Windows: runs are not locked there, so start one process at a time
    fcntl = None  # type: ignore[assignment]


def cache_home() -> Path:
    """Say where what can be made again is kept: ``$XDG_CACHE_HOME/cyclr`` or ~/.cache/cyclr."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cyclr"


_KEYS = {"grid", "tier", "row", "seed", "outcome", "accuracy", "steps", "spec", "curve", "speed"}
_KEYS |= {"steps_per_cpu_second", "data_fingerprint"}  # what tables and claims read


class Busy(TrainingError):
    """Another process is at this run."""


class RunStore:
    """The folder of one unfinished run: a checkpoint that is either whole or not there.

    Args:
        folder: The run's folder; made when it is first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes off this run.

        Raises:
            Busy: Another process holds the lock.
        """
        check_writable(self.folder)
        with (self.folder / "lock").open("w") as file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"another process is running {self.folder}") from error
            yield

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint so that a crash leaves either the last one or this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "checkpoint.partial"
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._checkpoint)

    def load(self) -> dict[str, Any] | None:
        """Read the checkpoint; None if there is none.

        Raises:
            InputError: It cannot be read.
        """
        if not self._checkpoint.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self._checkpoint, weights_only=True)
        except Exception as error:  # pickle raises whatever it meets
            raise InputError(
                f"cannot read {self._checkpoint}: it is damaged; delete it to begin anew"
            ) from error
        return state

    def clear(self) -> None:
        """Delete the checkpoint: the result has been written."""
        self._checkpoint.unlink(missing_ok=True)


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a finished run's result, atomically.

    Raises:
        InputError: The folder cannot be written to.
    """
    check_writable(path.parent)
    jsonfile.write(path, result)


def check_writable(folder: Path) -> None:
    """Make a folder, and see whether files can be written to it, before hours are spent for them.

    Raises:
        InputError: They cannot; the message names the folder and the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror}; make it writable, or copy the grids to "
            "a folder of your own and name that with --papers (of checkpoints: --store)"
        ) from error


def read_result(path: Path) -> dict[str, Any] | None:
    """Read a finished run's result; None if there is none.

    Raises:
        InputError: The file cannot be read, or is not a result.
    """
    if not path.is_file():
        return None
    try:
        data = jsonfile.read(path, what="a run's result")
    except InputError as error:
        raise InputError(f"{error}, or move it away to run again") from error
    if not isinstance(data, dict) or data.get("cyclr_result") != 1:
        raise InputError(f"{path} is not a run's result; move it away to run again")
    if missing := sorted(_KEYS - set(data)):
        raise InputError(f"{path} is damaged, it lacks {missing[0]}; move it away to run again")
    return data
