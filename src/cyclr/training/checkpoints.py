"""Checkpoints: a folder each, complete or not there at all, loaded without executing code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import nn

from cyclr import jsonfile
from cyclr.errors import InputError, TrainingError


def save_checkpoint(
    folder: Path, *, step: int, model: nn.Module, state: dict[str, Any], metrics: dict[str, float]
) -> Path:
    """Write ``folder/step-00001234`` with model.safetensors, state.pt and checkpoint.json.

    The files are written beside it and moved into place together, so a crash leaves no part of a
    checkpoint under its name.

    Args:
        folder: Where checkpoints are kept.
        step: Updates made so far.
        model: Whose parameters and buffers to keep.
        state: Optimizer and scheduler, for ``torch.load(weights_only=True)``.
        metrics: The evaluation at this point.

    Raises:
        TrainingError: The files cannot be written.
    """
    target = folder / f"step-{step:08d}"
    partial = folder / f".{target.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_model(model, str(partial / "model.safetensors"))
        torch.save(state, partial / "state.pt")
        jsonfile.write(partial / "checkpoint.json", {"step": step, "metrics": metrics})
        if target.exists():
            shutil.rmtree(target)
        partial.replace(target)
    except (OSError, RuntimeError, InputError) as error:
        raise TrainingError(f"cannot write the checkpoint {target}: {error}") from error
    return target
