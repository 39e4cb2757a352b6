"""Running what is missing: here, in several processes, on a Ray cluster, cut off and gone on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cyclr.errors import InputError
from cyclr.experiments.grid import Grid, get_grid
from cyclr.experiments.results import load_results
from cyclr.experiments.runner import Job, Options, finished, jobs_of, run_missing
from cyclr.experiments.store import Busy, RunStore, write_result
from experiments.paper_runs import GRID, write_grid


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return get_grid(write_grid(tmp_path), "paper-table")


def _jobs(grid: Grid, *only: str, seeds: tuple[int, ...] = (0,)) -> Any:
    return jobs_of(grid, "full", grid.rows_of("full", only), seeds)


def test_what_is_missing_is_run_and_nothing_else(grid: Grid, tmp_path: Path) -> None:
    options = Options(store=tmp_path / "store", threads=1)
    said: list[str] = []
    first = run_missing(_jobs(grid, "fixed", "cycle"), options, tell=said.append)
    assert [result["row"] for result in first] == ["fixed", "cycle"]
    assert said[0].startswith("paper-table full fixed seed 0: ")
    again = run_missing(_jobs(grid, "fixed", "cycle", seeds=(0, 1)), options)
    assert [(result["row"], result["seed"]) for result in again] == [("fixed", 1), ("cycle", 1)]
    assert run_missing(_jobs(grid, "fixed", "cycle", seeds=(0, 1)), options) == []


def test_a_result_keeps_everything_that_led_to_it(grid: Grid, tmp_path: Path) -> None:
    run_missing(_jobs(grid, "fixed"), Options(store=tmp_path / "store", threads=1))
    path = grid.path.parent / "results" / "table" / "full" / "fixed-seed0.json"
    result = json.loads(path.read_text())
    assert result["spec"] == grid.resolve(grid.row("fixed"), "full", 0).to_dict()
    assert (result["outcome"], result["steps"], result["interruptions"]) == ("completed", 12, 0)
    assert result["accuracy"] == result["curve"]["evaluations"][-1]["accuracy"]
    assert set(result["versions"]) == {"python", "cyclr", "torch", "numpy"}
    assert result["hardware"]["threads"] == 1
    assert result["speed"]["ratio"] > 0
    assert len(result["data_fingerprint"]) == 16
    assert result["commit"] is None  # this grid is in no repository
    assert not list((tmp_path / "store").rglob("checkpoint.pt"))


def test_range_tests_run_before_what_is_planned_from_them(grid: Grid, tmp_path: Path) -> None:
    jobs = _jobs(grid, "planned")
    assert [job.row.name for job in jobs] == ["sweep", "planned"]
    done = run_missing(jobs, Options(store=tmp_path / "store", threads=1))
    assert [result["row"] for result in done] == ["sweep", "planned"]
    assert done[1]["spec"]["recipe"]["lr"]["kind"] == "one_cycle"


def test_a_cut_row_is_run_as_the_whole(grid: Grid, tmp_path: Path) -> None:
    jobs = _jobs(grid, "fixed-4")
    assert [job.row.name for job in jobs] == ["fixed"]
    run_missing(jobs, Options(store=tmp_path / "store", threads=1))
    assert load_results(grid, "full")["fixed-4"][0]["steps"] == 4


def test_results_of_other_settings_are_not_mixed_in(grid: Grid, tmp_path: Path) -> None:
    options = Options(store=tmp_path / "store", threads=1)
    run_missing(_jobs(grid, "fixed"), options)
    grid.path.write_text(GRID.replace("value = 0.05", "value = 0.06"))
    changed = get_grid(tmp_path / "papers", "paper-table")
    with pytest.raises(InputError, match=r"fixed-seed0\.json was made under other settings than"):
        run_missing(_jobs(changed, "fixed"), options)


def test_a_run_that_another_process_is_at_is_left_to_it(grid: Grid, tmp_path: Path) -> None:
    options, said = Options(store=tmp_path / "store", threads=1), []
    (job,) = _jobs(grid, "fixed")
    spec = grid.resolve(job.row, "full", 0)
    with RunStore(tmp_path / "store" / "paper-table" / "full" / f"fixed-0-{spec.key}").lock():
        assert run_missing([job], options, tell=said.append) == []
    assert said == ["paper-table full fixed seed 0: another process is at it"]
    assert finished(job, options) is None


def test_what_another_process_has_finished_meanwhile_is_not_run_again(
    grid: Grid, tmp_path: Path
) -> None:
    said: list[str] = []
    options = Options(store=tmp_path / "store", threads=1)

    def meanwhile(job: Job) -> Any:
        # The first run begins: by then the others have been listed. Another command does them.
        if job.row.name == "fixed":
            assert len(run_missing(_jobs(grid, "cycle"), options)) == 1
        return lambda trainer: said.append(f"{job.row.name} {trainer.step}")

    done = run_missing(_jobs(grid, "fixed", "cycle"), options, tell=said.append, watch=meanwhile)
    assert [result["row"] for result in done] == ["fixed"]
    assert said[0] == "fixed 0"
    assert said[-1] == "paper-table full cycle seed 0: another process has finished it"
    assert not any(line.startswith("cycle ") for line in said)


def test_a_result_is_written_while_others_are_still_kept_off(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,), options = _jobs(grid, "fixed"), Options(store=tmp_path / "store", threads=1)
    folder = tmp_path / "store" / "paper-table" / "full"
    key = grid.resolve(job.row, "full", 0).key
    seen = []

    def kept(path: Path, result: dict[str, Any]) -> None:
        with pytest.raises(Busy), RunStore(folder / f"fixed-0-{key}").lock():
            pass
        seen.append(path.name)
        write_result(path, result)

    monkeypatch.setattr("cyclr.experiments.runner.write_result", kept)
    run_missing([job], options)
    assert seen == ["fixed-seed0.json"]
    assert finished(job, options) is not None


LONG = GRID.replace("steps = 12\n\n[tiers", "steps = 100000\n\n[tiers")


@pytest.mark.parametrize(
    ("jobs", "number"), [(1, signal.SIGINT), (1, signal.SIGTERM), (2, signal.SIGTERM)]
)
def test_a_signal_leaves_a_checkpoint_of_every_run_under_way(
    tmp_path: Path, jobs: int, number: int
) -> None:
    command = _command(write_grid(tmp_path, LONG), tmp_path / "store")
    command[command.index("--seeds") + 1] = "0,1,2"
    command += ["--jobs", str(jobs)]
    said: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while sum("begins, 100,000 updates" in line for line in said) < jobs:
            said.append(process.stderr.readline())
            assert said[-1], said
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 128 + number, rest
    assert rest.count("a checkpoint has been written, and the same command goes on from it") == jobs
    assert len(list((tmp_path / "store").rglob("checkpoint.pt"))) == jobs
    assert "begins" not in rest  # the third seed was not begun


def _curves(grid: Grid) -> Any:
    found = load_results(grid, "full")
    return {(row, r["seed"]): r["curve"] for row, runs in found.items() for r in runs}


def test_several_processes_give_the_same_results(tmp_path: Path) -> None:
    curves = []
    for name, workers in (("one", 1), ("two", 2)):
        grid = get_grid(write_grid(tmp_path / name), "paper-table")
        jobs = _jobs(grid, "fixed", "cycle", seeds=(0, 1))
        run_missing(jobs, Options(store=tmp_path / name / "store", threads=1), workers=workers)
        curves.append(_curves(grid))
    assert len(curves[0]) == 6
    assert curves[0] == curves[1]


def _command(papers: Path, store: Path) -> list[str]:
    arguments = ["--tier", "full", "--only", "fixed", "--seeds", "0", "--threads", "1"]
    places = ["--papers", str(papers), "--store", str(store)]
    return [sys.executable, "-m", "cyclr", "reproduce", "paper-table", *arguments, *places]


def test_a_process_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    text = GRID.replace("steps = 12\n\n[tiers", "steps = 400\n\n[tiers").replace(
        "evaluate_every = 4", "evaluate_every = 200"
    )
    text = text.replace('cut = "fixed"\nsteps = 4', 'cut = "fixed"\nsteps = 200')
    whole = get_grid(write_grid(tmp_path / "whole", text), "paper-table")
    run_missing(_jobs(whole, "fixed"), Options(store=tmp_path / "whole" / "store", threads=1))
    papers, store = write_grid(tmp_path / "cut", text), tmp_path / "store"
    code = "import sys; from cyclr.experiments import trainer; from cyclr.cli import main; "
    code += "run = trainer.Trainer.run; trainer.Trainer.run = "
    code += "lambda self, store, **k: run(self, store, **{**k, 'every_seconds': 0.05}); main()"
    command = [sys.executable, "-c", code, *_command(papers, store)[3:]]
    killed = 0
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = {p: p.stat().st_mtime_ns for p in store.rglob("checkpoint.pt")}
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            now = {p: p.stat().st_mtime_ns for p in store.rglob("checkpoint.pt")}
            if now and now != before:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.02)
        process.wait()
    assert killed == 2
    subprocess.run(_command(papers, store), check=True, capture_output=True)
    cut = get_grid(papers, "paper-table")
    assert _curves(cut) == _curves(whole)
    assert load_results(cut, "full")["fixed"][0]["interruptions"] == 2


@pytest.mark.slow
def test_runs_fan_out_over_a_ray_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'cyclr[ray]'")
    script = """
