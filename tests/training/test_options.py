"""What fit can be asked for: precision that skips, averages, layouts, evaluations, keeping."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from cyclr.errors import InputError, SpecError, TrainingError
from cyclr.training import Settings, fit, make_loader
from cyclr.training.run import read_metrics
from small_runs import RECIPE, StopAfter, net, run, steps

LOSS = nn.functional.cross_entropy


def _scaled(initial: float = 2.0**10) -> Accelerator:
    """An Accelerator with a gradient scaler that works on a CPU."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=initial, growth_interval=10**6)
    return accelerator


class Overflow:
    """A loss whose gradient is infinite at some of its training calls."""

    def __init__(self, *calls: int) -> None:
        self.calls, self.count = calls, 0

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = LOSS(outputs, targets)
        if outputs.requires_grad:
            self.count += 1
            if self.count in self.calls:
                return loss * math.inf
        return loss


def test_an_update_that_mixed_precision_skipped_is_no_step(tmp_path: Path) -> None:
    used: list[float] = []
    model = net()

    def make(parameters: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters, lr=1.0, momentum=0.9)
        optimizer.register_step_pre_hook(lambda opt, *_: used.append(opt.param_groups[0]["lr"]))
        return optimizer

    overflow = Overflow(4, 5, 30)
    result = run(
        tmp_path / "run",
        model=model,
        make_optimizer=make,
        loss=overflow,
        accelerator=_scaled(),
        ema_decay=0.9,
    )
    assert overflow.count == 60 + 3
    assert (result.steps, result.skipped) == (60, 3)
    assert used == pytest.approx([RECIPE.lr(k) for k in range(60)])
    lines = [line for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in lines] == list(range(60))
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["skipped_updates"] == 3
    end = tmp_path / "run" / "checkpoints" / "step-00000060" / "state.pt"
    assert torch.load(end, weights_only=True)["scaler"]["scale"] == 2.0**10 / 8


