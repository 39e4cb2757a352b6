"""Faults: what is done to a run, what the user is told, and that nothing is lost."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cyclr import Triangular
from cyclr.errors import CheckpointError, InputError, Interrupted, TrainingError
from cyclr.training import make_loader
from cyclr.training.run import read_metrics
from small_runs import (
    RECIPE,
    StopAfter,
    assert_same,
    assert_same_run,
    contents,
    data,
    net,
    noisy,
    run,
    steps,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


class Crash(Exception):
    """What a user's own code may raise."""


def crash() -> None:
    raise Crash


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A run that crashed in its 41st update: checkpoints of 28, 35, 40 and its log beyond."""
    folder = tmp_path / "cut"
    with pytest.raises(Crash):
        run(folder, loss=StopAfter(44, crash))
    assert steps(folder)[-2:] == [40, 42]
    return folder


def _resume(folder: Path, **options: Any) -> list[str]:
    """Go on; give the remarks."""
    remarks: list[str] = []
    run(folder, resume=True, on_remark=remarks.append, **options)
    return remarks


def test_a_crash_of_the_users_code(whole: Path, cut: Path) -> None:
    assert _resume(cut) == [f"going on from {cut}/checkpoints/step-00000042"]
    assert_same_run(whole, cut)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(whole: Path, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "run"
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        run(folder, loss=StopAfter(33, lambda: os.kill(os.getpid(), number)))
    name = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[number]
    assert str(caught.value) == (
        f"stopped by {name} after step 33 of 60; a checkpoint has been written; to go on, make the "
        "same call again with resume=True"
    )
    assert (caught.value.signal, caught.value.step) == (number, 33)
    assert steps(folder)[-1] == 33
    assert signal.getsignal(number) is before
    _resume(folder)
    assert_same_run(whole, folder)


def test_ctrl_c_twice_interrupts_at_once(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        run(folder, loss=StopAfter(33, twice))
    assert not isinstance(caught.value, Interrupted)
    assert steps(folder)[-1] == 28
    _resume(folder)
    assert_same_run(whole, folder)


def test_a_signal_without_a_folder_says_that_nothing_is_kept() -> None:
    with pytest.raises(Interrupted, match="there is no run folder, so nothing has been kept"):
        run(None, loss=StopAfter(5, lambda: os.kill(os.getpid(), signal.SIGTERM)))


def test_a_signal_at_the_last_update_ends_the_run_as_planned(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", loss=StopAfter(60, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert (tmp_path / "run" / "run.json").exists()
    assert_same_run(whole, tmp_path / "run")


def test_cut_off_before_the_first_checkpoint(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        run(folder, loss=StopAfter(5, crash))
    assert steps(folder) == []
    assert _resume(folder) == ["going on from the beginning: no checkpoint had been written"]
    assert_same_run(whole, folder)


def test_a_finished_run_is_given_back(whole: Path) -> None:
    before = contents(whole)
    model = net()
    again = run(whole, resume=True, model=model)
    assert contents(whole) == before
    end = whole / "checkpoints" / "step-00000060"
    saved = torch.load(end / "state.pt", weights_only=True)
    assert (again.steps, again.metrics) == (60, saved["metrics"])
    assert_same(dict(model.state_dict()), load_file(str(end / "model.safetensors")))


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Any]:
    """Mount a small disk of its own; gives its folder and a function to change it."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "cyclr-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a disk needs root")
    yield (
        place,
        lambda options: subprocess.run(
            ["mount", "-o", f"remount,{options}", str(place)], check=True
        ),
    )
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(whole: Path, disk: Any) -> None:
    place, remount = disk
    folder = place / "run"
    with pytest.raises(TrainingError) as caught:
        run(folder)
    message = str(caught.value)
    assert "No space left on device" in message
    kept = steps(folder)
    assert kept
    assert f"the checkpoint of step {kept[-1]} is whole" in message
    assert message.endswith("make room; to go on, make the same call again with resume=True")
    assert not list((folder / "checkpoints").glob(".*"))
    remount("size=10m")
    assert _resume(folder) == [f"going on from {folder}/checkpoints/step-{kept[-1]:08d}"]
    assert_same_run(whole, folder)


def test_a_disk_that_is_full_from_the_start(disk: Any) -> None:
    place, _ = disk
    (place / "filler").write_bytes(b"x" * 118_000)
    with pytest.raises(InputError, match=r"cannot .*No space left on device"):
        run(place / "run")
    assert not (place / "run").exists()
    assert [p.name for p in place.iterdir()] == ["filler"]


