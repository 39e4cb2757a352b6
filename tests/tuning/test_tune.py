"""``tune`` for real: within its budget, into a recipe, gone on with, in several processes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model

from cyclr import Recipe
from cyclr.errors import InputError, Interrupted
from cyclr.experiments.pipeline import build, build_for, train
from cyclr.tuning import TrialResult, Tuning, plan_only, tune
from tuning.tasks import small, write_source

QUICK: dict[str, Any] = {"budget": 1200, "weight_decay": [1e-2, 1e-4], "momentum": [0.95]}


def _essence(tuning: Tuning) -> Any:
    """Give everything that must come out the same, and nothing that is time."""
    trials = [dataclasses.replace(result, seconds=0.0) for result in tuning.trials]
    return sorted((r.trial.key, repr(r)) for r in trials), tuning.recipe, tuning.words


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return tune(small(), folder=tmp_path_factory.mktemp("tunes") / "once", **QUICK)


def test_the_budget_is_kept_and_the_cost_is_told(once: Tuning) -> None:
    made = sum(result.sweep_updates + result.updates for result in once.trials)
    assert once.updates == made + 12
    assert once.updates <= 1200
    assert once.plan.updates <= 1200 - 12
    assert once.seconds == pytest.approx(sum(result.seconds for result in once.trials))


def test_every_weight_decay_has_a_range_test_of_its_own(once: Tuning) -> None:
    tried = {r.trial.weight_decay: r for r in once.trials if r.stage == "weight decay"}
    assert set(tried) == {1e-2, 1e-4}
    for decay, result in tried.items():
        assert result.record is not None
        assert result.record.optimizer["weight_decay"] == decay
        assert result.trial.reference is not None
        assert result.record.lr[0] == pytest.approx(result.trial.reference / 1000)


def test_the_recipe_has_the_winner_s_settings_at_full_length(once: Tuning) -> None:
    recipe = once.recipe
    assert recipe.total_steps == 80
    assert recipe.weight_decay is not None
    assert recipe.weight_decay(0) == once.winner.trial.weight_decay
    assert max(recipe.lr(k) for k in range(80)) == pytest.approx(once.winner.max_lr)
    assert any(note.startswith("Weight decay ") for note in recipe.notes)


def test_the_recipe_runs_as_it_is(once: Tuning) -> None:
    assert once.folder is not None
    parts, recipe = build_for(small(), once.folder / "recipe.json")
    assert recipe == once.recipe
    run = train(parts, recipe)
    assert run.metrics["val_accuracy"] > 0.88


def test_the_folder_holds_all_of_it(once: Tuning) -> None:
    assert once.folder is not None
    names = {path.name for path in once.folder.iterdir()}
    assert names == {
        "lock",
        "plan.json",
        "recipe.json",
        "request.json",
        "result.json",
        "speeds.json",
        "table.md",
        "trials",
    }
    assert (once.folder / "table.md").read_text() == once.table()
    result = json.loads((once.folder / "result.json").read_text())
    assert result["words"] == once.words
    assert len(result["trials"]) == len(once.trials)
    files = {path.stem for path in (once.folder / "trials").iterdir()}
    assert files == {result.trial.key for result in once.trials}


def test_the_same_again_reads_everything_and_runs_nothing(once: Tuning) -> None:
    ran: list[TrialResult] = []
    read: list[TrialResult] = []
    again = tune(small(), folder=once.folder, on_trial=ran.append, on_read=read.append, **QUICK)
    assert ran == []
    assert read == list(once.trials) == list(again.trials)
    assert again.to_dict() == once.to_dict()


def test_trials_that_are_missing_are_run_and_the_rest_is_read(once: Tuning, tmp_path: Path) -> None:
    assert once.folder is not None
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(once.folder), str(copy)], check=True)
    gone = once.trials[2].trial.key
    (copy / "trials" / f"{gone}.json").unlink()
    ran: list[TrialResult] = []
    again = tune(small(), folder=copy, on_trial=ran.append, **QUICK)
    assert [result.trial.key for result in ran] == [gone]
    assert _essence(again) == _essence(once)


def test_another_request_in_the_folder_is_refused(once: Tuning) -> None:
    with pytest.raises(InputError, match="holds a tune with seed 0, and this one has 1"):
        tune(small(), folder=once.folder, seed=1, **QUICK)


def test_a_changed_task_is_another_request(once: Tuning) -> None:
    with pytest.raises(InputError, match=r"facts\.batch_size 64, and this one has 32"):
        tune(small(batch_size=32), folder=once.folder, **QUICK)


def test_two_processes_at_a_time_come_to_the_same() -> None:
    alone = tune(small(), threads=1, **QUICK)
    # A task made in Python is sent to the workers, lambdas and all.
    assert _essence(tune(small(), jobs=2, threads=1, **QUICK)) == _essence(alone)


def test_workers_load_a_named_task_themselves(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    found = tune(small(), source=source, jobs=2, threads=1, stages=["weight-decay"], **_less())
    here = tune(small(), source=source, threads=1, stages=["weight-decay"], **_less())
    assert _essence(found) == _essence(here)


def _less() -> dict[str, Any]:
    return {"budget": 450, "weight_decay": [1e-2]}


def test_batch_sizes_end_in_a_recipe_with_one(tmp_path: Path) -> None:
    found = tune(
        small(), budget=900, batch_size=[32, 128], stages=["batch-size"], folder=tmp_path / "x"
    )
    compared = {r.trial.batch_size for r in found.trials}
    assert compared == {32, 64, 128}
    size = found.winner.trial.batch_size
    assert found.recipe.batch_size is not None
    assert found.recipe.batch_size(0) == size
    assert found.recipe.steps_per_epoch == 512 // size
    parts, recipe = build_for(small(), tmp_path / "x" / "recipe.json")
    assert parts.batch_size == size
    assert recipe.total_steps % parts.steps_per_epoch == 0
    assert "to the power" in found.words


def test_trials_fork_from_a_snapshot(tmp_path: Path) -> None:
    parts = build(small(), seed=0)
    fresh = tune(small(), stages=["rate"], budget=400)
    train(parts, fresh.recipe)
    path = tmp_path / "trained.safetensors"
    save_model(parts.model, str(path))
    forked = tune(small(), start=path, stages=["rate"], budget=400)
    assert all(r.trial.start == str(path) for r in forked.trials)
    first, at_first = (t.trials[0].record for t in (forked, fresh))
    assert first is not None
    assert at_first is not None
    assert first.loss[0] < 0.5 * at_first.loss[0]  # it was trained already
    assert f"Every trial started from the weights in {path}." in forked.recipe.notes


def test_an_optimizer_without_momentum_leaves_the_stage_out() -> None:
    task = small(optimizer=lambda p: torch.optim.Adagrad(p, lr=0.1))
    found = tune(task, budget=500, weight_decay=[1e-3])
    assert found.remarks[0] == "Adagrad has no momentum."
    assert all(r.stage != "momentum" for r in found.trials)
    assert found.recipe.momentum is None


def test_an_adam_is_tuned_by_its_beta1() -> None:
    task = small(optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3))
    found = tune(task, budget=500, stages=["momentum"], momentum=[0.95])
    assert {r.trial.momentum for r in found.trials} == {(0.85, 0.95), 0.95}
    assert found.recipe.weight_decay is not None
    run = train(build(task, seed=0), found.recipe)
    assert run.steps == 80


def test_a_budget_that_is_too_small_says_how_much_it_takes() -> None:
    with pytest.raises(InputError, match=r"budget must be at least 507 updates .* got 300"):
        tune(small(), budget=300)
    assert plan_only(small(), **_wanted(507)).updates <= 507


def _wanted(budget: Any) -> dict[str, Any]:
    names = ("epochs", "weight_decay", "momentum", "batch_size", "stages", "start")
    return {**dict.fromkeys(names), "budget": budget, "policy": "one_cycle", "seed": 0}


def test_a_grid_of_the_own_value_alone_plans_no_bisection() -> None:
    plan = plan_only(small(), **{**_wanted("20run"), "weight_decay": [5e-4]})
    assert plan.wishes.decays == plan.wishes.bisections == 0


def test_minutes_become_updates_by_timing_some() -> None:
    plan = plan_only(small(), **_wanted("1min"))
    assert plan.budget == pytest.approx(60 / plan.seconds_per_update - 12, abs=1)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"jobs": 0}, "jobs must be an int ≥ 1"),
        ({"threads": 0}, "threads must be an int ≥ 1"),
        ({"jobs": 2, "ray": "auto"}, "pass either ray or jobs"),
        ({"study": "mine"}, "pass storage as well"),
        ({"storage": "nonsense"}, "storage 'nonsense' cannot be opened"),
    ],
)
def test_where_to_run_is_checked_before_anything_is(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tune(small(), **wanted)


def test_an_interruption_keeps_what_has_finished(tmp_path: Path) -> None:
    def stop(result: TrialResult) -> None:
        if result.stage == "momentum":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"stopped by Ctrl-C; 3 finished trials kept in "):
        tune(small(), folder=tmp_path / "x", on_trial=stop, **QUICK)
    ran: list[TrialResult] = []
    gone_on = tune(small(), folder=tmp_path / "x", on_trial=ran.append, **QUICK)
    assert len(ran) == len(gone_on.trials) - 3
    assert _essence(gone_on) == _essence(tune(small(), **QUICK))


def test_a_tune_that_is_killed_goes_on(tmp_path: Path) -> None:
    # With one thread: sums over several differ in their last bits from process to process.
    how = {**QUICK, "threads": 1}
    source = write_source(tmp_path)
    code = f"""
