"""The command line as a whole: help, exit codes, and one clear sentence for every bad request."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyclr import (
    ExponentialSweep,
    Opposite,
    Outcome,
    RangeRecord,
    Recipe,
    Triangular,
    __version__,
)
from cyclr.cli import main

Command = Callable[..., tuple[int, str, str]]
TASKS = """
import signal
import torch
from torch import nn
from cyclr import Task

def base(**changes):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 8, generator=generator)
    targets = (inputs.sum(1) > 0).long()
    fields = dict(
        name="mine",
        model=lambda: nn.Linear(8, 2),
        train=(inputs, targets),
        validation=(inputs, targets),
        loss_fn=nn.functional.cross_entropy,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        batch_size=16,
        epochs=6,
    )
    return Task(**{**fields, **changes})

def good():
    return base()

def nan():
    return base(loss_fn=lambda o, t: nn.functional.cross_entropy(o, t) * float("nan"))

def bare():
    return base(model=nn.Flatten)

def frozen():
    return base(model=nn.Flatten, optimizer=lambda _: torch.optim.SGD([torch.zeros(1)], lr=0.1))

def raising():
    raise LookupError("the disk is on fire")

def wrong():
    return {"name": "mine"}

def empty():
    return base(train=(torch.zeros(0, 8), torch.zeros(0).long()))

def empty_set():
    return base(train=[])

def unvalidated():
    return base(validation=None)

def adagrad():
    return base(optimizer=lambda params: torch.optim.Adagrad(params))

calls = []

def interrupt(outputs, targets):
    calls.append(1)
    if len(calls) == 5:
        # Not a signal: a shell that starts the tests in the background ignores those.
        raise KeyboardInterrupt
    return nn.functional.cross_entropy(outputs, targets)

def interrupted():
    return base(loss_fn=interrupt)
