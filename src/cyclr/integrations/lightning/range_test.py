"""The Lightning driver of the range test: the module trains under a Trainer of the sweep's own."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch.optim.optimizer import Optimizer

from cyclr.errors import DataError, InputError, complaint
from cyclr.integrations.driver import new_test
from cyclr.integrations.lightning.package import pl
from cyclr.integrations.lightning.traceless import interruptible, is_datamodule, quiet, twin, unseen
from cyclr.integrations.lightning.trainers import trainer_like
from cyclr.integrations.nonfinite import story
from cyclr.integrations.torch.attributes import Attributes
from cyclr.integrations.torch.groups import describe, set_value, wrapped
from cyclr.integrations.torch.modes import evaluating
from cyclr.integrations.torch.nonfinite import blames_values
from cyclr.integrations.torch.snapshot import Snapshot
from cyclr.integrations.validation import check_validation, joined, measured
from cyclr.rangetest import RangeRecord, RangeTest
from cyclr.schedules.spec import Schedule

OnStep = Callable[[RangeTest], None]
Validate = Callable[[Any], Mapping[str, float]]


def range_test(
    trainer: Any,
    module: Any,
    data: Any = None,
    *,
    sweep: Schedule | RangeTest | None = None,
    steps: int | None = None,
    metrics: Sequence[str] = (),
    validate: Validate | None = None,
    validate_every: int | None = None,
    on_step: OnStep | None = None,
) -> RangeRecord:
    """Run a learning rate range test on a LightningModule, and leave no trace of it.

    The module trains as in a fit (its hooks, ``training_step``, ``configure_optimizers``; the
    Trainer's device, precision, accumulation and clipping), under a Trainer of the sweep's own
    without loggers, callbacks, checkpoints or validation: yours does not notice. Call it before a
    fit, after one, or from a callback in the middle of one, where it starts from copies of the
    optimizers' state. Afterwards, and after an exception or Ctrl-C as well, everything is as it
    was: the module's weights and attributes, the data's position, the random generators.

    With several optimizers or parameter groups, the sweep is the rate of the group whose rate is
    largest, and all ratios are kept. Schedulers of the module do nothing meanwhile. The module sees
    your Trainer's ``max_epochs``, ``max_steps`` and ``estimated_stepping_batches``, which do not
    end the sweep. An exception that the module raises because of NaN or infinity, after at least
    one update, ends the sweep as ``non_finite`` and stands in the record's notes.

    Args:
        trainer: Your Trainer, on one device.
        module: Your LightningModule. With manual optimization, its ``training_step`` must return
            the loss.
        data: A data loader or a collection of them, or a LightningDataModule. If None, what the
            Trainer has trained the module on, or else the module's own ``train_dataloader``.
        sweep: Schedule of the rate, or a :class:`~cyclr.rangetest.sweep.RangeTest` whose progress
            you want to watch or whose record you want even after an interruption. By default the
            test finds its range by itself: see :class:`~cyclr.rangetest.sweep.RangeTest`; if it
            began too high, everything is put back and it is begun again lower.
        steps: Without a sweep, how dense its rates are, ≥ 2; 100 if None.
        metrics: Names under which ``training_step`` logs what the record shall hold too, such as
            ``("train_accuracy",)``.
        validate: ``validate(module)`` gives metrics by name, such as ``{"val_loss": 0.9}``; called
            in eval mode without gradients, before an update, with the module where it trains.
        validate_every: Updates between validations, ≥ 1. If None, a twentieth of the sweep; or 1
            where an epoch has twenty updates or fewer, since there the validation loss is what is
            read (:meth:`~cyclr.rangetest.RangeRecord.read`).
        on_step: Called after every update with the running test, for progress.

    Raises:
        InputError: The Trainer uses several devices, the test given as sweep has been driven
            already, or arguments do not go together.
        DataError: The data is empty, or an iterator that cannot be started again.

    Reference: arXiv 1506.01186, section 3.3.
    """
    if not hasattr(trainer, "lightning_module"):
        remedy = "pass yours, or a plain pl.Trainer()"
        raise InputError(complaint("trainer", "a Lightning Trainer", trainer, remedy))
    if trainer.world_size > 1:
        remedy = "pass pl.Trainer(devices=1)"
        raise InputError(complaint("trainer", "on one device", trainer.world_size, remedy))
    if sweep is not None and steps is not None:
        raise InputError("steps is the length of the default sweep; set it in your sweep instead")
    check_validation(validate, validate_every)
    test = new_test(sweep) if isinstance(sweep, RangeTest) else RangeTest(sweep, steps=steps)
    if hasattr(data, "__next__"):
        remedy = "pass what it was made from, such as the data loader"
        raise DataError(complaint("data", "re-iterable, not an iterator", data, remedy))
    if data is None and trainer.lightning_module is module:
        data = trainer.train_dataloader
    measure = _Measure(validate, validate_every)
    while True:
        _sweep(trainer, module, data, _Sweeper(test, metrics, measure, on_step))
        if test.step == 0:
            raise DataError("data is empty: there is not a single batch to train on")
        if not test.restart():
            return test.record


def _sweep(trainer: Any, module: Any, data: Any, sweeper: _Sweeper) -> None:
    """Go through the sweep once, and put everything back."""
    with unseen(module, data), quiet(), interruptible(), sweeper.memory:
        module.configure_callbacks = list
        if trainer.lightning_module is module and _is_fitting(trainer):
            sweeper.carry_over(trainer)
            # The module has been set up, and what it was set up with is in use.
            module.setup = module.teardown = module.prepare_data = _nothing
        source = {"datamodule" if is_datamodule(data) else "train_dataloaders": twin(data)}
        try:
            trainer_like(trainer, sweeper).fit(module, **source)
        except Exception as error:
            if not sweeper.was_ended_by(error, module):
                raise


def _is_fitting(trainer: Any) -> bool:
    return bool(trainer.state.fn == "fit" and trainer.state.status == "running")


class _Measure(NamedTuple):
    """Validates a module that trains, if it is time."""

    validate: Validate | None
    every: int | None

    def __call__(self, test: RangeTest, module: Any) -> dict[str, float]:
        if self.validate is None:
            return {}
        with evaluating(module):
            return measured(test, functools.partial(self.validate, module), self.every)


class _Sweeper(pl.Callback):  # type: ignore[misc] # its type depends on what is installed
    """Sets the sweep's rates and listens to the losses, within a Trainer of the sweep's own."""

    def __init__(
        self, test: RangeTest, metrics: Sequence[str], measure: _Measure, on_step: OnStep | None
    ) -> None:
        self.memory = ExitStack()
        self._test = test
        self._metrics = tuple(metrics)
        self._measure = measure
        self._validated: dict[str, float] = {}
        self._on_step = on_step
        self._running: list[Optimizer] = []
        self._scaler: dict[str, Any] = {}
        self._factors: list[float] = []
        self._lr: float | None = None
        self._losses: list[float] = []
        self._updates = 0
        self._updating = False  # as opposed to fetching data, or telling how it goes

    def carry_over(self, trainer: Any) -> None:
        """Start from the state that a running fit has reached."""
        self._running = trainer.optimizers
        self._scaler = copy.deepcopy(trainer.precision_plugin.state_dict())

    def on_fit_start(self, trainer: Any, *_: Any) -> None:
        """Make the optimizers the sweep's own, and go on however long it takes."""
        trainer.lift()
        optimizers = trainer.optimizers
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        # A module may return the same objects each time, those of a running fit: they are
        # remembered like the rest, and whoever listens for their updates is not told.
        self.memory.enter_context(Snapshot(*optimizers, elsewhere=[trainer.lightning_module]))
        self.memory.enter_context(Attributes(*optimizers, *schedulers, tensors=False))
        for optimizer in optimizers:
            optimizer._optimizer_step_pre_hooks.clear()
            optimizer._optimizer_step_post_hooks.clear()
        for config in trainer.lr_scheduler_configs:
            config.scheduler.step = _nothing
            # No interval of Lightning's, which would look for what a scheduler monitors.
            config.interval = "never"
        rates = [float(group.get("initial_lr", group["lr"])) for group in _groups(trainer)]
        self._factors = [rate / max(rates) if max(rates) > 0 else 1.0 for rate in rates]
        for mine, theirs in zip(optimizers, self._running, strict=bool(self._running)):
            if mine is not theirs:
                mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
        if self._scaler:
            trainer.precision_plugin.load_state_dict(self._scaler)

    def on_train_start(self, trainer: Any, *_: Any) -> None:
        """Begin the test, with what is known only now."""
        batches = trainer.num_training_batches
        names = " + ".join(dict.fromkeys(type(wrapped(o)).__name__ for o in trainer.optimizers))
        self._test.fill_in(
            optimizer={**describe(trainer.optimizers[0]), "name": names},
            steps_per_epoch=(
                math.ceil(batches / trainer.accumulate_grad_batches)
                if math.isfinite(batches)
                else None
            ),
            rewinds=True,
        )
        self._lr = self._test.ask()
        trainer.should_stop = self._lr is None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Set the rates, again for each micro-batch: nothing else may have the last word."""
        assert self._lr is not None
        self._updating = True
        if not self._losses:  # an update's first micro-batch
            self._validated = self._measure(self._test, pl_module)
        for group, factor in zip(_groups(trainer), self._factors, strict=True):
            set_value(group, "lr", self._lr * factor)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Tell the loss once the update has been made."""
        self._updating = False
        self._losses.append(self._loss(trainer, pl_module, outputs))
        if trainer.global_step == self._updates:
            return  # a micro-batch, or manual optimization that waits
        self._updates = trainer.global_step
        self._test.tell(sum(self._losses) / len(self._losses), **self._measured(trainer))
        self._losses = []
        if self._on_step is not None:
            self._on_step(self._test)
        self._lr = self._test.ask()
        trainer.should_stop = self._lr is None

    def was_ended_by(self, error: Exception, module: Any) -> bool:
        """End the test if an exception says that an update met NaN or infinity."""
        step = self._test.step
        if not self._updating or step == 0 or not blames_values(error, [module]):
            return False
        self._test.fail(story(step, error))
        if self._on_step is not None:
            self._on_step(self._test)
        return True

    def _loss(self, trainer: Any, pl_module: Any, outputs: Any) -> float:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is not None:
            # Automatic optimization divides it among the micro-batches of an update.
            automatic = pl_module.automatic_optimization
            return float(loss.item()) * (trainer.accumulate_grad_batches if automatic else 1)
        if pl_module.automatic_optimization:
            return math.nan  # training_step skipped the batch
        raise InputError(
            f"{type(pl_module).__name__}.training_step must return the loss, got None; with manual "
            "optimization there is no other way to know it"
        )

    def _measured(self, trainer: Any) -> dict[str, Any]:
        logged = trainer.callback_metrics
        for name in self._metrics:
            if name not in logged:
                raise InputError(
                    f"metrics names {name!r}, which training_step has not logged by this step; "
                    f"it logged {sorted(logged)}: pick of those, or log it with on_step=True"
                )
        return joined(
            self._validated, {name: logged[name] for name in self._metrics}, "training_step"
        )


def _groups(trainer: Any) -> list[dict[str, Any]]:
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]


def _nothing(*_: Any, **__: Any) -> None:
    """Stand in for what must not happen during a sweep."""
