"""The loop: exact when gone on with, and it measures what it says."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from cyclr import Constant, Recipe
from cyclr.errors import InputError, Interrupted
from cyclr.experiments.images import load_data
from cyclr.experiments.runspec import RunSpec
from cyclr.experiments.store import RunStore
from cyclr.experiments.trainer import Trainer
from experiments.paper_runs import small_spec


def _trainer(spec: RunSpec) -> Trainer:
    return Trainer(spec, load_data(spec.data))


def _everything(trainer: Trainer) -> dict[str, Any]:
    state = trainer.state()
    for key in ("seconds", "cpu_seconds", "interruptions"):
        del state[key]
    return state


def _assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            _assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_same(x, y)
    else:
        assert a == b or (a != a and b != b)


class _CutOffError(Exception):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bfloat16"},
        {"net": {"kind": "he_resnet", "depth": 8, "survival": 0.5}},
        {"optimizer": {"kind": "adam"}, "augment": "mirror", "order": "fixed"},
    ],
    ids=["dropout", "bfloat16", "stochastic-depth", "adam"],
)
def test_a_run_cut_off_after_any_step_ends_with_the_same_bits(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(**changes)
    whole = _trainer(spec)
    whole.run()
    store = RunStore(tmp_path)
    for step in (1, 5, 8, 11):  # each time a few steps further, then gone

        def gone(
            self: Trainer, step: int = step, advance: Any = Trainer.__dict__["advance"]
        ) -> None:
            if self.step == step:
                raise _CutOffError
            advance(self)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "advance", gone)
            with pytest.raises(_CutOffError):
                _trainer(spec).run(store, every_seconds=0.0)
        torch.rand(7)  # whatever the process drew in between does not matter
    last = _trainer(spec)
    last.run(store, every_seconds=0.0)
    assert last.interruptions == 4
    _assert_same(_everything(last), _everything(whole))
    assert last.measures["snapshots"].result() == whole.measures["snapshots"].result()


def test_a_step_lost_since_the_last_checkpoint_is_made_again(tmp_path: Path) -> None:
    whole = _trainer(small_spec())
    whole.run()
    cut = _trainer(small_spec())
    for _ in range(4):
        cut.advance()
    RunStore(tmp_path).save(cut.state())
    for _ in range(3):
        cut.advance()  # lost
    last = _trainer(small_spec())
    last.run(RunStore(tmp_path))
    for name, weight in last.net.state_dict().items():
        assert torch.equal(weight, whole.net.state_dict()[name])


def test_it_evaluates_at_intervals_at_stopping_points_and_at_the_end() -> None:
    trainer = _trainer(small_spec())
    trainer.run()
    steps = [entry["step"] for entry in trainer.curves.evaluations]
    assert steps == [5, 6, 10, 12]  # every 5, and cycles of 6
    outputs = trainer.outputs(trainer.data.test)
    right = (outputs.argmax(1) == trainer.data.test.labels).double().mean()
    assert trainer.curves.evaluations[-1]["accuracy"] == float(right)
    assert trainer.net.training


def test_it_learns() -> None:
    data = {"name": "synthetic", "size": 8, "train": 400}
    recipe = Recipe(lr=Constant(value=0.05), total_steps=200)
    trainer = _trainer(small_spec(data=data, recipe=recipe, augment="none", measures=()))
    trainer.run()
    assert trainer.curves.evaluations[-1]["accuracy"] > 0.4  # chance is a tenth


def test_a_run_stops_when_its_loss_is_no_longer_finite() -> None:
    recipe = Recipe(lr=Constant(value=1e12), total_steps=50)
    trainer = _trainer(
        small_spec(net={"kind": "cifar10_quick"}, data={"name": "synthetic"}, recipe=recipe)
    )
    trainer.run()
    assert trainer.curves.diverged
    assert trainer.step < 50
    assert trainer.curves.evaluations[-1]["step"] == trainer.step


def test_stop_after_ends_a_run_early_on_the_whole_runs_schedule() -> None:
    spec = small_spec(stop_after=2)
    trainer = _trainer(spec)
    trainer.run()
    assert (spec.steps, trainer.step) == (2, 2)
    assert trainer.optimizer.param_groups[0]["lr"] == spec.recipe.lr(2)


def test_every_step_uses_the_recipes_values() -> None:
    spec = small_spec()
    trainer = _trainer(spec)
    for step in range(12):
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(spec.recipe.lr(step))
        trainer.advance()


def test_a_checkpoint_of_another_run_or_other_images_is_refused() -> None:
    state = _trainer(small_spec()).state()
    with pytest.raises(InputError, match="the checkpoint is of another run"):
        _trainer(small_spec(seed=4)).load(state)
    state["data"] = "0123456789abcdef"
    with pytest.raises(InputError, match=r"other images \(fingerprint 0123456789abcdef"):
        _trainer(small_spec()).load(state)


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_signal_ends_a_run_after_its_update_with_a_checkpoint(
    tmp_path: Path, number: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _trainer(small_spec())
    whole.run()
    advance = Trainer.advance

    def signalled(self: Trainer) -> None:
        if self.step == 4:
            os.kill(os.getpid(), number)
        advance(self)

    message = rf"^stopped by {name} after step 5 of 12; a checkpoint has been written, and the same"
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", signalled)
        with pytest.raises(Interrupted, match=message) as caught:
            _trainer(small_spec()).run(RunStore(tmp_path))
    assert (caught.value.signal, caught.value.step) == (number, 5)
    assert signal.getsignal(number) == before
    last = _trainer(small_spec())
    steps = []
    last.run(RunStore(tmp_path), on_progress=lambda trainer: steps.append(trainer.step))
    assert steps == [5]  # called where it goes on
    _assert_same(_everything(last), _everything(whole))


def test_a_signal_without_a_store_keeps_nothing_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    advance = Trainer.advance

    def signalled(self: Trainer) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        advance(self)

    monkeypatch.setattr(Trainer, "advance", signalled)
    with pytest.raises(Interrupted, match="SIGTERM after step 1 of 12; nothing has been kept"):
        _trainer(small_spec()).run()


def test_seeds_differ_and_are_repeatable() -> None:
    runs = [_trainer(small_spec(seed=seed)) for seed in (3, 3, 4)]
    for run in runs:
        run.run()
    ends = [run.curves.evaluations[-1]["loss"] for run in runs]
    assert ends[0] == ends[1] != ends[2]


def test_auxiliary_losses_count_by_their_weight() -> None:
    from cyclr.experiments.trainer import loss_of

    outputs, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([0])
    alone = float(loss_of(outputs, labels))
    assert float(loss_of([(outputs, 1.0), (outputs, 0.3)], labels)) == pytest.approx(1.3 * alone)