"""
SWEEP = ExponentialSweep(start_lr=1e-5, end_lr=10.0, steps=60)
RECORD = RangeRecord(
    sweep=SWEEP,
    lr=tuple(SWEEP(k) for k in range(60)),
    loss=tuple(2.3 - 1.5 / (1 + 2.0 ** (25 - k)) + 2.0 ** (k - 50) for k in range(60)),
    outcome=Outcome.DIVERGED,
    optimizer={"name": "SGD", "momentum": 0.9},
    steps_per_epoch=4,
)
CYCLE = Triangular(base_lr=0.01, max_lr=0.1, stepsize=4, cycles=1)
MOMENTUM = Opposite(schedule=CYCLE, bottom=0.01, top=0.1, low=0.8, high=0.9)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cyclr", *argv])
        with pytest.raises(SystemExit) as caught:
            main()
        return (int(caught.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an earlier run, tasks, records and damaged files; the run must survive."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "broken.py").write_text("def mine(:\n")
    (tmp_path / "broken_module.py").write_text("def mine(:\n")
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "empty_folder").mkdir()
    data = RECORD.to_dict()
    damaged = {
        "record": data,
        "later": {**data, "cyclr_record": 9},
        "short": {**data, "loss": data["loss"][:5]},
        "words": {**data, "loss": ["much"] * 60},
        "lacking": {k: v for k, v in data.items() if k != "lr"},
        "no_epoch": {**data, "steps_per_epoch": None},
        "odd_epoch": {**data, "steps_per_epoch": "four"},
        "odd_momentum": {**data, "optimizer": {"momentum": "high"}},
        "odd_sweep": {**data, "sweep": {"kind": "nothing"}},
        "untrained": {**data, "lr": [], "loss": []},
        "not_finite": {**data, "loss": ["nan"] * 60},
    }
    for name, content in damaged.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    recipe = Recipe(lr=CYCLE, momentum=MOMENTUM, total_steps=8)
    recipe.save(tmp_path / "recipe.json")
    (tmp_path / "recipe0.json").write_text(json.dumps({**recipe.to_dict(), "total_steps": 0}))
    earlier = tmp_path / "runs" / "earlier"
    (earlier / "checkpoints").mkdir(parents=True)
    (earlier / "run.json").write_text("{}")
    (earlier / "checkpoints" / "model").write_bytes(bytes(range(256)))
    before = _contents(tmp_path)
    yield tmp_path
    after = _contents(tmp_path)
    assert {path: after.get(path) for path in before} == before


def _contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"}


# Requests that are wrong: one sentence, exit code 2, nothing started, nothing made.

MAXIMUM = '{"kind": "triangular", "base_lr": 2, "max_lr": 1, "stepsize": 9}'
UNKNOWN_FIELD = '{"kind": "constant", "value": 1, "bogus": 1}'
WRONG = [
    # schedules and recipes
    (["show", MAXIMUM], "Triangular.max_lr must be ≥ base_lr (2), got 1"),
    (["show", '{"kind": "nothing"}'], "schedule.kind must be one of chain, "),
    (["show", UNKNOWN_FIELD], "schedule.bogus is not a field of constant; its fields: value"),
    (["show", '{"kind": "constant"}'], "schedule.value is missing; constant needs it"),
    (["show", '{"kind": "constant"'], "a schedule must be written as JSON"),
    (["show", '{"kind": "constant", "value": "1"}'], "Constant.value must be a finite real"),
    (["show", "none.json"], "there is no file none.json; pass "),
    (["show", "runs"], "runs is not a run's folder: cannot read runs/metrics.jsonl"),
    (["show", "text.json"], "text.json is not a schedule or recipe: it is not JSON"),
    (["show", "binary.json"], "binary.json is not a schedule or recipe: it is not a text file"),
    (["show", "list.json"], 'list.json must be an object with a "kind" key, got [1]'),
    (["show", "recipe0.json"], "Recipe.total_steps must be an int ≥ 1, got 0"),
    (["show", "recipe.json", "--plot", "none/x.png"], "cannot write none/x.png: there is no fold"),
    (["show", "recipe.json", "--plot", "x.nonsense"], "cannot write the picture x.nonsense: "),
    # records and budgets
    (["plan", "none.json", "--epochs", "3"], "none.json: No such file or directory"),
    (["plan", "runs", "--epochs", "3"], "runs: Is a directory"),
    (["plan", "text.json", "--epochs", "3"], "text.json is not a range test's record: it is not J"),
    (["plan", "binary.json", "--epochs", "3"], "record: it is not a text file"),
    (["plan", "other.json", "--epochs", "3"], "other.json is not a range test's record: "),
    (["plan", "list.json", "--epochs", "3"], "list.json is not a range test's record: "),
    (["plan", "recipe.json", "--epochs", "3"], "recipe.json is not a range test's record: "),
    (["plan", "later.json", "--epochs", "3"], "cyclr_record must be 1, got 9; this record was wri"),
    (["plan", "short.json", "--epochs", "3"], "RangeRecord.loss must be as long as lr (60), got 5"),
    (["plan", "words.json", "--epochs", "3"], "expected a number, got 'much'"),
    (["plan", "lacking.json", "--epochs", "3"], "lacking.json is not a range test's record: the"),
    (["plan", "no_epoch.json", "--epochs", "3"], "pass --total-steps instead"),
    (["plan", "odd_epoch.json", "--epochs", "3"], "steps_per_epoch"),
    (["plan", "odd_momentum.json", "--epochs", "9"], "momentum"),
    (["plan", "odd_sweep.json", "--epochs", "9"], "record.sweep.kind must be one of"),
    (["plan", "untrained.json", "--epochs", "9"], "the record holds 0 finite losses"),
    (["plan", "not_finite.json", "--epochs", "9"], "the loss is nan at the first step"),
    (["plan", "record.json"], "pass either --epochs or --total-steps"),
    (
        ["plan", "record.json", "--epochs", "3", "--total-steps", "9"],
        "the budget must be given once; pass either --epochs or --total-steps",
    ),
    (["plan", "record.json", "--epochs", "9", "--policy", "two"], "policy must be one of 'one_cyc"),
    (["plan", "record.json", "--epochs", "9", "--rule", "two"], "rule must be one of 'accuracy', "),
    (["plan", "record.json", "--epochs", "9", "--out", "none/x.json"], "cannot write none/x.json"),
    # tasks
    (["find", "what"], "unknown task 'what'; use one of cifar10, digits, fashion-mnist"),
    (["find", "none.py:mine"], "no file none.py; check the path before the colon"),
    (["find", "no_such_module:mine"], "no module named 'no_such_module'"),
    (["find", "tasks.py:nothing"], "tasks.py has no function 'nothing'"),
    (["find", "tasks.py:raising"], "LookupError: the disk is on fire"),
    (["find", "tasks.py:wrong"], "tasks.py:wrong must return a cyclr.Task, got dict"),
    (["find", "broken.py:mine"], "broken.py cannot be run: SyntaxError"),
    (["find", "broken_module:mine"], "SyntaxError"),
    (["find", "tasks.py:empty"], "there are 0 inputs and 0 targets"),
    (["find", "tasks.py:empty_set"], "the data set is empty"),
    (["find", "tasks.py:bare"], "parameter"),
    (["find", "tasks.py:frozen"], "the model has no parameters"),
    (["find", "tasks.py:unvalidated", "--linear"], "task 'mine' has no validation data"),
    # data
    (["find", "cifar10", "--data-dir", "./none"], "./none is not a readable folder; pass one with"),
    (["find", "cifar10", "--data-dir", "tasks.py"], "tasks.py is not a readable folder"),
    (["find", "cifar10", "--data-dir", "empty_folder"], "empty_folder holds no train*.parquet"),
    (["find", "fashion-mnist", "--data-dir", "none"], "cannot read train-images-idx3-ubyte[.gz]"),
    (["fit", "fashion-mnist", "--data-dir", "empty_folder"], "or pass --data-dir with the folder"),
    # options
    (["find", "tasks.py:good", "--start-lr", "-1"], "start_lr must be a finite"),
    (["find", "tasks.py:good", "--end-lr", "nan"], "ExponentialSweep.end_lr must be a finite"),
    (["fit", "tasks.py:good", "--recipe", "recipe.json", "--epochs", "3"], "leave out --epochs"),
    (
        ["find", "tasks.py:good", "--rule", "accuracy"],
        "--rule must be one of 'basin', 'decade'",
    ),
    (
        ["find", "tasks.py:good", "--rule", "two"],
        "--rule must be one of 'basin', 'decade'",
    ),
    (["find", "tasks.py:good", "--out", "none/x.json"], "cannot write none/x.json: there is no f"),
    (["find", "tasks.py:good", "--out", "empty_folder"], "empty_folder"),
    (["find", "tasks.py:good", "--plot", "none/x.png"], "cannot write none/x.png: there is no"),
    (["find", "tasks.py:good", "--plot", "x.nonsense"], "x.nonsense"),
    (["find", "tasks.py:good", "--plot", "empty_folder"], "empty_folder"),
    (["find", "tasks.py:good", "--seed", "4294967296"], "seed"),
    (["fit", "tasks.py:good", "--policy", "two"], "policy must be one of 'one_cycle', "),
    (["fit", "tasks.py:good", "--precision", "fp8"], "precision must be one of 'no', 'fp16', 'bf"),
    (["fit", "tasks.py:good", "--out", "runs/earlier"], "runs/earlier holds something already"),
    (["fit", "tasks.py:good", "--out", "tasks.py"], "tasks.py holds something already"),
    (["fit", "tasks.py:good", "--out", "tasks.py/x"], "cannot make the run folder tasks.py/x: "),
    (["fit", "tasks.py:good", "--recipe", "none.json"], "none.json: No such file or directory"),
    (["fit", "tasks.py:good", "--recipe", "record.json"], "record.json is not a recipe: "),
    (["fit", "tasks.py:good", "--recipe", "recipe0.json"], "Recipe.total_steps must be an int ≥ 1"),
    (["fit", "tasks.py:adagrad", "--recipe", "recipe.json"], "Adagrad has neither momentum nor b"),
]


@pytest.mark.parametrize(("argv", "sentence"), WRONG, ids=[" ".join(argv) for argv, _ in WRONG])
def test_a_wrong_request_gets_one_sentence_and_starts_nothing(
    run: Command, files: Path, argv: list[str], sentence: str
) -> None:
    before = set(_contents(files))
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.startswith("cyclr: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert len(err) < 700
    assert set(_contents(files)) == before
    assert not [p for p in files.rglob("*") if p.name.startswith("mine-")]


def test_a_record_in_place_of_a_schedule_is_drawn(run: Command, files: Path) -> None:
    code, out, _ = run("show", "record.json")
    assert code == 0
    assert "max_lr" in out


@pytest.mark.parametrize(
    ("argv", "option"),
    [
        (["find", "tasks.py:good", "--steps", "1"], "--steps"),
        (["find", "tasks.py:good", "--seed", "-1"], "--seed"),
        (["find", "tasks.py:good", "--start-lr", "much"], "--start-lr"),
        (["fit", "tasks.py:good", "--epochs", "0"], "--epochs"),
        (["plan", "record.json", "--total-steps", "2"], "--total-steps"),
        (["show", "recipe.json", "--steps", "0"], "--steps"),
        (["find", "tasks.py:good", "--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
    ],
)
def test_an_option_that_is_none_is_named(
    run: Command, files: Path, argv: list[str], option: str
) -> None:
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert option in err
    assert "Traceback" not in err


# Work that fails: the progress, then one sentence, exit code 1.


@pytest.mark.parametrize("command", ["find", "fit"])
def test_a_loss_that_is_nan_from_the_first_step_is_failed_work(
    run: Command, files: Path, command: str
) -> None:
    code, out, err = run(command, "tasks.py:nan")
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("cyclr: the loss is nan ")
    assert last.endswith("check the model, the inputs and the loss function")
    assert "Traceback" not in err
    assert not [p for p in files.rglob("run.json") if "earlier" not in p.parts]


def test_a_loss_that_is_nan_in_training_is_failed_work(run: Command, files: Path) -> None:
    options = ("--recipe", "recipe.json", "--out", "new")
    code, out, err = run("fit", "tasks.py:nan", *options)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("cyclr: the loss is nan from the first step, at a rate ")
    assert (files / "new" / "metrics.jsonl").read_text().count("\n") == 1
    assert not (files / "new" / "run.json").exists()


@pytest.mark.parametrize("command", ["find", "fit"])
def test_ctrl_c_ends_with_130_and_a_sentence(run: Command, files: Path, command: str) -> None:
    code, out, err = run(command, "tasks.py:interrupted")
    assert (code, out) == (130, "")
    assert err.endswith("cyclr: stopped with Ctrl-C\n")
    assert "Traceback" not in err


# What is not installed.

BLOCKED = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
sys.argv[0] = "cyclr"
from cyclr.cli import main
main()
"""


