"""How to make a training shorter so that it still says which rate the whole one does best with.

Cut short: fewer epochs of all the images. In small: all the epochs of fewer images. Both make as
many updates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import cyclr
from benchmarks.tuning.tasks import CASES, Case
from cyclr.errors import TrainingError
from cyclr.experiments import pipeline
from cyclr.rangetest import Reading
from cyclr.tuning.running import some_of

ARM = "lengths"  # its name in the cache
SEED = 0
FACTORS = (1, 3, 9)  # times the rate that the range test reads
WAYS: dict[str, tuple[float, float]] = {  # share of the epochs, share of the images
    "the whole training": (1, 1),
    "cut to half of the epochs": (1 / 2, 1),
    "half of the images": (1, 1 / 2),
    "cut to a quarter of the epochs": (1 / 4, 1),
    "a quarter of the images": (1, 1 / 4),
}

Result = dict[str, Any]


def measure(case: Case, say: Callable[[str], None]) -> Result:
    """Train in every way at every rate; give the validation losses and accuracies."""
    task = case.task()
    reading = pipeline.find(pipeline.build(task, seed=SEED)).read()
    rows = []
    for way, (epochs, images) in WAYS.items():
        for factor in FACTORS:
            count = round(images * len(task.train[1]))
            part = dataclasses.replace(task, train=some_of(task.train, count, SEED))
            found = _train(part if images < 1 else task, _times(reading, factor), epochs)
            rows.append({"way": way, "factor": factor, **found})
            say(f"{way}, {factor} x: {found}")
    return {"max_lr": reading.max_lr, "rows": rows}


def _times(reading: Reading, factor: float) -> Reading:
    return dataclasses.replace(
        reading, base_lr=factor * reading.base_lr, max_lr=factor * reading.max_lr
    )


def _train(task: cyclr.Task, reading: Reading, share: float) -> Result:
    parts = pipeline.build(task, seed=SEED)
    steps = round(share * task.epochs * parts.steps_per_epoch)
    try:
        run = pipeline.train(parts, cyclr.plan(reading, total_steps=steps), probe_every=None)
    except TrainingError:
        return {"steps": steps, "val_loss": "inf", "val_accuracy": 0.0}
    return {"steps": steps, **{k: round(run.metrics[k], 4) for k in ("val_loss", "val_accuracy")}}


def tables(cached: dict[str, Any]) -> Iterator[str]:
    """Write what is in the cache.

    Args:
        cached: A task's result by its name.
    """
    if not cached:
        return
    yield "\n## Cut short, or in small\n"
    yield (
        "Validation loss (and accuracy) at multiples of the rate that the range test reads, with "
        f"seed {SEED}. Cut short: fewer epochs of all the images; in small: all the epochs of "
        "fewer images."
    )
    for name, result in cached.items():
        yield f"\n{name}, 1 is a max_lr of {result['max_lr']:.3g}:\n"
        yield "| | updates | " + " | ".join(f"{factor}" for factor in FACTORS) + " |"
        yield "|---" * (2 + len(FACTORS)) + "|"
        for way in WAYS:
            rows = [row for row in result["rows"] if row["way"] == way]
            cells = [f"{row['val_loss']} ({100 * row['val_accuracy']:.1f})" for row in rows]
            yield f"| {way} | {rows[0]['steps']:,} | " + " | ".join(cells) + " |"


COMPARED = [case for case in CASES if case.name != "digits"]