import sys, warnings
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from cyclr.experiments.grid import get_grid
from cyclr.experiments.runner import Options, jobs_of, run_missing

home = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
grid = get_grid(home / "papers", "paper-table")
jobs = jobs_of(grid, "full", grid.rows_of("full", ["fixed", "cycle"]), [0, 1])
done = run_missing(jobs, Options(store=home / "store", threads=1), ray=cluster.address)
nodes = [node for node in ray.nodes() if node["Alive"]]
print(len(done), len(nodes))
ray.shutdown()
cluster.shutdown()
"""
    alone = get_grid(write_grid(tmp_path / "alone"), "paper-table")
    jobs = _jobs(alone, "fixed", "cycle", seeds=(0, 1))
    run_missing(jobs, Options(store=tmp_path / "alone" / "store", threads=1))
    write_grid(tmp_path)
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-2:] == ["4", "2"]
    assert _curves(get_grid(tmp_path / "papers", "paper-table")) == _curves(alone)


@pytest.mark.slow
def test_ctrl_c_reaches_the_runs_on_a_ray_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'cyclr[ray]'")
    command = _command(write_grid(tmp_path, LONG), tmp_path / "store")
    command[command.index("--seeds") + 1] = "0,1,2,3,4,5,6,7"  # more than there are cores
    said: list[str] = []
    with subprocess.Popen([*command, "--ray", "local"], stderr=subprocess.PIPE, text=True) as cut:
        assert cut.stderr is not None
        while not any("begins, 100,000 updates" in line for line in said):
            said.append(cut.stderr.readline())
            assert said[-1], said
        cut.send_signal(signal.SIGINT)
        rest = cut.stderr.read()
    assert cut.returncode == 128 + signal.SIGINT, rest
    assert "a checkpoint has been written, and the same command goes on from it" in rest
    assert len(list((tmp_path / "store").rglob("checkpoint.pt"))) >= 1
    assert not list((tmp_path / "papers").rglob("*.json"))