def test_a_full_disk_while_the_log_is_written(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    fsync = os.fsync

    def full(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        if name == "metrics.jsonl" and len(calls) >= 3:
            raise OSError(28, "No space left on device")
        calls.append(handle)
        fsync(handle)

    calls: list[int] = []
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match=r"cannot write .*metrics.jsonl: No space left on devi"):
        run(folder)
    monkeypatch.undo()
    _resume(folder)
    assert_same_run(whole, folder)


def test_a_read_only_folder(whole: Path, disk: Any) -> None:
    place, remount = disk
    remount("size=10m")
    folder = place / "run"
    with pytest.raises(Crash):
        run(folder, loss=StopAfter(44, crash))
    before = contents(place)
    remount("ro")
    for path in (folder, place / "other"):
        with pytest.raises(InputError, match="Read-only file system"):
            run(path, resume=path == folder)
    assert contents(place) == before
    remount("rw")
    _resume(folder)
    assert_same_run(whole, folder)


def test_the_folder_is_removed_while_training(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"cannot write .*metrics\.jsonl: it has been removed"):
        run(folder, loss=StopAfter(30, lambda: shutil.rmtree(folder)))
    assert not folder.exists()
    run(folder, loss=StopAfter(30, lambda: shutil.rmtree(folder / "checkpoints")))
    assert_same_run(whole, folder)  # the checkpoints that were to come are there


# Damaged and foreign checkpoints


def _damage(cut: Path, whole: Path, how: str) -> str:
    """Damage the latest checkpoint; give the words that must name it."""
    last = cut / "checkpoints" / "step-00000042"
    state = last / "state.pt"
    if how == "truncated":
        state.write_bytes(state.read_bytes()[:100])
        return "state.pt is truncated or changed: it has 100 bytes instead of"
    if how == "one bit":
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(bytes(content))
        return "state.pt is damaged: its checksum is not the one it was written with"
    if how == "foreign":
        shutil.rmtree(last)
        shutil.copytree(whole / "checkpoints" / "step-00000060", last)
        return "step-00000042 belongs to another run"
    if how == "no description":
        (last / "checkpoint.json").unlink()
        return "step-00000042 is damaged: cannot read a checkpoint's description"
    if how == "missing file":
        (last / "model.safetensors").unlink()
        return "model.safetensors cannot be read: No such file"
    earlier = json.loads((last.with_name("step-00000040") / "checkpoint.json").read_text())
    os.truncate(cut / "metrics.jsonl", earlier["log_bytes"] + 10)
    return "bytes of metrics.jsonl, which has lost some"


@pytest.mark.parametrize(
    "how", ["truncated", "one bit", "foreign", "no description", "missing file", "log cut"]
)
def test_a_checkpoint_that_cannot_be_used(whole: Path, cut: Path, how: str) -> None:
    words = _damage(cut, whole, how)
    first, last = _resume(cut)
    assert words in first
    assert first.endswith("it is left as it is, and the one of step 40 is used")
    assert last == f"going on from {cut}/checkpoints/step-00000040"
    assert_same_run(whole, cut)


def test_only_damaged_checkpoints_are_an_error_and_left_alone(cut: Path) -> None:
    for state in (cut / "checkpoints").glob("*/state.pt"):
        state.write_bytes(b"PK")
    before = contents(cut)
    with pytest.raises(CheckpointError) as caught:
        _resume(cut)
    assert str(caught.value).startswith(f"none of the checkpoints in {cut}/checkpoints can be used")
    assert str(caught.value).count("is truncated or changed") == len(steps(cut))
    assert contents(cut) == before


def test_code_in_a_checkpoint_is_never_executed(cut: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    import hashlib

    last = cut / "checkpoints" / "step-00000042"
    (last / "state.pt").write_bytes(content := pickle.dumps(Evil()))
    facts = json.loads((last / "checkpoint.json").read_text())
    facts["files"]["state.pt"] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (last / "checkpoint.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="cannot be read without executing code"):
        _resume(cut)
    assert not (tmp_path / "executed").exists()


def test_a_torn_last_line_of_the_log(whole: Path, cut: Path) -> None:
    with (cut / "metrics.jsonl").open("a") as log:
        log.write('{"step": 43, "lo')
    assert read_metrics(cut)[-1]["step"] < 43
    _resume(cut)
    assert_same_run(whole, cut)


# Another training than the one that was begun


FEWER = tuple(tensor[:196] for tensor in data())
OTHER = RECIPE.replace(lr=Triangular(base_lr=0.01, max_lr=0.3, stepsize=10, cycles=3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": OTHER}, r"was trained by another recipe: lr was .*'max_lr': 0\.1.*0\.3"),
        ({"accumulate": 2}, r"other settings: accumulate was 1 and is now 2; go on with what"),
        ({"ema_decay": 0.9}, r"other settings: ema_decay was None and is now 0\.9"),
        ({"model": nn.Linear(8, 2)}, r"model\.safetensors does not fit the model: .*Missing key"),
        (
            {"make_optimizer": lambda p: torch.optim.AdamW(p)},
            r"with other data or another optimizer: the optimizer was SGD and is now AdamW; go on",
        ),
        (
            {
                "make_optimizer": lambda p: torch.optim.SGD(
                    p, lr=1.0, momentum=0.5, weight_decay=0.1
                )
            },
            r"or another optimizer: weight_decay of the optimizer was 0 and is now 0\.1; go on",
        ),
        (
            {"batches": make_loader(FEWER, 15, seed=5, augment=noisy)},
            r"with other data or another optimizer: batch_size was 16 and is now 15; batches_per_e",
        ),
        (
            {"batches": make_loader(FEWER, 16, seed=5, augment=noisy)},
            r"another optimizer: training_examples was 200 and is now 196; go on with what they",
        ),
    ],
    ids=[
        *("recipe", "accumulate", "ema", "model", "optimizer"),
        *("optimizer's setting", "batch size", "examples"),
    ],
)
def test_another_training_is_refused(cut: Path, options: dict[str, Any], words: str) -> None:
    before = contents(cut)
    with pytest.raises(CheckpointError, match=words):
        _resume(cut, **options)
    assert contents(cut) == before


def _forget_work(folder: Path) -> None:
    """Make a run one of an earlier version, which did not note data and optimizer."""
    path = folder / "environment.json"
    saved = json.loads(path.read_text())
    del saved["work"]
    path.write_text(json.dumps(saved))


def test_a_run_of_an_earlier_version_goes_on(whole: Path, cut: Path) -> None:
    _forget_work(cut)
    _resume(cut)
    assert_same_run(whole, cut)


def test_a_run_of_an_earlier_version_still_names_the_optimizer(cut: Path) -> None:
    _forget_work(cut)
    with pytest.raises(CheckpointError, match="was trained with SGD, and the optimizer is AdamW"):
        _resume(cut, make_optimizer=torch.optim.AdamW)


def test_what_has_no_influence_may_change(whole: Path, cut: Path) -> None:
    _resume(cut, keep=1, checkpoint_every=11, checkpoint_minutes=1.0)
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()


def test_a_folder_that_is_no_runs(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(CheckpointError, match="is not the folder of a run that can be gone on wi"):
        _resume(tmp_path)
    with pytest.raises(CheckpointError, match="is not the folder of a run"):
        _resume(tmp_path / "nothing")
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_a_loss_that_is_not_finite_leaves_the_checkpoints(tmp_path: Path) -> None:
    def nan(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        count.append(outputs.requires_grad)  # training, not evaluation
        factor = float("nan") if sum(count) > 36 else 1.0
        return nn.functional.cross_entropy(outputs, targets) * factor

    count: list[bool] = []
    with pytest.raises(TrainingError, match="the loss is nan at step 36"):
        run(tmp_path / "run", loss=nan)
    assert steps(tmp_path / "run")[-1] == 35


# The command


TASK = """
import time
import torch
from safetensors.torch import load_file
from torch import nn
from cyclr import Task

def slow():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 8, generator=generator)
    targets = (inputs.sum(1) > 0).long()

    def loss_fn(outputs, targets):
        time.sleep(0.004)
        return nn.functional.cross_entropy(outputs, targets)

    return Task(
        name="slow",
        model=lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 2)),
        train=(inputs, targets),
        validation=(inputs, targets),
        loss_fn=loss_fn,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        batch_size=16,
        epochs=30,
    )
"""


def _cyclr(here: Path, *argv: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cyclr", *argv]
    return subprocess.Popen(
        command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_command_is_told_to_stop_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(TASK)
    recipe = Triangular(base_lr=0.01, max_lr=0.1, stepsize=40, cycles=3)
    RECIPE.replace(lr=recipe, momentum=None, total_steps=240).save(tmp_path / "recipe.json")
    options = ("own.py:slow", "--recipe", "recipe.json", "--seed", "3", "--ema", "0.9")
    first = _cyclr(tmp_path, "fit", *options, "--out", "run", "--checkpoint-every", "10")
    log = tmp_path / "run" / "metrics.jsonl"
    for _ in range(3000):
        if log.exists() and len(read_metrics(tmp_path / "run")) > 50:
            break
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=120)
    assert (first.returncode, out) == (128 + signal.SIGTERM, "")
    (step,) = re.findall(r"stopped by SIGTERM after step (\d+) of 240; a checkpoint has been", err)
    assert err.rstrip().endswith("go on with: cyclr fit --resume run")
    second = _cyclr(tmp_path, "fit", "--resume", "run", "--json")
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert f"going on from run/checkpoints/step-{int(step):08d}" in err
    assert json.loads(out)["steps"] == 240
    third = _cyclr(tmp_path, "fit", *options, "--out", "whole")
    third.communicate(timeout=120)
    assert third.returncode == 0
    assert log.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


# The page


def test_every_row_of_the_page_about_faults_has_its_test() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "faults.md").read_text().splitlines()
        if line.startswith("|") and "`test_" in line
    ]
    written = "".join(path.read_text() for path in (ROOT / "tests" / "training").glob("*.py"))
    named = [name for row in rows for name in re.findall(r"`(test_\w+)", row)]
    assert len(rows) >= 20
    assert [name for name in named if f"def {name}(" not in written] == []
