"""Checkpoints: a folder each, complete or not there at all, loaded without executing code.

::

    checkpoints/step-00001234/
        model.safetensors   parameters and buffers
        ema.safetensors     their moving average     (if there is one)
        state.pt            everything else that training needs, for weights_only loading
        checkpoint.json     run, step, metrics, and the size and SHA-256 of the other files

The files are written in a folder beside it, forced to disk, and moved into place together: a crash
at any moment leaves no part of a checkpoint under its name, and the ones before it as they were.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from cyclr import jsonfile
from cyclr.errors import CheckpointError, InputError, TrainingError

_FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})")
_MANIFEST = "checkpoint.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One complete checkpoint.

    Attributes:
        path: Its folder.
        step: Updates made.
        metrics: The evaluation at this point; empty if there was none.
        cycle_end: Whether a cycle ended here.
        stopping_point: Whether the recipe names it as a good place to stop.
        run: The identity of the run that wrote it.
        log_bytes: Length of the run's metrics.jsonl at this point, in bytes.
    """

    path: Path
    step: int
    metrics: Mapping[str, float]
    cycle_end: bool
    stopping_point: bool
    run: str | None
    log_bytes: int


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    model: nn.Module | Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    metrics: Mapping[str, float],
    ema: nn.Module | None = None,
    run: str | None = None,
    cycle_end: bool = False,
    stopping_point: bool = False,
    log_bytes: int = 0,
) -> Path:
    """Write ``folder/step-00001234``.

    Args:
        folder: Where checkpoints are kept.
        step: Updates made so far.
        model: Whose parameters and buffers to keep, or these by name.
        state: What else to keep, for ``torch.load(weights_only=True)``.
        metrics: The evaluation at this point.
        ema: A moving average of the model.
        run: The identity of the run.
        cycle_end: Whether a cycle ended here.
        stopping_point: Whether the recipe names it as a good place to stop.
        log_bytes: Length of the run's log at this point.

    Raises:
        TrainingError: The files cannot be written; everything that was there still is.
    """
    target = folder / f"step-{step:08d}"
    partial = folder / f".{target.name}.partial"
    facts: dict[str, Any] = {
        "cyclr_checkpoint": _FORMAT,
        "run": run,
        "step": step,
        "cycle_end": cycle_end,
    }
    facts |= {"stopping_point": stopping_point, "log_bytes": log_bytes, "metrics": dict(metrics)}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _save_model(model, partial / "model.safetensors")
        if ema is not None:
            save_model(ema, str(partial / "ema.safetensors"))
        _save_state(state, partial / "state.pt")
        facts["files"] = {path.name: _seal(path) for path in sorted(partial.iterdir())}
        jsonfile.write(partial / _MANIFEST, facts)
        sync_folder(partial)
        _move_into_place(partial, target)
    except (OSError, RuntimeError, InputError, SafetensorError) as error:
        # What is written so far is of no use to anyone, and on a full disk in the way.
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(f"cannot write the checkpoint {target}: {_reason(error)}") from error
    return target


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _save_model(model: nn.Module | Mapping[str, torch.Tensor], path: Path) -> None:
    if isinstance(model, nn.Module):
        save_model(model, str(path))
    else:
        save_file({name: tensor.contiguous() for name, tensor in model.items()}, str(path))


def _save_state(state: Mapping[str, Any], path: Path) -> None:
    try:
        torch.save(dict(state), path)
    except RuntimeError as error:
        # torch says no more than that writing failed; the system says why when it fails again.
        with path.open("ab") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        raise RuntimeError(f"torch cannot save the state: {error}") from error


