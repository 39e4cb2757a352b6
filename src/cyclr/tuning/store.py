"""A tune's folder: what was asked for, and every finished trial, written as it finishes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyclr import jsonfile
from cyclr.errors import InputError, RecordError
from cyclr.experiments.store import RunStore
from cyclr.tuning.trial import TrialResult


class TuneStore:
    """Keeps a tune in a folder, or in memory alone.

    Args:
        folder: The folder, new or of the same request; None to keep nothing.

    Attributes:
        folder: The folder.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._results: dict[str, TrialResult] = {}

    @property
    def count(self) -> int:
        """How many trials have finished."""
        return len(self._results)

    @contextmanager
    def open(self, request: Mapping[str, Any]) -> Iterator[TuneStore]:
        """Take the folder, and read the trials that are finished.

        Raises:
            InputError: It holds another request's trials, or cannot be written.
            RecordError: A trial's file is damaged.
            TrainingError: Another process is at it.
        """
        if self.folder is None:
            yield self
            return
        self.check(request)
        try:
            (self.folder / "trials").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot write {self.folder}: {error.strerror}; choose another place"
            ) from error
        with RunStore(self.folder).lock():
            jsonfile.write(self.folder / "request.json", {"cyclr_tune": 1, **request})
            for path in sorted((self.folder / "trials").glob("*.json")):
                result = _read(path)
                self._results[result.trial.key] = result
            yield self

    def check(self, request: Mapping[str, Any]) -> None:
        """Refuse a folder that is not this request's, before anything is done.

        Raises:
            InputError: It holds another request's trials, or something else.
        """
        if self.folder is None:
            return
        path = self.folder / "request.json"
        if not path.is_file():
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise InputError(
                    f"{self.folder} holds something that is no tune; name a new folder"
                )
            return
        saved = jsonfile.read(path, what="a tune's request")
        if not isinstance(saved, dict) or saved.get("cyclr_tune") != 1:
            raise InputError(f"{path} is not a tune's request; name a new folder")
        difference = _difference(saved, {"cyclr_tune": 1, **jsonfile.plain(request)})
        if difference is not None:
            name, was, now = difference
            raise InputError(
                f"{self.folder} holds a tune with {name} {was!r}, and this one has {now!r}; ask "
                "for the same to go on with it, or name a new folder"
            )

    def get(self, key: str) -> TrialResult | None:
        """Give a finished trial's result; None if it has not been run."""
        return self._results.get(key)

    def add(self, result: TrialResult) -> None:
        """Keep a finished trial's result."""
        self._results[result.trial.key] = result
        if self.folder is not None:
            path = self.folder / "trials" / f"{result.trial.key}.json"
            jsonfile.write(path, result.to_dict())

    def recall(self, name: str) -> Any:
        """Read something that was measured once; None if it was not."""
        path = None if self.folder is None else self.folder / name
        if path is None or not path.is_file():
            return None
        return jsonfile.read(path, what="a tune's measurements")

    def write(self, name: str, data: Any) -> None:
        """Write a file of plain data, or of text."""
        if self.folder is None:
            return
        if isinstance(data, str):
            jsonfile.write_text(self.folder / name, data)
        else:
            jsonfile.write(self.folder / name, data)


def _read(path: Path) -> TrialResult:
    try:
        return TrialResult.from_dict(jsonfile.read(path, what="a trial's result"))
    except RecordError as error:
        raise RecordError(f"{path}: {error}; delete it to run the trial again") from error


def _difference(saved: Any, asked: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """Name the first field in which two pieces of plain data differ, and both values."""
    if isinstance(saved, dict) and isinstance(asked, dict):
        for name in dict.fromkeys([*saved, *asked]):
            path = f"{where}.{name}" if where else name
            found = _difference(saved.get(name), asked.get(name), path)
            if found is not None:
                return found
        return None
    return None if saved == asked else (where, saved, asked)
