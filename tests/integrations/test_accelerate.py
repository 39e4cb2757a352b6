"""The torch scheduler in Accelerate's hands: prepared, stepped per process, saved and loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="needs the extra cyclr[training]")

import torch
from accelerate import Accelerator
from accelerate.scheduler import AcceleratedScheduler
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cyclr import Opposite, Recipe, Triangular2
from cyclr.integrations.torch import Scheduler

CYCLE = Triangular2(base_lr=0.01, max_lr=0.1, stepsize=4, cycles=3)
RECIPE = Recipe(
    lr=CYCLE,
    momentum=Opposite(schedule=CYCLE, bottom=0.01, top=0.1, low=0.85, high=0.95),
    total_steps=24,
)


class Training:
    """The loop that Accelerate's documentation shows."""

    def __init__(self, **options) -> None:
        torch.manual_seed(0)
        self.accelerator = Accelerator(cpu=True, **options)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
        data = DataLoader(TensorDataset(torch.randn(128, 3)), batch_size=8)
        parts = (model, optimizer, data, Scheduler(optimizer, RECIPE))
        self.model, self.optimizer, self.data, self.scheduler = self.accelerator.prepare(*parts)
        self.used = []
        optimizer.register_step_pre_hook(self._note)
        self.stream = self._endless()

    def _note(self, optimizer, *_) -> None:
        group = optimizer.param_groups[0]
        self.used.append({"lr": group["lr"], "momentum": group["momentum"]})

    def _endless(self):
        while True:
            yield from self.data

    def run(self, batches):
        for _ in range(batches):
            (inputs,) = next(self.stream)
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(self.model(inputs).square().mean())
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
        return self.used


def due(start, stop):
    return [pytest.approx(RECIPE.values(step)) for step in range(start, stop)]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_prepared_under_accumulation(accumulate) -> None:
    training = Training(gradient_accumulation_steps=accumulate)
    assert isinstance(training.scheduler, AcceleratedScheduler)
    assert training.run(20 * accumulate) == due(0, 20)


def test_a_call_for_each_process_moves_one_step(monkeypatch) -> None:
    training = Training()
    assert not training.scheduler.split_batches
    # Without split_batches, Accelerate calls the scheduler once for each process.
    four = property(lambda _: 4)
    monkeypatch.setattr(AcceleratorState, "num_processes", four, raising=False)
    assert AcceleratorState().num_processes == 4
    assert training.run(20) == due(0, 20)


def test_saved_and_loaded(tmp_path) -> None:
    whole = Training()
    whole.run(24)
    begun = Training()
    begun.run(11)
    begun.accelerator.save_state(str(tmp_path))
    resumed = Training()
    resumed.accelerator.load_state(str(tmp_path))
    for _ in range(11):
        next(resumed.stream)
    assert resumed.run(13) == due(11, 24)
    assert torch.equal(resumed.model.weight, whole.model.weight)


def test_in_two_real_processes(tmp_path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        f"import json, sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_accelerate import Training\n"
        "training = Training(gradient_accumulation_steps=2)\n"
        "used = training.run(24)\n"
        "rank = training.accelerator.process_index\n"
        "text = json.dumps([training.accelerator.num_processes, used])\n"
        f"open({str(tmp_path)!r} + f'/{{rank}}.json', 'w').write(text)\n"
        # A process that leaves while the other still talks to it makes that one abort.
        "training.accelerator.wait_for_everyone()\n"
        "training.accelerator.end_training()\n"
        # gloo's threads now and then abort an interpreter that is torn down around them.
        "import os\nos._exit(0)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=0", "--standalone", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        processes, used = json.loads((tmp_path / f"{rank}.json").read_text())
        assert processes == 2
        assert used == due(0, 12)