def test_the_scalers_state_is_gone_on_with(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    class Both(Overflow):
        def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            loss = super().__call__(outputs, targets)
            if self.count == 40:
                raise Crash
            return loss

    with pytest.raises(Crash):
        run(tmp_path / "run", loss=Both(4, 5), accelerator=_scaled())
    again = _scaled()
    result = run(tmp_path / "run", loss=LOSS, accelerator=again, resume=True)
    assert result.skipped == 2
    assert again.scaler.get_scale() == 2.0**10 / 4


def test_updates_that_are_skipped_now_and_then_never_add_up_to_a_failure() -> None:
    every_other = range(1, 240, 2)
    recipe = RECIPE.replace(total_steps=120)
    result = run(None, loss=Overflow(*every_other), accelerator=_scaled(2.0**126), recipe=recipe)
    assert (result.steps, result.skipped) == (120, 120)


def test_updates_that_are_always_skipped_end_with_words() -> None:
    with pytest.raises(TrainingError, match="skipped 100 updates in a row before step 0: the gra"):
        run(None, loss=Overflow(*range(1, 1000)), accelerator=_scaled())


def test_an_accelerators_own_precision_and_accumulation_are_not_contradicted() -> None:
    with pytest.raises(InputError, match=r"accumulate must be the accelerator's \(1\), got 2"):
        run(None, accelerator=Accelerator(cpu=True), accumulate=2)
    own = Accelerator(cpu=True, gradient_accumulation_steps=2)
    assert run(None, accelerator=own).steps == 60


def test_the_average_of_the_weights_is_the_recursion_and_is_measured(tmp_path: Path) -> None:
    after: list[torch.Tensor] = []
    model = net()

    def make(parameters: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters, lr=1.0, momentum=0.9)
        optimizer.register_step_post_hook(lambda *_: after.append(model[0].weight.detach().clone()))
        return optimizer

    result = run(tmp_path / "run", model=model, make_optimizer=make, ema_decay=0.8)
    mean = after[0]
    for weight in after[1:]:
        mean = 0.8 * mean + 0.2 * weight
    saved = load_file(str(tmp_path / "run/checkpoints/step-00000060/ema.safetensors"))
    torch.testing.assert_close(saved["module.0.weight"], mean)
    assert {"val_accuracy", "ema_val_accuracy", "val_loss", "ema_val_loss"} == set(result.metrics)


def test_looking_more_often_changes_nothing(tmp_path: Path) -> None:
    for name, options in (("seldom", {}), ("often", {"validate_every": 3, "probe_every": None})):
        run(tmp_path / name, **options)
    seldom, often = (
        [
            (line["step"], line["loss"], line["lr"])
            for line in read_metrics(tmp_path / n)
            if "loss" in line
        ]
        for n in ("seldom", "often")
    )
    assert often == seldom
    extra = [line["step"] for line in read_metrics(tmp_path / "often") if "validation" in line]
    assert extra == [k for k in range(3, 60, 3) if k % 20]


def test_the_best_and_the_latest_checkpoints_are_kept(tmp_path: Path) -> None:
    scores = iter([0.0, 0.1, 0.2, 0.9, *([0.3] * 100)])  # the first when it is tried
    result = run(
        tmp_path / "run",
        validate_every=5,
        keep=2,
        checkpoint_every=7,
        monitor="+val_given",
        metrics={"given": lambda o, t: torch.full((len(t),), next(scores) if len(t) == 16 else 0)},
    )
    assert result.best == 15
    assert steps(tmp_path / "run") == [15, 56, 60]
    described = (tmp_path / "run" / "checkpoints" / "step-00000015" / "checkpoint.json").read_text()
    measured = [x for x in read_metrics(tmp_path / "run") if x["step"] == 15 and "val_given" in x]
    assert json.loads(described)["metrics"]["val_given"] == measured[0]["val_given"] > 0.4
    assert result.recommended == 60


def test_channels_last_changes_the_layout_and_not_the_numbers() -> None:
    torch.manual_seed(0)
    images, targets = torch.randn(64, 3, 8, 8), torch.randint(0, 3, (64,))
    losses: dict[bool, list[float]] = {}
    for last in (False, True):
        torch.manual_seed(1)
        seen: list[bool] = []
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
        model[0].register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append(
                args[0].is_contiguous(memory_format=torch.channels_last)
            )
        )
        lines: list[float] = []
        fit(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            make_loader((images, targets), 16),
            LOSS,
            RECIPE.replace(total_steps=10),
            channels_last=last,
            on_step=lambda line, lines=lines: lines.append(line["loss"]),
        )
        assert set(seen) == {last}
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last) is last
        losses[last] = lines
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_a_compiled_model_gives_the_same_curve_and_plain_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the backend that only traces: what is ours is the wiring, not the code generation."""
    compiled: list[nn.Module] = []
    real = torch.compile

    def trace(model: nn.Module) -> Any:
        compiled.append(model)
        return real(model, backend="eager")

    monkeypatch.setattr("torch.compile", trace)
    for name in ("plain", "compiled"):
        run(tmp_path / name, compile=name == "compiled", loss=LOSS)
    assert len(compiled) == 1
    curves = [
        [line["loss"] for line in read_metrics(tmp_path / n) if "loss" in line]
        for n in ("plain", "compiled")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    end = tmp_path / "compiled" / "checkpoints" / "step-00000060" / "model.safetensors"
    assert set(load_file(str(end))) == set(net().state_dict())


def test_a_tracker_gets_every_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra cyclr[tracking]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path / "run", trackers=["tensorboard"])
    (events,) = (tmp_path / "run" / "trackers").rglob("events.out.*")
    seen = EventAccumulator(str(events.parent)).Reload()
    logged = [line for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert [e.step for e in seen.Scalars("loss")] == list(range(60))
    assert [e.value for e in seen.Scalars("lr")] == pytest.approx([line["lr"] for line in logged])
    assert [e.step for e in seen.Scalars("val_accuracy")] == [20, 40, 60]


def test_a_tracker_keeps_the_evaluation_that_a_run_goes_on_from(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra cyclr[tracking]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stop = StopAfter(25, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "run", trackers=["tensorboard"], loss=stop, checkpoint_every=20)
    run(tmp_path / "run", trackers=["tensorboard"], resume=True, checkpoint_every=20)
    seen = EventAccumulator(str(tmp_path / "run" / "trackers" / "run")).Reload()
    assert [e.step for e in seen.Scalars("val_accuracy")] == [20, 40, 60]
    assert [e.step for e in seen.Scalars("loss")] == list(range(60))


def test_trackers_that_do_not_exist_or_have_no_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tracker must be one of .*tensorboard.*, got 'paper'"):
        run(tmp_path / "run", trackers=["paper"])
    pytest.importorskip("tensorboard", reason="needs the extra cyclr[tracking]")
    with pytest.raises(InputError, match="trackers need a place for their files"):
        run(None, trackers=["tensorboard"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ema_decay": 1.0}, "ema_decay must be a finite real number > 0 and < 1 or None, got 1.0"),
        ({"on_plateau": "cry"}, "on_plateau must be one of 'go-on', 'lower', 'stop', got 'cry'"),
        ({"probe_every": 2}, "probe_every must be an int ≥ 3 or None, got 2"),
        ({"validate_every": 0}, "validate_every must be an int ≥ 1 or None, got 0"),
        ({"keep": 0}, "keep must be an int ≥ 1, got 0"),
        ({"checkpoint_minutes": 0}, "checkpoint_minutes must be a finite real number > 0 or None"),
        ({"compile": "yes"}, "compile must be True or False, got 'yes'"),
    ],
)
def test_a_setting_that_breaks_its_constraint_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        run(None, **options)
    assert words in str(caught.value)


def test_an_unknown_setting_is_a_type_error_that_lists_the_known_ones() -> None:
    with pytest.raises(TypeError, match=r"fit\(\) has no argument 'epochs'; its settings .*'kee"):
        run(None, epochs=3)


def test_resuming_needs_a_folder() -> None:
    with pytest.raises(InputError, match="resume goes on with a run in its folder"):
        run(None, resume=True)


def test_differences_that_decide_the_numbers_are_named_and_others_are_not() -> None:
    saved = Settings().to_dict()
    assert Settings(keep=9, checkpoint_every=3, snapshots=True).differences(saved) == []
    assert Settings(accumulate=4).differences(saved) == ["accumulate was 1 and is now 4"]


def test_checkpoints_come_by_the_clock_too(tmp_path: Path) -> None:
    ends = {20, 40, 60}
    for name, minutes in (("seldom", 1e9), ("often", 1e-9)):
        run(tmp_path / name, checkpoint_every=None, checkpoint_minutes=minutes, keep=100)
    assert set(steps(tmp_path / "seldom")) == ends
    assert set(steps(tmp_path / "often")) > ends


def test_probes_are_in_the_log(tmp_path: Path) -> None:
    run(tmp_path / "run", probe_every=6)
    probed = [line for line in read_metrics(tmp_path / "run") if "optimal_lr" in line]
    assert [line["step"] for line in probed] == list(range(1, 60, 6))
    assert all(line["grad_norm"] > 0 and line["update_ratio"] > 0 for line in probed)
    assert all(line["optimal_lr_mean"] > 0 for line in probed)
