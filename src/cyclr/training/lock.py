"""A run is trained by one process at a time: the one that holds the lock on its log."""

from __future__ import annotations

import os
import weakref
from io import FileIO
from pathlib import Path

from cyclr.errors import TrainingError

try:
    import fcntl
except ImportError:  # Windows: runs are not locked there, so start one process at a time
    fcntl = None  # type: ignore[assignment]

_held: weakref.WeakSet[FileIO] = weakref.WeakSet()


def hold(path: Path) -> FileIO:
    """Lock a file until what is returned is closed, or this process ends, by whatever.

    Where the file system has no locks, as some network ones, nothing is locked.

    Raises:
        TrainingError: Another process holds the lock.
        OSError: The file cannot be opened for writing.
    """
    file = FileIO(path, "r+")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise TrainingError(
            f"another process is training in {path.parent}; wait until it has ended, or stop it "
            "first and then go on with its run"
        ) from error
    except OSError:
        return file
    _held.add(file)
    return file


def _leave_to_the_parent() -> None:
    """Close what was inherited: a data loader's worker may outlive a training that was killed."""
    for file in list(_held):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
