"""A run: one training with everything that led to it, in a folder of its own."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from cyclr import jsonfile
from cyclr.errors import InputError, RecordError, StateError
from cyclr.rangetest import RangeRecord
from cyclr.recipe import Recipe

_PACKAGES = ("cyclr", "torch", "accelerate", "torchdata", "numpy", "datasets", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training.

    Attributes:
        recipe: What was run.
        steps: How many updates were made.
        outcome: Why it ended, in words.
        metrics: The last evaluation, by name; empty without validation data.
        folder: Where it is kept, or None.
    """

    recipe: Recipe
    steps: int
    outcome: str
    metrics: Mapping[str, float]
    folder: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Write the summary as plain data."""
        return {
            "cyclr_run": 1,
            "steps": self.steps,
            "outcome": self.outcome,
            "metrics": dict(self.metrics),
            "folder": None if self.folder is None else str(self.folder),
        }


class RunFolder:
    """The files of a run.

    ::

        recipe.json        every schedule, the length, the stopping points' source
        record.json        what the range test saw            (if there was one)
        reading.json       what was read off it               (if there was one)
        environment.json   seed, versions, hardware, command line
        metrics.jsonl      a line per logged step: {"step": k, "loss": …, "lr": …}
        checkpoints/       one folder per stopping point
        run.json           the summary; its presence says that the run is finished
        plot.png           loss, metrics and rate against steps

    Making the object only checks the place; :meth:`open` makes the folder, when training begins.

    Args:
        path: A folder that does not exist yet, or is empty.
        record: What the range test saw, if there was one.
        reading: What was read off it, as plain data.
        **facts: What else to keep in environment.json, such as the seed.

    Raises:
        InputError: The folder holds something already.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        record: RangeRecord | None = None,
        reading: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        self.path = Path(path)
        self._record, self._reading, self._facts = record, reading, facts
        self._metrics: TextIO | None = None
        above = next(parent for parent in self.path.absolute().parents if parent.exists())
        if not above.is_dir():
            raise InputError(f"cannot make the run folder {self.path}: {above} is not a folder")
        try:
            taken = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        except OSError as error:
            raise InputError(f"cannot look into {self.path}: {error.strerror}") from error
        if taken:
            raise InputError(
                f"{self.path} holds something already, and a run never overwrites; "
                "choose a folder that does not exist"
            )

    def open(self, recipe: Recipe) -> None:
        """Make the folder and write what is known before the first step.

        Raises:
            InputError: The folder cannot be made or written to.
        """
        try:
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            self._metrics = (self.path / "metrics.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot make the run folder {self.path}: {error.strerror}; choose another place"
            ) from error
        recipe.save(self.path / "recipe.json")
        jsonfile.write(self.path / "environment.json", {**environment(), **self._facts})
        if self._record is not None:
            self._record.save(self.path / "record.json")
        if self._reading is not None:
            jsonfile.write(self.path / "reading.json", self._reading)

    def log(self, line: Mapping[str, Any]) -> None:
        """Add a line of metrics; numbers that JSON cannot hold become strings.

        Raises:
            StateError: The folder is not open.
        """
        if self._metrics is None:
            raise StateError("the run folder is not open; call open(recipe) first")
        self._metrics.write(json.dumps(jsonfile.plain(line)) + "\n")

    def flush(self) -> None:
        """Hand the lines written so far to the operating system."""
        if self._metrics is not None:
            self._metrics.flush()

    def close(self, run: Run | None = None) -> None:
        """Close the files; with a run, write the summary that says it is finished."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if run is not None:
            jsonfile.write(self.path / "run.json", run.to_dict())


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a run's metrics, one dict per line.

    Raises:
        RecordError: The folder is not a run's, or a line is damaged.
    """
    path = Path(folder) / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{folder} is not a run's folder: cannot read {path}: {error}") from error
    return [_line(path, number, line) for number, line in enumerate(lines, start=1)]


def _line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            raise TypeError("it is not an object")
    except (json.JSONDecodeError, TypeError) as error:
        raise RecordError(f"{path} is damaged in line {number}: {error}") from error
    return {k: float(v) if v in ("nan", "inf", "-inf") else v for k, v in data.items()}


def environment() -> dict[str, Any]:
    """Say what a run runs on: versions, processor, command line, time."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown"
