"""A range test in two data-parallel processes, for real, over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cyclr
from cyclr import RangeRecord
from cyclr.integrations.torch.processes import Processes

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch is built without gloo",
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Run two processes and give what each wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("ranks.py")
    source = str(Path(cyclr.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    outs = [folder / f"{rank}.json" for rank in range(2)]
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), "2", str(folder / "meet"), str(out)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [json.loads(out.read_text()) for out in outs]


def test_every_process_has_the_same_record(ranks) -> None:
    one, two = (rank["sweep"]["record"] for rank in ranks)
    assert one == two
    record = RangeRecord.from_dict(one)
    assert 40 < len(record) <= 150
    assert record.read().max_lr > 0


def test_validation_in_some_processes_only_is_refused_in_all(ranks) -> None:
    for rank in ranks:
        assert "validate or validate_every differ between the processes" in rank["validating"]


def test_the_loss_is_the_mean_over_processes(ranks) -> None:
    one, two = (rank["sweep"]["own"] for rank in ranks)
    record = RangeRecord.from_dict(ranks[0]["sweep"]["record"])
    losses = [*record.scout.loss, *record.loss, *record.way_back.loss]
    assert len(one) == len(two) == record.updates
    assert one != two  # each has its own part of the data
    assert losses == pytest.approx(np.mean([one, two], axis=0), rel=1e-6)


def test_metrics_are_averaged_too(ranks) -> None:
    record = RangeRecord.from_dict(ranks[0]["sweep"]["record"])
    assert set(record.metrics["val_loss"].values) == {0.5}


def test_a_failure_in_one_process_ends_the_sweep_in_all(ranks) -> None:
    one, two = (RangeRecord.from_dict(rank["failing"]) for rank in ranks)
    assert one.outcome == two.outcome == cyclr.Outcome.NON_FINITE
    assert len(one) == len(two) == 9
    assert "In another process" in one.notes[0]
    assert "the posterior is not finite" in two.notes[0]


def test_the_training_that_follows_is_bit_identical(ranks) -> None:
    for rank in ranks:
        assert len(rank["plain"]) == 10
        assert rank["tested"] == rank["plain"]


def test_alone_nothing_is_exchanged() -> None:
    alone = Processes(torch.device("cpu"))
    assert alone.count == 1
    assert alone.mean({"loss": 2.0}) == {"loss": 2.0}