@pytest.mark.parametrize("package", ["typer", "torch", "accelerate", "torchdata"])
def test_a_missing_package_is_named_with_the_pip_command(tmp_path: Path, package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, package, "find", "digits", "--steps", "5"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert re.fullmatch(
        rf"cyclr: .* needs {package}, which is not installed; "
        r"run: pip install 'cyclr\[(cli|training|torch)\]'\n",
        done.stderr,
    )


@pytest.mark.parametrize(
    ("module", "argv"),
    [
        ("matplotlib.figure", ["find", "tasks.py:good", "--plot", "x.png"]),
        ("matplotlib.figure", ["fit", "tasks.py:good", "--out", "new"]),
        ("sklearn.datasets", ["find", "digits"]),
        ("datasets", ["find", "cifar10", "--data-dir", "empty_folder"]),
    ],
)
def test_a_missing_package_is_noticed_before_the_work(
    run: Command, files: Path, monkeypatch: pytest.MonkeyPatch, module: str, argv: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert re.fullmatch(
        rf"cyclr: .* needs {module.partition('.')[0]}, which is not installed; .*\n", err
    )
    assert not (files / "new").exists()


def test_an_unknown_data_set_says_what_was_tried(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cyclr", "find", "cifar10", "--data-dir", "nobody/nothing"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("cyclr: cannot load 'nobody/nothing': no folder of that name")
    assert done.stderr.count("\n") == 1


# Help.


@pytest.mark.parametrize("command", ["find", "plan", "show", "fit"])
def test_the_help_of_each_command_has_an_example(
    run: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert f"Example: cyclr {command} " in plain
    assert "--json" in plain


def test_the_examples_of_plan_and_show_run_as_they_stand(run: Command, files: Path) -> None:
    for argv in (
        ["plan", "record.json", "--epochs", "30", "--policy", "triangular2"],
        ["show", "recipe.json", "--plot", "recipe.png"],
    ):
        code, out, _ = run(*argv)
        assert code == 0
        assert out


def test_help_and_version(run: Command) -> None:
    code, out, err = run("--version")
    assert (code, out, err) == (0, f"{__version__}\n", "")
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert all(name in out for name in ("find", "plan", "show", "fit"))


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cyclr", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_a_reader_that_ends_early_is_no_failure(tmp_path: Path) -> None:
    spec = '{"kind": "triangular", "base_lr": 0.1, "max_lr": 1, "stepsize": 1000}'
    command = [sys.executable, "-m", "cyclr", "show", spec, "--steps", "100"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
