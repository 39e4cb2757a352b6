"""A run's log, read for what it shows."""

import json
from pathlib import Path
from typing import Any

import pytest

from cyclr.report.runs import evaluation_at, signs_of_fit


def _run(folder: Path, val_losses: list[float]) -> Path:
    """Write the log of a run whose training loss falls and whose validation is given."""
    lines: list[dict[str, Any]] = []
    for step in range(10 * len(val_losses)):
        lines.append({"step": step, "loss": 2.0 / (1 + step), "lr": 0.1})
        if step % 10 == 9:
            lines.append({"step": step + 1, "val_loss": val_losses[step // 10]})
    folder.mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("val_losses", "words"),
    [
        ([1.0, 0.5, 0.4, 0.6, 0.9], "rose from 0.4000 at update 30 to 0.9000"),
        ([1.0, 0.5, 0.4, 0.4, 0.4], "had levelled off"),
        ([1.0, 0.5], ""),
    ],
)
def test_signs_of_fit(tmp_path: Path, val_losses: list[float], words: str) -> None:
    said = signs_of_fit(_run(tmp_path / "run", val_losses))
    assert words in said
    assert bool(said) == bool(words)
    assert ("a sign of overfitting" in said) == (val_losses[-1] == 0.9)


def test_an_evaluation_is_found_by_its_step(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", [1.0, 0.5, 0.4])
    assert evaluation_at(folder, 20) == {"val_loss": 0.5}
    assert evaluation_at(folder, 21) == evaluation_at(folder, None) == {}
