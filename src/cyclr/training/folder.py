"""A run's folder: made complete or not at all, written to while training, taken up again."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Self

from cyclr import jsonfile
from cyclr.errors import CheckpointError, InputError, StateError, TrainingError
from cyclr.rangetest import RangeRecord
from cyclr.recipe import Recipe
from cyclr.training.checkpoints import sync_folder
from cyclr.training.environment import environment
from cyclr.training.lock import hold
from cyclr.training.run import Run


class RunFolder:
    """The files of a run.

    ::

        recipe.json        every schedule, the length, the stopping points' source
        record.json        what the range test saw            (if there was one)
        reading.json       what was read off it               (if there was one)
        environment.json   identity, seed, settings, batches, optimizer, versions, hardware,
                           command line
        metrics.jsonl      a line per logged step: {"step": k, "loss": …, "lr": …}
        checkpoints/       one folder each
        extensions.json    what was added with --extend       (if anything was)
        run.json           the summary; its presence says that the run has finished
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
        self._record, self._reading, self.facts = record, reading, facts
        self._log: BinaryIO | None = None
        self._lock: FileIO | None = None
        self.identity = uuid.uuid4().hex
        self.resumed = False
        self.longer: tuple[int, Recipe] | None = None  # from which step a run is extended, and how
        self._check_place()

    def _check_place(self) -> None:
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
                "choose a folder that does not exist, or go on with a run using resume"
            )

    @classmethod
    def existing(cls, path: str | os.PathLike[str], **facts: Any) -> Self:
        """Take up a run that was begun.

        Args:
            path: The run's folder.
            **facts: What must be as it was, such as the seed.

        Raises:
            CheckpointError: It is not a run's folder, or a fact is another than it was.
        """
        folder = cls.__new__(cls)
        folder.path, folder._record, folder._reading = Path(path), None, None
        folder._log, folder._lock, folder.resumed, folder.longer = None, None, True, None
        try:
            saved = jsonfile.read(folder.path / "environment.json", what="a run's environment")
            folder.identity = saved["identity"]
        except (InputError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is not the folder of a run that can be gone on with ({error}); if "
                "training had not begun there, start it anew in another folder"
            ) from error
        for name, value in facts.items():
            if name in saved and saved[name] != value:
                raise CheckpointError(
                    f"{path} was trained with {name} {saved[name]!r}, and this is {name} "
                    f"{value!r}; go on with what it was, or train anew in another folder"
                )
        folder.facts = saved
        return folder

    def open(
        self,
        recipe: Recipe,
        settings: Mapping[str, Any] | None = None,
        work: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the folder, complete with what is known before the first step, or take it up.

        Args:
            recipe: What is run.
            settings: How it is trained.
            work: What is known of data and optimizer.

        Raises:
            InputError: The folder cannot be made or written to.
            TrainingError: Another process is training in it.
        """
        try:
            if not self.resumed:
                self._make(recipe, {"settings": dict(settings or {}), "work": dict(work or {})})
            self._lock = hold(self.path / "metrics.jsonl")
            # Not in append mode: a resumed log is first cut to its checkpoint's length.
            self._log = (self.path / "metrics.jsonl").open("rb+")
            self._log.seek(0, os.SEEK_END)
        except OSError as error:
            raise InputError(
                f"cannot make the run folder {self.path} or write to it: {error.strerror}; "
                "choose another place"
            ) from error

    def _make(self, recipe: Recipe, how: Mapping[str, Any]) -> None:
        """Fill a new folder under another name and move it into place, so that it is complete."""
        home = self.path
        if not home.exists():
            home.parent.mkdir(parents=True, exist_ok=True)
            home = home.with_name(f".{home.name}.{self.identity[:8]}")
        try:
            self._fill(home, recipe, how)
            if home != self.path:
                home.rename(self.path)
            sync_folder(self.path.parent)
        except BaseException:
            if home != self.path:
                shutil.rmtree(home, ignore_errors=True)
            raise

    def _fill(self, home: Path, recipe: Recipe, how: Mapping[str, Any]) -> None:
        (home / "checkpoints").mkdir(parents=True)
        (home / "metrics.jsonl").touch()
        recipe.save(home / "recipe.json")
        if self._record is not None:
            self._record.save(home / "record.json")
        if self._reading is not None:
            jsonfile.write(home / "reading.json", self._reading)
        facts = {"identity": self.identity, **environment(), **self.facts}
        jsonfile.write(home / "environment.json", {**facts, **how})
        sync_folder(home)

    @property
    def how_to_go_on(self) -> str:
        """Words on how to go on, by the command if it can find the task, otherwise by the call."""
        if self.facts.get("source"):
            return f"go on with: cyclr fit --resume {self.path}"
        return "to go on, make the same call again with resume=True"

    @property
    def recipe(self) -> Recipe:
        """The recipe the run was begun with."""
        return Recipe.load(self.path / "recipe.json")

    @property
    def extensions(self) -> list[dict[str, Any]]:
        """What was added to the run, as ``{"step": end before, "recipe": …}``."""
        path = self.path / "extensions.json"
        added: list[dict[str, Any]] = (
            jsonfile.read(path, what="a run's extensions") if path.exists() else []
        )
        return added

    def add_extension(self) -> None:
        """Note that the run goes on under a longer recipe, if it is to."""
        if self.longer is not None:
            step, recipe = self.longer
            added = [*self.extensions, {"step": step, "recipe": recipe.to_dict()}]
            jsonfile.write(self.path / "extensions.json", added)
            self.longer = None

    def note_resumption(self, step: int) -> None:
        """Add to environment.json where and on what the run goes on."""
        saved = dict(self.facts)
        lives = [*saved.get("resumed", []), {"step": step, **environment()}]
        jsonfile.write(self.path / "environment.json", {**saved, "resumed": lives})

    def finished(self) -> Run | None:
        """Give the summary of a run that has finished, with everything that was added to it."""
        if not (self.path / "run.json").exists():
            return None
        run = Run.load(self.path)
        return run if run.extensions == len(self.extensions) else None

    def log(self, line: Mapping[str, Any]) -> None:
        """Add a line of metrics; numbers that JSON cannot hold become strings.

        Raises:
            StateError: The folder is not open.
            TrainingError: The line cannot be written.
        """
        if self._log is None:
            raise StateError("the run folder is not open; call open(recipe) first")
        try:
            self._log.write(json.dumps(jsonfile.plain(line)).encode() + b"\n")
        except OSError as error:
            raise self._cannot_log(error) from error

    def flush(self) -> None:
        """Hand the lines written so far to the operating system.

        Raises:
            TrainingError: They cannot be written.
        """
        if self._log is not None:
            try:
                self._log.flush()
            except OSError as error:
                raise self._cannot_log(error) from error

    def sync_log(self) -> int:
        """Force the log to disk; give its length in bytes.

        Raises:
            TrainingError: That fails.
        """
        if self._log is None:
            return 0
        self.flush()
        try:
            os.fsync(self._log.fileno())
            if os.fstat(self._log.fileno()).st_nlink == 0:
                raise FileNotFoundError(0, "it has been removed")
        except OSError as error:
            raise self._cannot_log(error) from error
        return self._log.tell()

    @property
    def log_bytes(self) -> int:
        """Length of the log on disk, in bytes."""
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def cut_log(self, length: int) -> None:
        """Forget the lines after a checkpoint: the steps they tell of are made again."""
        if self._log is None:
            raise StateError("the run folder is not open; call open(recipe) first")
        self._log.truncate(length)
        self._log.seek(0, os.SEEK_END)

    def close(self, run: Run | None = None) -> None:
        """Close the files and let others in; with a run, write the summary: it is finished.

        Raises:
            TrainingError: What was still to be written cannot be.
        """
        try:
            self._close_log()
            if run is not None:
                jsonfile.write(self.path / "run.json", run.to_dict())
                sync_folder(self.path)
        except (InputError, OSError) as error:
            raise TrainingError(f"cannot write the run's summary: {error}") from error
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.close()

    def _close_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            try:
                log.close()
            except OSError as error:
                raise self._cannot_log(error) from error

    def _cannot_log(self, error: OSError) -> TrainingError:
        return TrainingError(f"cannot write {self.path / 'metrics.jsonl'}: {error.strerror}")
