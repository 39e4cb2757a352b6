"""One process at a time trains in a run's folder; one that was killed keeps nobody out."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cyclr.errors import TrainingError
from cyclr.training.lock import hold
from small_runs import contents, run

TESTS = Path(__file__).parents[1]
TRAINING = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import small_runs

def wait():
    print("training", flush=True)
    time.sleep(600)

small_runs.run(Path(sys.argv[2]), loss=small_runs.StopAfter(30, wait))
"""
KILLED = """
import os, sys, time
from pathlib import Path
from cyclr.training.lock import hold

lock = hold(Path(sys.argv[1]))
if os.fork() == 0:
    print("alive", flush=True)
    time.sleep(600)
time.sleep(600)
"""


def _start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    # In a group of its own, so that a child that outlives it can be ended too.
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = _start(TRAINING, TESTS, folder)
    try:
        assert _line(first) == "training"
        before = contents(folder)
        with pytest.raises(TrainingError) as caught:
            run(folder, resume=True)
        assert str(caught.value) == (
            f"another process is training in {folder}; wait until it has ended, or stop it first "
            "and then go on with its run"
        )
        assert contents(folder) == before
    finally:
        first.kill()
        first.communicate()
    # That what follows is the same to the bit is for test_killed.py, where one script does both.
    assert run(folder, resume=True).steps == 60


def test_a_finished_or_failed_training_lets_others_in(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    def crash(line: Any) -> None:
        if line["step"] == 30:
            raise Crash

    with pytest.raises(Crash):
        run(tmp_path / "run", on_step=crash)
    assert run(tmp_path / "run", resume=True).steps == 60
    assert run(tmp_path / "run", resume=True, extend=1).steps == 80


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor these locks")
def test_a_worker_that_outlives_its_training_does_not_keep_the_lock(tmp_path: Path) -> None:
    import os
    import signal

    path = tmp_path / "log"
    path.touch()
    process = _start(KILLED, path)
    try:
        assert _line(process) == "alive"
        with pytest.raises(TrainingError, match="another process is training in"):
            hold(path)
        process.kill()
        process.wait()
        os.killpg(process.pid, 0)  # the worker is alive
        hold(path).close()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_lock_that_is_dropped_is_free(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    lock = hold(path)
    with pytest.raises(TrainingError, match="another process is training in"):
        hold(path)
    lock.close()
    hold(path).close()
