"""Snapshots on disk: in no more memory, and of use after a crash."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import cyclr
from cyclr.errors import InputError
from cyclr.integrations.torch import Snapshot, range_test
from cyclr.integrations.torch.vault import DiskVault

SCRIPT = """
import os, signal, sys
import torch
from torch import nn
from cyclr.integrations.torch import range_test

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
batches = [(torch.randn(8, 4), torch.randn(8, 4))]
for _ in range(3):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(batches[0][0]), batches[0][1]).backward()
    optimizer.step()
torch.save((model.state_dict(), optimizer.state_dict()), sys.argv[2])

def die(test):
    if test.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

range_test(model, optimizer, batches, nn.functional.mse_loss, snapshot_dir=sys.argv[1], on_step=die)
"""


def test_after_a_crash_the_file_says_how_to_get_the_weights_back(tmp_path) -> None:
    folder, truth = tmp_path / "snapshots", tmp_path / "truth.pt"
    folder.mkdir()
    source = str(Path(cyclr.__file__).parents[1])
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(truth)],
        env={"PYTHONPATH": source, "PATH": "", "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert killed.returncode == -9
    (text,) = folder.glob("*.txt")
    recipe = re.findall(r"^ {4}(.*)$", text.read_text(), re.M)
    assert len(recipe) == 3
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    exec("\n".join(recipe), {"torch": torch, "model": model, "optimizer": optimizer})
    weights, state = torch.load(truth)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    loaded = optimizer.state_dict()
    assert loaded["param_groups"] == state["param_groups"]
    for key, entry in state["state"].items():
        assert all(torch.equal(entry[name], loaded["state"][key][name]) for name in entry)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_file_is_there_meanwhile_and_gone_afterwards(tmp_path, error) -> None:
    model = nn.Linear(4, 4)
    batches = [(torch.randn(8, 4), torch.randn(8, 4))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.clone() for p in model.parameters()]
    seen = []

    def on_step(test):
        seen.append(sorted(path.suffix for path in tmp_path.iterdir()))
        if error is not None and test.step == 3:
            raise error

    options = {"snapshot_dir": tmp_path, "on_step": on_step, "steps": 20}
    if error is None:
        range_test(model, optimizer, batches, nn.functional.mse_loss, **options)
    else:
        with pytest.raises(error):
            range_test(model, optimizer, batches, nn.functional.mse_loss, **options)
    assert {tuple(suffixes) for suffixes in seen} == {(".pt", ".txt")}
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_restoring_from_disk_again_and_again(tmp_path) -> None:
    model = nn.Linear(4, 4)
    before = model.weight.clone()
    memory = Snapshot(model, folder=tmp_path)
    for _ in range(3):
        with torch.no_grad():
            model.weight.zero_()
        memory.restore()
        assert torch.equal(model.weight, before)
    memory.forget()
    memory.forget()


def test_tied_tensors_are_written_once(tmp_path) -> None:
    model = nn.ModuleList([nn.Linear(256, 256, bias=False) for _ in range(4)])
    for layer in model[1:]:
        layer.weight = model[0].weight
    with Snapshot(model, folder=tmp_path):
        (file,) = tmp_path.glob("*.pt")
        assert file.stat().st_size < 1.2 * 256 * 256 * 4


def test_a_folder_that_is_not_there(tmp_path) -> None:
    with pytest.raises(InputError, match="snapshot_dir must be a folder that exists"):
        DiskVault(tmp_path / "gone")


def test_a_full_disk_is_named_before_anything_happens(tmp_path, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    model = nn.Linear(4, 4)
    with pytest.raises(InputError, match="No space left on device; make room"):
        Snapshot(model, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