def _seal(path: Path) -> dict[str, Any]:
    """Force a file to disk and say what it holds."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return {
            "bytes": os.fstat(file.fileno()).st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk, where the system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move_into_place(partial: Path, target: Path) -> None:
    if target.exists():
        # The same step again, after going on from an earlier one. A folder with content cannot be
        # replaced in one move; between the two moves the earlier checkpoint is the good one.
        replaced = target.with_name(f".{target.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
        partial.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        partial.rename(target)
    sync_folder(target.parent)


def list_steps(folder: Path) -> list[int]:
    """List the steps of the checkpoints in a folder, good or not, the earliest first."""
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def read_checkpoint(
    path: Path, *, run: str | None = None, if_cycle_end: bool = False
) -> Checkpoint:
    """Read a checkpoint's description, and make sure that its files are whole.

    Args:
        path: The checkpoint's folder.
        run: The identity of the run it must belong to; None for any.
        if_cycle_end: Look at the files only where it is one of a cycle's end.

    Raises:
        CheckpointError: It is damaged or belongs to another run; the message names the file.
    """
    try:
        data = jsonfile.read(path / _MANIFEST, what="a checkpoint's description")
        if data["cyclr_checkpoint"] != _FORMAT:
            raise TypeError(f"it is of format {data['cyclr_checkpoint']}, not {_FORMAT}")
        found = Checkpoint(
            path=path,
            step=int(data["step"]),
            metrics={name: float(value) for name, value in data["metrics"].items()},
            cycle_end=bool(data["cycle_end"]),
            stopping_point=bool(data["stopping_point"]),
            run=data["run"],
            log_bytes=int(data["log_bytes"]),
        )
        files = dict(data["files"])
    except InputError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path / _MANIFEST} is no cyclr checkpoint's: {error!r}") from error
    if run is not None and found.run != run:
        raise CheckpointError(f"{path} belongs to another run ({found.run}, this one is {run})")
    if found.cycle_end or not if_cycle_end:
        for name, seal in files.items():
            _verify(path / name, seal)
    return found


def _verify(path: Path, seal: Mapping[str, Any]) -> None:
    try:
        size = path.stat().st_size
        if size != seal["bytes"]:
            raise CheckpointError(
                f"{path} is truncated or changed: it has {size:,} bytes instead of "
                f"{seal['bytes']:,}"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if digest != seal["sha256"]:
        raise CheckpointError(f"{path} is damaged: its checksum is not the one it was written with")


def latest_good(
    folder: Path, *, run: str | None, log_bytes: int, tell: Callable[[str], None]
) -> Checkpoint | None:
    """Find the latest checkpoint that is whole and belongs to the run.

    Args:
        folder: Where checkpoints are kept.
        run: The run's identity.
        log_bytes: Length of the run's log now: a checkpoint from beyond its end cannot be used.
        tell: Called with a sentence about every later checkpoint that cannot be used.

    Raises:
        CheckpointError: There are checkpoints, and none can be used.
    """
    problems = []
    for step in reversed(list_steps(folder)):
        path = folder / f"step-{step:08d}"
        try:
            found = read_checkpoint(path, run=run)
            if found.log_bytes > log_bytes:
                raise CheckpointError(
                    f"{path} needs {found.log_bytes:,} bytes of metrics.jsonl, which has lost some "
                    f"and has {log_bytes:,}"
                )
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            tell(f"{problem}; it is left as it is, and the one of step {step:,} is used")
        return found
    if problems:
        raise CheckpointError(
            f"none of the checkpoints in {folder} can be used: {'; '.join(problems)}; "
            "restore one from a copy, or train anew into another folder"
        )
    return None


def load_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read a checkpoint's state without executing code.

    Raises:
        CheckpointError: It cannot be read so.
    """
    path = checkpoint.path / "state.pt"
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways
        raise CheckpointError(
            f"{path} cannot be read without executing code, which cyclr never does: "
            f"{_reason(error)}"
        ) from error
    return state


def load_weights(model: nn.Module, path: Path) -> None:
    """Put a safetensors file's values into a model, in place.

    Raises:
        CheckpointError: The model has other parameters or buffers than the file, or other shapes.
    """
    try:
        load_model(model, str(path))
    except (RuntimeError, SafetensorError, OSError) as error:
        words = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} does not fit the model: {words}; build the model that was trained"
        ) from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file by name.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        return dict(load_file(str(path)))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {_reason(error)}") from error


def prune(folder: Path, *, keep: int, protected: set[int]) -> None:
    """Remove all but the latest ``keep`` checkpoints and the protected ones."""
    for step in list_steps(folder)[:-keep]:
        if step not in protected:
            path = folder / f"step-{step:08d}"
            # Out of sight first: a crash while removing must not leave half of one under its name.
            hidden = path.with_name(f".{path.name}.removed")
            shutil.rmtree(hidden, ignore_errors=True)
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what a crash left of checkpoints being written, replaced or removed."""
    if folder.is_dir():
        for path in folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)
