"""What the first issue promises on CIFAR-10: minutes, hence slow."""

from pathlib import Path

import pytest

from cyclr.experiments.pipeline import run_task
from cyclr.experiments.tasks import load_task

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10.is_dir(), reason="CIFAR-10's parquet files are not in ../shared")
def test_five_epochs_of_cifar10_with_nothing_tuned_reach_75_percent(tmp_path) -> None:
    run = run_task(load_task("cifar10", str(CIFAR10)), epochs=5, folder=tmp_path / "run")
    assert run.metrics["val_accuracy"] >= 0.75
    assert run.steps == 5 * 390
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "checkpoints",
        "environment.json",
        "metrics.jsonl",
        "reading.json",
        "recipe.json",
        "record.json",
        "run.json",
    ]