import os, signal
from cyclr.experiments.tasks import load_task
from cyclr.tuning import tune
count = 0
def die(result):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
tune(load_task({source["task"]!r}), folder={str(tmp_path / "x")!r}, on_trial=die, **{how!r})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    read: list[TrialResult] = []
    found = tune(small(), folder=tmp_path / "x", on_read=read.append, **how)
    assert len(read) == 3
    assert _essence(found) == _essence(tune(small(), **how))


def test_trials_are_put_in_a_study_the_read_ones_too(once: Tuning, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    url = f"sqlite:///{tmp_path / 'x.db'}"
    for _ in range(2):
        tune(small(), folder=once.folder, storage=url, **QUICK)
    trials = optuna.load_study(study_name="small", storage=url).trials
    assert [t.user_attrs["cyclr_key"] for t in trials] == [r.trial.key for r in once.trials]


def test_a_recipe_from_json_is_the_one_given(once: Tuning) -> None:
    assert Recipe.from_dict(once.to_dict()["recipe"]) == once.recipe


@pytest.mark.slow
def test_nothing_is_lost_when_ray_workers_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'cyclr[ray]'")
    source = write_source(tmp_path, note_processes=True)
    script = """
import os, signal, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from cyclr.experiments.tasks import load_task
from cyclr.tuning import tune

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
home, name = Path(sys.argv[1]), sys.argv[2]
killed, own = [], str(os.getpid())

def kill():
    # One worker is killed outright, another is asked to end, both amid a trial.
    while len(killed) < 2:
        for note in (home / "processes").iterdir():
            if note.name != own and note.name not in killed:
                time.sleep(0.1)
                os.kill(int(note.name), signal.SIGTERM if killed else signal.SIGKILL)
                killed.append(note.name)
                break
        time.sleep(0.01)

threading.Thread(target=kill, daemon=True).start()
source = {"task": name, "data_dir": None}
options = {"epochs": 200, "budget": "2run", "source": source, "threads": 1}
tune(load_task(name), folder=home / "tune", ray=cluster.address, **options)
nodes = [node for node in ray.nodes() if node["Alive"]]
print(len(killed), len(nodes))
ray.shutdown()
cluster.shutdown()
"""
    command = [sys.executable, "-c", script, str(tmp_path), source["task"]]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-2:] == ["2", "2"]
    options: dict[str, Any] = {"epochs": 200, "budget": "2run", "source": source}
    alone = tune(small(), threads=1, **options)
    ran: list[TrialResult] = []
    again = tune(small(), folder=tmp_path / "tune", on_trial=ran.append, **options)
    assert ran == []
    assert _essence(again) == _essence(alone)
