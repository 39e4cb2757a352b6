"""Signals are noted while asked for, and left alone before and after."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from cyclr.training.signals import StopRequest
from small_runs import steps
from training import workers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_the_handlers_are_put_back(number: int) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.signal == 0
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_is_an_interruption_and_a_second_sigterm_is_not() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM


def test_the_first_of_two_signals_says_why() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # as a parent passes it on
        assert stop.signal == signal.SIGINT


def test_the_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(LookupError), StopRequest():
        raise LookupError
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with StopRequest() as stop:
            seen.extend([stop.signal, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0, before]


def test_a_signal_to_the_whole_group_ends_the_loaders_workers_and_loses_nothing(
    tmp_path: Path,
) -> None:
    """The workers die of it, and the training ends in order."""
    command = [sys.executable, str(Path(__file__).parent / "workers.py"), str(tmp_path / "cut")]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout is not None
    for _ in range(11):
        assert child.stdout.readline() == "update\n"
    os.killpg(child.pid, signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert "a checkpoint has been written" in said
    assert max(steps(tmp_path / "cut")) >= 10
    _, cut = workers.main(tmp_path / "cut", resume=True)
    _, whole = workers.main(tmp_path / "whole")
    assert torch.equal(cut.weight, whole.weight)
