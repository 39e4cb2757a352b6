"""Run folders: never overwritten, finished only with a summary, readable again."""

import json
import math
import platform
from pathlib import Path
from typing import Any

import pytest

from cyclr import ExponentialSweep, Outcome, RangeRecord, Recipe, Triangular
from cyclr.errors import CheckpointError, InputError, RecordError, StateError
from cyclr.training.environment import environment
from cyclr.training.folder import RunFolder
from cyclr.training.run import Run, read_metrics

RECIPE = Recipe(lr=Triangular(base_lr=0.1, max_lr=1.0, stepsize=5, cycles=2), total_steps=20)


def _run(folder: Path | None, **metrics: float) -> Run:
    return Run(
        recipe=RECIPE,
        steps=20,
        outcome="completed",
        metrics=metrics,
        folder=folder,
        recommended=20,
    )


def _open(folder: Path, **options: Any) -> RunFolder:
    home = RunFolder(folder, **options)
    home.open(RECIPE)
    return home


def test_nothing_is_made_before_it_is_opened(tmp_path: Path) -> None:
    home = RunFolder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StateError, match=r"the run folder is not open; call open\(recipe\) first"):
        home.log({"step": 0})
    home.close()
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    _open(tmp_path / "a" / "b").close()
    names = sorted(p.name for p in (tmp_path / "a" / "b").iterdir())
    assert names == ["checkpoints", "environment.json", "metrics.jsonl", "recipe.json"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    _open(tmp_path).close()
    assert (tmp_path / "checkpoints").is_dir()


def test_a_folder_that_holds_anything_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(InputError, match="holds something already, and a run never overwrites"):
        RunFolder(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="holds something already"):
        RunFolder(tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot make the run folder .* is not a folder"):
        _open(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "x"


def test_metrics_are_lines_of_strict_json_and_are_read_back(tmp_path: Path) -> None:
    home = _open(tmp_path)
    home.log({"step": 0, "loss": 1.5, "lr": 0.1})
    home.log({"step": 1, "loss": math.inf, "lr": 0.2})
    home.log({"step": 2, "stopping_point": True, "val_loss": math.nan})
    home.close()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    first, second, third = read_metrics(tmp_path)
    assert first == {"step": 0, "loss": 1.5, "lr": 0.1}
    assert second == {"step": 1, "loss": math.inf, "lr": 0.2}
    assert third["stopping_point"] is True
    assert math.isnan(third["val_loss"])


def test_lines_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    home = _open(tmp_path)
    home.log({"step": 0, "loss": 1.5})
    home.flush()
    assert read_metrics(tmp_path) == [{"step": 0, "loss": 1.5}]
    home.close()


def test_the_summary_says_that_the_run_is_finished(tmp_path: Path) -> None:
    _open(tmp_path / "unfinished").close()
    assert not (tmp_path / "unfinished" / "run.json").exists()
    home = _open(tmp_path / "finished")
    home.close(_run(home.path, val_accuracy=0.5))
    assert json.loads((tmp_path / "finished" / "run.json").read_text()) == {
        "cyclr_run": 1,
        "steps": 20,
        "outcome": "completed",
        "metrics": {"val_accuracy": 0.5},
        "folder": str(tmp_path / "finished"),
        "recommended": {"step": 20, "model": "checkpoints/step-00000020/model.safetensors"},
        "best": None,
        "skipped_updates": 0,
        "decisions": [],
        "snapshots": {},
        "extensions": 0,
        "recipe": RECIPE.to_dict(),
    }
    loaded = Run.load(tmp_path / "finished")
    assert loaded.to_dict() == _run(home.path, val_accuracy=0.5).to_dict()


def test_a_folder_appears_complete_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cyclr.training.folder.sync_folder", fail)
    with pytest.raises(InputError, match="No space left on device; choose another place"):
        _open(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_taken_up_with_the_facts_it_was_begun_with(tmp_path: Path) -> None:
    begun = _open(tmp_path / "run", task="mine", seed=3)
    begun.log({"step": 0, "loss": 1.0})
    length = begun.sync_log()
    begun.log({"step": 1, "loss": 1.0})
    begun.close()
    again = RunFolder.existing(tmp_path / "run", task="mine", seed=3)
    assert again.identity == begun.identity
    assert again.recipe == RECIPE
    assert again.log_bytes > length
    again.open(RECIPE)
    again.cut_log(length)
    again.log({"step": 1, "loss": 2.0})
    again.close()
    assert [line["loss"] for line in read_metrics(tmp_path / "run")] == [1.0, 2.0]
    again.note_resumption(1)
    (life,) = json.loads((tmp_path / "run" / "environment.json").read_text())["resumed"]
    assert life["step"] == 1
    assert life["versions"]["torch"]


@pytest.mark.parametrize(("facts", "words"), [({"seed": 4}, "seed 3"), ({"task": "a"}, "task 'mi")])
def test_another_seed_or_task_is_refused(tmp_path: Path, facts: dict[str, Any], words: str) -> None:
    _open(tmp_path / "run", task="mine", seed=3).close()
    with pytest.raises(CheckpointError, match=f"was trained with {words}"):
        RunFolder.existing(tmp_path / "run", **facts)


def test_extensions_are_noted_one_after_another(tmp_path: Path) -> None:
    home = _open(tmp_path / "run")
    assert home.extensions == []
    assert home.finished() is None
    home.close(_run(home.path))
    assert home.finished() is not None
    for step in (20, 40):
        home.longer = (step, RECIPE.replace(total_steps=step + 20))
        home.add_extension()
        assert home.finished() is None
    home.add_extension()  # there is nothing to add
    assert [added["step"] for added in home.extensions] == [20, 40]


def test_a_last_line_without_an_end_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1, "lo')
    assert read_metrics(tmp_path) == [{"step": 0}]


def test_a_metric_that_is_not_finite_does_not_cost_the_summary(tmp_path: Path) -> None:
    home = _open(tmp_path)
    home.close(_run(tmp_path, val_loss=math.nan, val_accuracy=0.5))
    summary = json.loads((tmp_path / "run.json").read_text())
    assert summary["metrics"] == {"val_loss": "nan", "val_accuracy": 0.5}


def test_recipe_record_reading_and_environment_are_kept(tmp_path: Path) -> None:
    sweep = ExponentialSweep(start_lr=0.01, end_lr=1.0, steps=2)
    record = RangeRecord(sweep=sweep, lr=(0.01, 1.0), loss=(2.0, 1.0), outcome=Outcome.COMPLETED)
    _open(tmp_path, record=record, reading={"base_lr": 0.1}, task="mine", seed=3).close()
    assert Recipe.load(tmp_path / "recipe.json") == RECIPE
    assert RangeRecord.load(tmp_path / "record.json") == record
    assert json.loads((tmp_path / "reading.json").read_text()) == {"base_lr": 0.1}
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert (facts["task"], facts["seed"]) == ("mine", 3)


def test_the_environment_names_versions_and_hardware() -> None:
    facts = environment()
    assert facts["python"] == platform.python_version()
    assert facts["versions"]["torch"].split(".")[0].isdigit()
    assert facts["processor"]
    assert facts["cpus"] >= 1
    json.dumps(facts, allow_nan=False)


@pytest.mark.parametrize("line", ["{", "3", "[1]", '"nan"'], ids=["cut", "int", "list", "word"])
def test_a_damaged_line_is_a_record_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n' + line + "\n")
    with pytest.raises(RecordError, match=r"metrics\.jsonl is damaged"):
        read_metrics(tmp_path)


def test_a_folder_that_is_no_runs_is_a_record_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"is not a run's folder: .*No such file or directory"):
        read_metrics(tmp_path)
