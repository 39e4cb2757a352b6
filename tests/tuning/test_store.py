"""A tune's folder: gone on with, protected, and read back."""

import json
from pathlib import Path

import pytest

from cyclr.errors import InputError, RecordError
from cyclr.experiments.store import Busy
from cyclr.tuning.store import TuneStore
from tuning.tasks import result_of

ASKED = {"budget": "2run", "facts": {"name": "small", "batch_size": 64}}


def test_results_are_written_as_they_come_and_read_again(tmp_path: Path) -> None:
    result = result_of(0.5)
    with TuneStore(tmp_path / "a" / "b").open(ASKED) as store:
        assert store.get(result.trial.key) is None
        store.add(result)
        assert (tmp_path / "a" / "b" / "trials" / f"{result.trial.key}.json").is_file()
    with TuneStore(tmp_path / "a" / "b").open(ASKED) as store:
        assert store.get(result.trial.key) == result
        assert store.count == 1


def test_without_a_folder_results_are_kept_in_memory() -> None:
    with TuneStore(None).open(ASKED) as store:
        store.add(result_of(0.5))
        store.write("table.md", "nothing")
        assert store.recall("speeds.json") is None
        assert store.count == 1


def test_another_request_is_refused_by_the_field_that_differs(tmp_path: Path) -> None:
    with TuneStore(tmp_path / "x").open(ASKED):
        pass
    other = {**ASKED, "facts": {"name": "small", "batch_size": 32}}
    with (
        pytest.raises(InputError, match=r"a tune with facts\.batch_size 64, and this one has 32"),
        TuneStore(tmp_path / "x").open(other),
    ):
        pass


@pytest.mark.parametrize("content", ["[]", '{"cyclr_tune": 2}', "{"])
def test_what_is_no_request_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "request.json").write_text(content)
    with pytest.raises(InputError, match=r"request\.json is not"), TuneStore(tmp_path).open(ASKED):
        pass


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match="something that is no tune"), TuneStore(tmp_path).open({}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    with TuneStore(tmp_path / "x").open(ASKED) as store:
        store.add(result_of(0.5))
    (path,) = (tmp_path / "x" / "trials").glob("*.json")
    path.write_text(json.dumps({"cyclr_trial": 1}))
    with (
        pytest.raises(RecordError, match=f"{path.name}: .*; delete it to run the trial again"),
        TuneStore(tmp_path / "x").open(ASKED),
    ):
        pass


def test_two_processes_are_kept_apart(tmp_path: Path) -> None:
    with (
        TuneStore(tmp_path / "x").open(ASKED),
        pytest.raises(Busy),
        TuneStore(tmp_path / "x").open(ASKED),
    ):
        pass
