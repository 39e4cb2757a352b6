"""Checkpoints and results on disk."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cyclr.errors import InputError
from cyclr.experiments.store import RunStore, cache_home, check_writable, read_result, write_result
from experiments.paper_runs import trained_result


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "deep" / "run")
    assert store.load() is None
    store.save({"step": 3, "weights": torch.arange(4.0)})
    store.save({"step": 5, "weights": torch.arange(4.0)})
    state = store.load()
    assert state is not None
    assert state["step"] == 5
    assert torch.equal(state["weights"], torch.arange(4.0))
    assert [path.name for path in store.folder.iterdir()] == ["checkpoint.pt"]
    store.clear()
    assert store.load() is None


def test_a_crash_while_writing_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path)
    store.save({"step": 3})

    def crash(state: object, file: object) -> None:
        file.write(b"half of it")  # type: ignore[attr-defined]
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="no space left"):
        store.save({"step": 4})
    assert store.load() == {"step": 3}


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"checkpoint\.pt: it is damaged; delete it to begin anew"):
        RunStore(tmp_path).load()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from cyclr.experiments.store import Busy, RunStore
try:
    with RunStore(Path({str(tmp_path)!r})).lock():
        print("locked")
except Busy as error:
    print(error)
"""

    def other() -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    with RunStore(tmp_path).lock():
        assert other() == f"another process is running {tmp_path}"
    assert other() == "locked"


def test_results_survive_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    assert read_result(path) is None
    result = trained_result("fixed", 0, 0.5)
    result["curve"]["loss"] = [float("nan")]
    write_result(path, result)
    read = read_result(path)
    assert read is not None
    assert read["curve"]["loss"] == ["nan"]
    for text, message in (
        ("{}", "is not a run's result; move it away to run again"),
        ('{"cyclr_result": 1, "seed"', "it is not JSON .* or move it away to run again"),
        ('{"cyclr_result": 1, "seed": 0}', "is damaged, it lacks accuracy; move it away"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_result(path)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file/runs: Not a directory; make it"):
        check_writable(file / "runs")
    with pytest.raises(InputError, match=r"--store\)"), RunStore(file).lock():
        pass
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_the_cache_is_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_home() == Path("/somewhere/cyclr")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == Path("~/.cache/cyclr").expanduser()
