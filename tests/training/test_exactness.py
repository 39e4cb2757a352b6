"""What a run must not depend on: leftovers, interruptions, the kind of data."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cyclr import Recipe, Triangular
from cyclr.errors import CheckpointError, InputError, Interrupted
from cyclr.training import fit, make_loader

LOSS = nn.functional.cross_entropy
RECIPE = Recipe(lr=Triangular(base_lr=0.01, max_lr=0.1, stepsize=6, cycles=2), total_steps=24)
_DRAW = torch.Generator().manual_seed(0)
INPUTS = torch.randn(100, 8, generator=_DRAW)
TARGETS = (INPUTS.sum(1) > 0).long()


def _net(norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(6) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(8, 6), middle, nn.ReLU(), nn.Linear(6, 2))


def _loader(seed: int = 0, **options: Any) -> Any:
    return make_loader((INPUTS, TARGETS), 16, seed=seed, **options)


def _sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)


def _fit(
    model: nn.Module, optimizer: Any = None, batches: Any = None, loss: Any = LOSS, **how: Any
) -> Any:
    torch.manual_seed(1)
    optimizer = _sgd(model) if optimizer is None else optimizer
    batches = _loader() if batches is None else batches
    how = {"on_remark": lambda _: None, **how}
    return fit(model, optimizer, batches, loss, RECIPE, **how)


def _same(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_gradients_left_before_do_not_go_into_the_first_update() -> None:
    clean, used = _net(), _net()
    LOSS(used(INPUTS), TARGETS).backward()
    _fit(clean)
    _fit(used)
    assert _same(clean, used)


def test_an_update_broken_off_is_gone_on_with_by_the_same_objects(tmp_path: Path) -> None:
    calls = 0

    def failing(outputs, targets):
        nonlocal calls
        calls += 1
        if calls == 4 * 7 + 3:  # in the middle of the eighth update
            raise ZeroDivisionError
        return LOSS(outputs, targets)

    whole, cut = _net(), _net()
    _fit(whole, accumulate=4)
    optimizer, batches = _sgd(cut), _loader()
    how = {"folder": tmp_path / "run", "accumulate": 4, "checkpoint_every": 5}
    with pytest.raises(ZeroDivisionError):
        _fit(cut, optimizer, batches, failing, **how)
    _fit(cut, optimizer, batches, failing, resume=True, **how)
    assert _same(whole, cut)


def test_gradients_of_what_the_optimizer_does_not_hold_do_not_add_up() -> None:
    model = _net()
    _fit(model, torch.optim.SGD(model[3].parameters(), lr=1.0), max_grad_norm=0.5)
    by_hand = _net()
    optimizer = torch.optim.SGD(by_hand[3].parameters(), lr=1.0)
    torch.manual_seed(1)
    loader = _loader()
    stream = (batch for _ in range(9) for batch in loader)
    for step in range(24):
        inputs, targets = next(stream)
        optimizer.param_groups[0]["lr"] = RECIPE.lr(step)
        by_hand.zero_grad()
        LOSS(by_hand(inputs), targets).backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
    assert _same(model, by_hand)


def test_parts_frozen_in_eval_mode_stay_so() -> None:
    model = _net(norm=True)
    model.train()
    model[1].eval()
    _fit(model)
    assert not model[1].training
    assert torch.equal(model[1].running_mean, torch.zeros(6))


def test_after_bf16_the_model_computes_in_full_precision() -> None:
    model = _net()
    _fit(model, mixed_precision="bf16")
    plain = _net()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(INPUTS), plain(INPUTS))


class Pairs(torch.utils.data.Dataset):
    """Examples one by one, for loaders with workers."""

    def __len__(self) -> int:
        return len(INPUTS)

    def __getitem__(self, index: int):
        return INPUTS[index], TARGETS[index]


def _persistent() -> Any:
    return torch.utils.data.DataLoader(
        Pairs(), 16, shuffle=True, num_workers=1, persistent_workers=True
    )


class Drawn:
    """Batches of indices, drawn by a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)

    def __len__(self) -> int:
        return 6

    def __iter__(self):
        yield from torch.randperm(96, generator=self.generator).view(6, 16).tolist()


def _drawn() -> Any:
    return torch.utils.data.DataLoader(Pairs(), batch_sampler=Drawn())


@pytest.mark.parametrize("make", [_persistent, _drawn])
def test_loaders_that_are_gone_on_with_exactly(tmp_path: Path, make: Any) -> None:
    whole, cut = _net(), _net()
    how = {"folder": tmp_path / "run", "checkpoint_every": 1, "keep": 99}
    _fit(whole, batches=make(), **how)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if int(path.name[-3:]) > 15:  # in the third pass
            shutil.rmtree(path)
    (tmp_path / "run" / "run.json").unlink()
    _fit(cut, batches=make(), resume=True, **how)
    assert _same(whole, cut)


