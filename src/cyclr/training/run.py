"""A run: one finished training, and how its log is read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclr import jsonfile
from cyclr.errors import RecordError
from cyclr.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training.

    Attributes:
        recipe: What was run, with what was decided on the way.
        steps: How many updates were made.
        outcome: Why it ended, in words.
        metrics: The last evaluation, by name; empty without validation data.
        folder: Where it is kept, or None.
        recommended: The step of the model to take: the end of the last finished cycle; None if no
            cycle ended.
        best: The step whose evaluation was the best; None without validation data.
        skipped: Updates that mixed precision skipped; they count nowhere else.
        decisions: What was decided at cycle ends, as ``{"step", "decision", "why"}``.
        snapshots: What the models of the cycle ends give together, if that was asked for.
        extensions: How often cycles were added.
    """

    recipe: Recipe
    steps: int
    outcome: str
    metrics: Mapping[str, float]
    folder: Path | None
    recommended: int | None = None
    best: int | None = None
    skipped: int = 0
    decisions: Sequence[Mapping[str, Any]] = ()
    snapshots: Mapping[str, Any] = field(default_factory=dict)
    extensions: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Write the summary as plain data."""
        return {
            "cyclr_run": 1,
            "steps": self.steps,
            "outcome": self.outcome,
            "metrics": dict(self.metrics),
            "folder": None if self.folder is None else str(self.folder),
            "recommended": self._model(self.recommended),
            "best": self._model(self.best),
            "skipped_updates": self.skipped,
            "decisions": [dict(decision) for decision in self.decisions],
            "snapshots": dict(self.snapshots),
            "extensions": self.extensions,
            "recipe": self.recipe.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Run:
        """Read a finished run's summary.

        Raises:
            RecordError: There is none, or it is damaged.
        """
        path = Path(folder) / "run.json"
        data = jsonfile.read(path, what="a run's summary")
        try:
            return cls(
                recipe=Recipe.from_dict(data["recipe"]),
                steps=data["steps"],
                outcome=data["outcome"],
                metrics={name: float(value) for name, value in data["metrics"].items()},
                folder=Path(folder),
                recommended=(data["recommended"] or {}).get("step"),
                best=(data["best"] or {}).get("step"),
                skipped=data["skipped_updates"],
                decisions=data["decisions"],
                snapshots=data["snapshots"],
                extensions=data["extensions"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"{path} is not a run's summary: {error!r}") from error

    @staticmethod
    def _model(step: int | None) -> dict[str, Any] | None:
        if step is None:
            return None
        return {"step": step, "model": f"checkpoints/step-{step:08d}/model.safetensors"}


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a run's metrics, one dict per line.

    A last line without an end, as a crash or a writer at work leaves it, is left out.

    Raises:
        RecordError: The folder is not a run's, or a line is damaged.
    """
    path = Path(folder) / "metrics.jsonl"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{folder} is not a run's folder: cannot read {path}: {error}") from error
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [_line(path, number, line) for number, line in enumerate(lines, start=1)]


def _line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            raise TypeError("it is not an object")
    except (json.JSONDecodeError, TypeError) as error:
        raise RecordError(f"{path} is damaged in line {number}: {error}") from error
    return {k: float(v) if v in ("nan", "inf", "-inf") else v for k, v in data.items()}
