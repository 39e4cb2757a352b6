"""fit: exactly the recipe's updates and rates, evaluated and kept where cycles end."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model
from torch import nn

from cyclr import OneCycle, Opposite, Recipe, Triangular
from cyclr.errors import DataError, InputError, SpecError, TrainingError
from cyclr.experiments.data import digits
from cyclr.training import RunFolder, fit, make_loader
from cyclr.training.evaluation import accuracy, evaluate
from cyclr.training.run import read_metrics

LOSS = nn.functional.cross_entropy
CYCLES = Triangular(base_lr=0.02, max_lr=0.2, stepsize=7, cycles=2)
RECIPE = Recipe(
    lr=CYCLES,
    momentum=Opposite(schedule=CYCLES, bottom=0.02, top=0.2, low=0.85, high=0.95),
    total_steps=30,  # two cycles of 14, then 2 more
)
(TRAIN, TARGETS), (HELD, HELD_TARGETS) = digits()


def _scale(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 8 - 1


def _net(seed: int = 0, *, norm: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    middle = nn.BatchNorm1d(32) if norm else nn.Identity()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), middle, nn.ReLU(), nn.Linear(32, 10))


def _sgd(net: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=9.0, momentum=0.9)


def _batches(size: int = 64, *, train: bool = True) -> Any:
    data = (TRAIN, TARGETS) if train else (HELD, HELD_TARGETS)
    return make_loader(data, size, seed=0, train=train, prepare=_scale)


def _fit(
    folder: Path | RunFolder | None = None, recipe: Recipe = RECIPE, **options: Any
) -> tuple[Any, Any]:
    net = _net()
    run = fit(
        net,
        _sgd(net),
        _batches(),
        LOSS,
        recipe,
        validation=_batches(train=False),
        folder=folder,
        **options,
    )
    return net, run


def test_updates_rates_and_momenta_are_the_recipes(tmp_path: Path) -> None:
    net = _net()
    optimizer = _sgd(net)
    used: list[tuple[float, float]] = []

    def note(optimizer: Any, *_: Any) -> None:
        used.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))

    optimizer.register_step_pre_hook(note)
    run = fit(net, optimizer, _batches(), LOSS, RECIPE, folder=tmp_path / "run")
    assert run.steps == len(used) == 30
    assert [lr for lr, _ in used] == pytest.approx([CYCLES(k) for k in range(30)], rel=1e-12)
    assert [m for _, m in used] == pytest.approx([RECIPE.momentum(k) for k in range(30)])
    lines = [line for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in lines] == list(range(30))
    assert [line["lr"] for line in lines] == pytest.approx([lr for lr, _ in used])
    assert [line["momentum"] for line in lines] == pytest.approx([m for _, m in used])


def test_the_folder_holds_the_run(tmp_path: Path) -> None:
    _, run = _fit(tmp_path / "run")
    folder = tmp_path / "run"
    assert run.folder == folder
    assert run.outcome == "completed: the recipe's last cycle has ended"
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        f"checkpoints/step-000000{step}/{name}"
        for step in (14, 28, 30)
        for name in ("checkpoint.json", "model.safetensors", "state.pt")
    ] + ["environment.json", "metrics.jsonl", "recipe.json", "run.json"]
    assert Recipe.load(folder / "recipe.json") == RECIPE
    summary = json.loads((folder / "run.json").read_text())
    assert summary["metrics"] == dict(run.metrics)
    stops = [line for line in read_metrics(folder) if line.get("stopping_point")]
    assert [line["step"] for line in stops] == [14, 28, 30]
    assert {k: stops[-1][k] for k in ("val_loss", "val_accuracy")} == dict(run.metrics)
    for line in stops:
        path = folder / "checkpoints" / f"step-{line['step']:08d}" / "checkpoint.json"
        assert json.loads(path.read_text())["metrics"]["val_loss"] == line["val_loss"]


def test_every_evaluation_is_of_the_whole_validation_data() -> None:
    found: list[tuple[int, dict[str, float]]] = []
    net = _net()
    expected: list[tuple[int, dict[str, float]]] = []

    def compare(step: int, metrics: Any) -> None:
        found.append((step, dict(metrics)))
        fresh = _batches(train=False)
        expected.append((step, evaluate(net, fresh, LOSS, {"accuracy": accuracy})))

    fit(
        net,
        _sgd(net),
        _batches(),
        LOSS,
        RECIPE,
        validation=_batches(train=False),
        on_stopping_point=compare,
    )
    assert [step for step, _ in found] == [14, 28, 30]
    assert found == expected


def test_a_validation_set_of_one_batch_is_evaluated() -> None:
    net = _net()
    held = _batches(1000, train=False)
    run = fit(net, _sgd(net), _batches(), LOSS, RECIPE, validation=held)
    assert run.metrics == evaluate(net, _batches(1000, train=False), LOSS, {"accuracy": accuracy})


def test_a_checkpoint_gives_the_trained_models_outputs(tmp_path: Path) -> None:
    net, _ = _fit(tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "step-00000030"
    other = _net(seed=1)
    load_model(other, str(last / "model.safetensors"))
    inputs = _scale(HELD)
    assert torch.equal(other.eval()(inputs), net.eval()(inputs))
    state = torch.load(last / "state.pt", weights_only=True)
    assert state["scheduler"]["last_epoch"] == 30
    optimizer = _sgd(other)
    optimizer.load_state_dict(state["optimizer"])
    assert len(optimizer.state) == len(list(net.parameters()))


def test_it_stops_where_the_cycle_ends() -> None:
    lr = OneCycle(base_lr=0.02, max_lr=0.2, final_lr=2e-5, total_steps=24)
    stops: list[int] = []
    _, run = _fit(
        recipe=Recipe(lr=lr, total_steps=24), on_stopping_point=lambda step, _: stops.append(step)
    )
    assert run.steps == 24
    assert stops == [22, 24]  # the cycle is 90 % of the steps, annihilation the rest
    assert lr.cycle_ends() == (22, 24)


def test_it_learns() -> None:
    _, run = _fit()
    assert run.metrics["val_accuracy"] > 0.8


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _fit(tmp_path / name)
    one, two = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("one", "two"))
    assert one == two
    assert len(one.splitlines()) == 33


def test_callbacks_hear_every_update_and_stopping_point_in_order() -> None:
    heard: list[tuple[str, int]] = []
    _fit(
        on_step=lambda line: heard.append(("step", line["step"])),
        on_stopping_point=lambda step, metrics: heard.append(("stop", step)),
    )
    stops = {14, 28, 30}
    expected = []
    for k in range(30):
        expected.append(("step", k))
        if k + 1 in stops:
            expected.append(("stop", k + 1))
    assert heard == expected


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_accumulating_two_batches_equals_one_of_twice_the_size(
    max_grad_norm: float | None,
) -> None:
    inputs, targets = _scale(TRAIN[:1280]), TARGETS[:1280]
    trained = []
    for size, accumulate in ((64, 1), (32, 2)):
        net = _net(norm=False)
        losses: list[float] = []
        fit(
            net,
            _sgd(net),
            list(zip(inputs.split(size), targets.split(size), strict=True)),
            LOSS,
            RECIPE,
            accumulate=accumulate,
            max_grad_norm=max_grad_norm,
            on_step=lambda line, losses=losses: losses.append(line["loss"]),
        )
        trained.append((torch.cat([p.flatten() for p in net.parameters()]), losses))
    (whole, whole_losses), (split, split_losses) = trained
    assert len(whole_losses) == len(split_losses) == 30
    assert split_losses == pytest.approx(whole_losses, rel=1e-3)
    torch.testing.assert_close(split, whole, rtol=1e-3, atol=1e-4)


def _norms(accumulate: int = 1, **options: Any) -> list[float]:
    net = _net(norm=False)
    optimizer = _sgd(net)
    norms: list[float] = []

    def note(optimizer: Any, *_: Any) -> None:
        grads = [p.grad for p in optimizer.param_groups[0]["params"]]
        norms.append(float(torch.cat([g.flatten() for g in grads]).norm()))

    optimizer.register_step_pre_hook(note)
    fit(net, optimizer, _batches(), LOSS, RECIPE, accumulate=accumulate, **options)
    return norms


@pytest.mark.parametrize("accumulate", [1, 2])
def test_max_grad_norm_limits_every_update(accumulate: int) -> None:
    free = _norms(accumulate)
    clipped = _norms(accumulate, max_grad_norm=0.1)
    assert len(clipped) == len(free) == 30
    assert max(free) > 0.2
    assert max(clipped) <= 0.1 + 1e-5


def test_a_process_may_fit_in_several_precisions() -> None:
    plain_net, plain = _fit()
    half_net, half = _fit(mixed_precision="bf16")
    again_net, again = _fit()
    assert half.metrics["val_accuracy"] == pytest.approx(plain.metrics["val_accuracy"], abs=0.05)
    assert not torch.equal(half_net[1].weight, plain_net[1].weight)
    assert half_net[1].weight.dtype == torch.float32
    assert torch.equal(again_net[1].weight, plain_net[1].weight)
    assert again.metrics == plain.metrics


def test_own_metrics_are_named_and_none_means_accuracy_for_whole_numbers() -> None:
    _, run = _fit(metrics={"top2": lambda o, t: (o.topk(2).indices == t[:, None]).any(1)})
    assert sorted(run.metrics) == ["val_loss", "val_top2"]
    assert 0 < run.metrics["val_top2"] <= 1
    inputs = _scale(TRAIN[:128]).flatten(1)
    pairs = [(inputs, inputs.mean(1, keepdim=True))]
    torch.manual_seed(0)
    net = nn.Linear(64, 1)
    run = fit(net, _sgd(net), pairs, nn.functional.mse_loss, RECIPE, validation=pairs)
    assert list(run.metrics) == ["val_loss"]


def test_without_validation_there_are_no_metrics_and_still_checkpoints(tmp_path: Path) -> None:
    net = _net()
    run = fit(net, _sgd(net), _batches(), LOSS, RECIPE, folder=tmp_path / "run")
    assert run.metrics == {}
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 3


def test_a_validation_metric_that_is_not_finite_does_not_end_the_run(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"step 14: val_odd is NaN, which counts") as warned:
        _, run = _fit(tmp_path / "run", metrics={"odd": lambda o, t: torch.tensor(math.nan)})
    assert len(warned) == 1
    assert run.steps == 30
    assert math.isnan(run.metrics["val_odd"])
    summary = json.loads((tmp_path / "run" / "run.json").read_text())
    assert summary["metrics"]["val_odd"] == "nan"


def test_a_loss_that_is_nan_from_the_first_step_is_a_training_error(tmp_path: Path) -> None:
    net = _net()

    def broken(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return LOSS(outputs, targets) * math.nan

    with pytest.raises(TrainingError, match=r"the loss is nan from the first step.*check the mod"):
        fit(net, _sgd(net), _batches(), broken, RECIPE, folder=tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    (line,) = read_metrics(tmp_path / "run")
    assert line["step"] == 0
    assert math.isnan(line["loss"])


def test_a_loss_that_explodes_names_step_rate_and_remedy() -> None:
    net = _net(norm=False)
    calls: list[int] = []

    def explode(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return LOSS(outputs, targets) * (math.inf if len(calls) == 9 else 1.0)

    with pytest.raises(TrainingError) as caught:
        fit(net, _sgd(net), _batches(), explode, RECIPE)
    assert str(caught.value) == (
        f"the loss is inf at step 8, at a rate of {CYCLES(8):g}; "
        "lower max_lr, or clip the gradient with max_grad_norm"
    )


def test_an_interruption_keeps_the_lines_and_writes_no_summary(tmp_path: Path) -> None:
    def stop(step: int, _: Any) -> None:
        if step == 28:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "run", on_stopping_point=stop)
    assert not (tmp_path / "run" / "run.json").exists()
    lines = [line for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert len(lines) == 28
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000014", "step-00000028"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate must be an int ≥ 1, got 0"),
        ({"max_grad_norm": 0}, "max_grad_norm must be a finite real number > 0 or None, got 0"),
        ({"mixed_precision": "fp8"}, "mixed_precision must be one of 'no', 'fp16', 'bf16', got"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_made(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        _fit(tmp_path / "run", **options)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_model_without_parameters_is_refused(tmp_path: Path) -> None:
    net = _net()
    with pytest.raises(InputError, match="the model has no parameters"):
        fit(nn.Flatten(), _sgd(net), _batches(), LOSS, RECIPE, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_the_optimizer_cannot_follow_is_refused_before_the_folder(
    tmp_path: Path,
) -> None:
    net = _net()
    adagrad = torch.optim.Adagrad(net.parameters())
    with pytest.raises(SpecError, match="Adagrad has neither momentum nor betas"):
        fit(net, adagrad, _batches(), LOSS, RECIPE, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_schedule_in_place_of_a_recipe_is_refused() -> None:
    net = _net()
    with pytest.raises(InputError, match="Recipe"):
        fit(net, _sgd(net), _batches(), LOSS, CYCLES)  # type: ignore[arg-type]


def test_a_folder_in_use_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(InputError, match="a run never overwrites"):
        _fit(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("make", [list, lambda: make_loader([], 4)], ids=["list", "data set"])
def test_no_batch_is_a_data_error(make: Callable[[], Any]) -> None:
    net = _net()
    with pytest.raises(DataError, match=r"data (set )?is empty"):
        fit(net, _sgd(net), make(), LOSS, RECIPE)


def test_an_empty_validation_is_a_data_error() -> None:
    net = _net()
    with pytest.raises(DataError, match="validation data is empty"):
        fit(net, _sgd(net), _batches(), LOSS, RECIPE, validation=[])


def test_a_run_folder_with_facts_of_its_own_is_used(tmp_path: Path) -> None:
    _, run = _fit(RunFolder(tmp_path / "run", seed=4))
    assert run.folder == tmp_path / "run"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["seed"] == 4
    assert (tmp_path / "run" / "run.json").exists()