class Words(nn.Module):
    """A model of dicts, with a sparse embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 2)

    def forward(self, batch):
        return self.head(self.embed(batch["x"]).mean(1))


def test_sparse_gradients_and_dicts_of_inputs_and_targets(tmp_path: Path) -> None:
    batches = [({"x": torch.tensor([[k % 5, 1]])}, {"y": torch.tensor([k % 2])}) for k in range(6)]

    def loss(outputs, targets):
        return LOSS(outputs, targets["y"])

    model = Words()
    how = {"folder": tmp_path / "run", "snapshots": True, "validation": batches}
    run = _fit(model, torch.optim.SGD(model.parameters(), lr=1.0), batches, loss, **how)
    assert {"last", "averaged", "ensemble"} <= run.snapshots.keys()


def test_what_cannot_be_averaged_does_not_cost_the_run(tmp_path: Path) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = _net()

        def forward(self, inputs):
            return {"logits": self.inner(inputs)}

    def loss(outputs, targets):
        return LOSS(outputs["logits"], targets)

    how = {"folder": tmp_path / "run", "snapshots": True, "validation": _loader()}
    with pytest.warns(UserWarning, match="there is no ensemble: the models' predictions must be"):
        run = _fit(Both(), loss=loss, **how, metrics={})
    assert run.outcome.startswith("completed")
    assert "ensemble" not in run.snapshots


def _stopping(step: int) -> Any:
    """Make a loss that has training stopped at an update."""
    calls = 0

    def loss(outputs, targets):
        nonlocal calls
        calls += 1
        if calls == step:
            signal.raise_signal(signal.SIGTERM)
        return LOSS(outputs, targets)

    return loss


def _kept(folder: Path) -> list[int]:
    return sorted(int(path.name[-3:]) for path in (folder / "checkpoints").iterdir())


def test_a_damaged_checkpoint_within_a_cycle_does_not_end_a_run_with_snapshots(
    tmp_path: Path,
) -> None:
    folder, remarks = tmp_path / "run", []
    with pytest.raises(Interrupted):
        _fit(_net(), loss=_stopping(16), folder=folder, snapshots=True)
    assert _kept(folder) == [12, 16]
    (folder / "checkpoints" / "step-00000016" / "state.pt").write_bytes(b"")
    how = {"resume": True, "snapshots": True, "on_remark": remarks.append}
    run = _fit(_net(), folder=folder, **how)
    assert any("it is left as it is" in remark for remark in remarks)
    assert run.snapshots["steps"] == [12, 24]


def test_the_checkpoint_just_written_stays_whatever_stands_behind_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _fit(_net(), folder=folder, checkpoint_every=4, keep=9)
    (folder / "run.json").unlink()
    for step in (16, 20, 24):
        (folder / "checkpoints" / f"step-{step:08d}" / "state.pt").write_bytes(b"")
    how = {"resume": True, "checkpoint_every": 4, "keep": 2}
    with pytest.raises(Interrupted):
        _fit(_net(), loss=_stopping(2), folder=folder, **how)
    assert _kept(folder) == [12, 14, 20, 24]


def test_an_extension_that_is_refused_leaves_no_mark(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _fit(_net(), folder=folder)
    with pytest.raises(CheckpointError):
        _fit(_net(norm=True), folder=folder, resume=True, extend=1)
    assert not (folder / "extensions.json").exists()
    assert _fit(_net(), folder=folder, resume=True, extend=1).steps == 36


def test_a_finished_run_with_other_weights_is_not_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _fit(_net(), folder=folder)
    path = folder / "checkpoints" / "step-00000024" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged: its checksum"):
        _fit(_net(), folder=folder, resume=True)


class Learned(nn.Module):
    """A loss with a temperature of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def forward(self, outputs, targets):
        return LOSS(outputs * self.temperature, targets)


def test_parameters_of_a_loss_are_kept_too(tmp_path: Path) -> None:
    def go(folder: Path, resume: bool) -> tuple[nn.Module, Learned]:
        model, loss = _net(), Learned()
        optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=1.0)
        _fit(model, optimizer, loss=loss, folder=folder, resume=resume, checkpoint_every=5)
        return model, loss

    model, loss = go(tmp_path / "run", False)
    (tmp_path / "run" / "run.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000024")
    again, its = go(tmp_path / "run", True)
    assert _same(model, again)
    assert torch.equal(loss.temperature, its.temperature)
    assert loss.temperature.item() != 1.0
    (tmp_path / "run" / "run.json").unlink()
    model = _net()
    without = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(CheckpointError, match="1 parameters beside the model's"):
        _fit(model, without, folder=tmp_path / "run", resume=True, checkpoint_every=5)


@pytest.mark.parametrize(("monitor", "step"), [("val_mae", 24), ("-val_odd", 24), ("+val_odd", 12)])
def test_which_way_a_metric_is_better(tmp_path: Path, monitor: str, step: int) -> None:
    def distance(outputs, targets):
        return (outputs.softmax(1)[:, 1] - targets).abs().mean()

    how = {"metrics": {"mae": distance, "odd": distance}, "monitor": monitor}
    folder = tmp_path / "run"
    _fit(_net(), folder=folder, validation=_loader(), keep=9, **how)
    seen = {
        int(p.name[-3:]): json.loads((p / "checkpoint.json").read_text())["metrics"]["val_mae"]
        for p in (folder / "checkpoints").iterdir()
    }
    assert seen[24] < seen[12]
    assert json.loads((folder / "run.json").read_text())["best"]["step"] == step


def test_a_metric_whose_direction_nobody_says_is_not_monitored() -> None:
    with pytest.raises(InputError, match=r"as '\+val_odd' if more is better, and as '-val_odd'"):
        _fit(_net(), validation=_loader(), metrics={"odd": LOSS}, monitor="val_odd")


class Counting(nn.Module):
    """A model whose extra state is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _net()

    def forward(self, inputs):
        return self.inner(inputs)

    def get_extra_state(self):
        return {"calls": 1}

    def set_extra_state(self, state) -> None:
        """Take it back."""


def test_extra_state_that_no_checkpoint_could_hold_is_refused_at_once(tmp_path: Path) -> None:
    _fit(Counting())  # nothing is kept
    with pytest.raises(InputError, match=r"Counting .* gives dict as its extra state"):
        _fit(Counting(), folder=tmp_path / "run")


def test_weights_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    model = _net()
    _fit(model, folder=tmp_path / "run", mixed_precision="bf16")
    saved = load_file(tmp_path / "run" / "checkpoints" / "step-00000024" / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())
