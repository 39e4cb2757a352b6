"""Small runs of the papers' machinery, for its tests."""

import copy
from pathlib import Path
from typing import Any

from cyclr import LinearSweep, Recipe, Triangular
from cyclr.experiments.grid import Grid, get_grid
from cyclr.experiments.results import result_path
from cyclr.experiments.runspec import RunSpec
from cyclr.experiments.store import write_result

GRID = """
title = "A table"
source = "nowhere, Table 1"
note = "For tests."

[defaults]
data = { name = "synthetic", size = 8, train = 60 }
net = { kind = "densenet40", depth = 7 }
optimizer = { kind = "caffe_sgd", momentum = 0.9, weight_decay = 1e-4 }
batch_size = 10
evaluate_every = 4
steps = 12

[tiers.full]
seeds = [0, 1]
note = "All of it."

[tiers.cpu]
seeds = [0]
scale = 0.5

[[rows]]
name = "fixed"
label = "fixed rate"
printed = 50.0
policy = { kind = "constant", value = 0.05 }

[[rows]]
name = "fixed-4"
label = "fixed rate, cut"
in = ["full"]
cut = "fixed"
steps = 4

[[rows]]
name = "sweep"
label = "range test"
in = ["full"]
evaluate_every = 1
policy = { kind = "linear_sweep", start_lr = 0.0, end_lr = 0.3, steps = 12 }

[[rows]]
name = "planned"
label = "planned"
in = ["full"]
note = "From the sweep."
policy = { range_test = "sweep", plan = "one_cycle" }

[[rows]]
name = "cycle"
label = "one cycle"
policy = { kind = "triangular", base_lr = 0.01, max_lr = 0.1, stepsize = "0.5run" }

[rows.tiers.cpu]
steps = 8

[[claims]]
text = "the cycle beats the fixed rate"
a = "cycle"
b = "fixed"
relation = "beats"
"""


def write_grid(folder: Path, text: str = GRID) -> Path:
    """Write a grid named paper-table below a folder; returns the folder of the papers."""
    (folder / "papers" / "paper").mkdir(parents=True)
    (folder / "papers" / "paper" / "table.toml").write_text(text)
    return folder / "papers"


def small_spec(**changes: Any) -> RunSpec:
    """A run of 12 steps with everything random that there is."""
    settings: dict[str, Any] = {
        "data": {"name": "synthetic", "size": 8, "train": 60},
        "net": {"kind": "densenet40", "depth": 7, "dropout": 0.2},
        "optimizer": {"kind": "caffe_sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "recipe": Recipe(lr=Triangular(base_lr=0.01, max_lr=0.1, stepsize=3), total_steps=12),
        "seed": 3,
        "batch_size": 16,
        "augment": "crop_mirror",
        "evaluate_every": 5,
        "measures": ("hessian_free_each_step", "snapshots"),
    }
    return RunSpec(**{**settings, **changes})


def result_of(recipe: Recipe, losses: list[float], accuracies: list[float]) -> dict[str, Any]:
    """A finished run's result, as far as readings and tables look at it."""
    steps = recipe.total_steps
    every = steps // len(accuracies)
    evaluations = [
        {"step": (i + 1) * every, "accuracy": accuracy, "loss": 1.0}
        for i, accuracy in enumerate(accuracies)
    ]
    return {
        "cyclr_result": 1,
        "grid": "paper-table",
        "tier": "full",
        "row": "sweep",
        "seed": 0,
        "outcome": "completed",
        "accuracy": accuracies[-1],
        "steps": steps,
        "spec": small_spec(recipe=recipe).to_dict(),
        "measures": {},
        "data_fingerprint": "0123456789abcdef",
        "speed": {"ratio": 0.9},
        "steps_per_cpu_second": 20.5,
        "curve": {"stretch": steps // len(losses), "loss": losses, "evaluations": evaluations},
    }


def sweep_result() -> dict[str, Any]:
    """A range test whose accuracy rises from .002 on and slows at .006."""
    recipe = Recipe(lr=LinearSweep(start_lr=0.0, end_lr=0.02, steps=4000), total_steps=4000)
    rates = [0.02 * (i + 1) / 40 for i in range(40)]
    rise = [min(1.0, max(0.0, (rate - 0.001) / 0.005)) for rate in rates]
    return result_of(recipe, [2.3 - r for r in rise], [0.1 + 0.5 * r for r in rise])


def write_finished(grid: Grid, result: dict[str, Any]) -> Path:
    """Keep a result beside the grid as one of the settings that the grid has; gives its file."""
    row, tier, seed = result["row"], result["tier"], result["seed"]
    spec = grid.resolve(grid.row(row), tier, seed).to_dict()
    path = result_path(grid, row, tier, seed)
    write_result(path, {**result, "spec": spec})
    return path


def trained_result(row: str, seed: int, accuracy: float) -> dict[str, Any]:
    """A finished run of twelve updates, evaluated after 4, 8 and 12."""
    evaluations = [{"step": 4 * i, "accuracy": accuracy - 0.03 + i / 100} for i in (1, 2, 3)]
    return {
        **copy.deepcopy(sweep_result()),
        "row": row,
        "seed": seed,
        "accuracy": accuracy,
        "steps": 12,
        "steps_per_cpu_second": 20.0 + seed,
        "speed": {"ratio": 0.9},
        "curve": {"stretch": 1, "loss": [2.0] * 12, "evaluations": evaluations},
    }


def grid_with(folder: Path, *results: dict[str, Any], text: str = GRID) -> Grid:
    """Write the grid below a folder, with finished runs beside it."""
    grid = get_grid(write_grid(folder, text), "paper-table")
    for result in results:
        write_finished(grid, result)
    return grid
