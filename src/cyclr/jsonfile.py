"""Strict JSON on disk: written atomically, read back with a clear error.

JSON has no NaN and no infinity, and losses can be both; they are written as the strings
``"nan"``, ``"inf"`` and ``"-inf"``.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cyclr.errors import InputError


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file so that a crash leaves either the old content or the new, never a part."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; give it the mode an ordinary new file would get.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write(path: str | os.PathLike[str], data: Any) -> None:
    """Write plain data as JSON, atomically; numbers JSON cannot hold become strings.

    Raises:
        InputError: The file cannot be written; the message names the path and the reason.
    """
    try:
        write_text(path, json.dumps(plain(data), indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from error


def read(path: str | os.PathLike[str], *, what: str) -> Any:
    """Read JSON from a file.

    Args:
        path: The file.
        what: What the file should hold, for the error.

    Raises:
        InputError: The file cannot be read, or is not JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {what}: it is not a text file; check the path") from error
    try:
        return parse(text)
    except ValueError as error:
        raise InputError(
            f"{path} is not {what}: it is not JSON ({error}); check the path"
        ) from error


def parse(text: str) -> Any:
    """Read JSON from a string.

    Raises:
        ValueError: It is not JSON, gives a key twice, or is nested beyond all reason.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, of which no part is silently dropped."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def plain(data: Any) -> Any:
    """Replace NaN and infinity, however nested, by their names."""
    if isinstance(data, float):
        return data if math.isfinite(data) else str(data)
    if isinstance(data, Mapping):
        return {key: plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(entry) for entry in data]
    return data


def pack(numbers: Iterable[float]) -> list[float | str]:
    """Write numbers so that strict JSON can hold them."""
    return [x if math.isfinite(x) else str(x) for x in map(float, numbers)]


def unpack(entries: Iterable[Any]) -> tuple[float, ...]:
    """Read numbers that :func:`pack` wrote; raises ValueError or TypeError for anything else."""
    numbers = []
    for entry in entries:
        named = isinstance(entry, str) and entry in ("nan", "inf", "-inf")
        if isinstance(entry, bool) or not (named or isinstance(entry, int | float)):
            raise TypeError(f"expected a number, got {entry!r}")
        numbers.append(float(entry))
    return tuple(numbers)
