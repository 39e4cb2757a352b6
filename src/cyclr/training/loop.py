"""The training loop, to be read from top to bottom: forward, backward, update, look."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from cyclr.errors import TrainingError
from cyclr.integrations.torch import Scheduler
from cyclr.integrations.torch.modes import to_training
from cyclr.recipe import Recipe
from cyclr.training.curves import Curves
from cyclr.training.decisions import Judge
from cyclr.training.distributed import Processes
from cyclr.training.evaluation import Evaluator
from cyclr.training.probes import Probes, Seen
from cyclr.training.settings import Settings
from cyclr.training.signals import StopRequest
from cyclr.training.stream import Mark, Stream
from cyclr.training.updates import Backward, Update, check_loss, clear_gradients

_LOOK_EVERY = 20  # steps between reads of the loss: each read waits for the device
_LOOK_SECONDS = 1.0  # … and seconds, so that slow steps are seen and signals heard soon
_MOST_SKIPS = 100  # in a row, after which mixed precision has clearly failed

Pending = tuple[int, torch.Tensor, Seen | None]
Batch = tuple[Any, Any, float]


class Keeper(Protocol):
    """Who is told what happens, and keeps it."""

    def step(self, line: Mapping[str, Any]) -> None:
        """Take the line of an update."""

    def evaluated(self, step: int, metrics: Mapping[str, float], *, stopping_point: bool) -> None:
        """Take an evaluation."""

    def decided(self, step: int, kind: str, why: str) -> None:
        """Take a decision."""

    def follows(self, recipe: Recipe) -> None:
        """Take note of the recipe that is followed from here on."""

    def checkpoint(
        self, loop: Loop, metrics: Mapping[str, float], *, cycle_end: bool, stopping_point: bool
    ) -> None:
        """Keep the state; called on every process."""


@dataclass(kw_only=True)
class Loop:
    """What the loop works with, already prepared by Accelerate, and how far it is.

    Attributes:
        accelerator: Devices, precision, accumulation.
        processes: Who trains together.
        model: The prepared model.
        backward: Adds a loss's gradients to those there are.
        update: Makes an update and clears the gradients; says whether it was made.
        scheduler: On the optimizer itself; replaced when the recipe changes.
        stream: Training batches without end.
        loss_fn: ``loss_fn(outputs, targets)``.
        recipe: How many steps, and where the stopping points are. A decision may change it.
        settings: How to train.
        keeper: Is told what happens.
        judge: Decides at cycle ends.
        stop: Notes signals.
        probes: Look at updates now and then; None for none.
        ema: Moving average of the weights, and of which module; None for none.
        evaluate: Gives metrics of the model; None for no evaluation.
        step: Updates made so far.
        skipped: Updates that mixed precision skipped.
        metrics: The last evaluation.
        heard: The signal on which all processes agreed to stop; 0 for none.
        ended: Why training stopped before the recipe's end; empty if it did not.
    """

    accelerator: Accelerator
    processes: Processes
    model: nn.Module
    backward: Backward
    update: Update
    scheduler: Scheduler
    stream: Stream
    loss_fn: Callable[[Any, Any], torch.Tensor]
    recipe: Recipe
    settings: Settings
    keeper: Keeper
    judge: Judge
    stop: StopRequest
    probes: Probes | None = None
    ema: tuple[torch.optim.swa_utils.AveragedModel, nn.Module] | None = None
    evaluate: Evaluator | None = None
    step: int = 0
    skipped: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    heard: int = 0
    ended: str = ""
    _pending: list[Pending] = field(default_factory=list)
    _skipped_in_a_row: int = 0
    _look_every: int = 1  # until it is known how long a step takes
    _looked_at: tuple[int, float] = (0, 0.0)  # step and time
    _kept_at: float = 0.0
    _kept_step: int = -1

    @property
    def evaluated_here(self) -> bool:
        """Whether the last evaluation was at the present step."""
        every = self.settings.validate_every
        regular = every is not None and self.step % every == 0
        return self.step > 0 and (regular or self.step in self.recipe.stopping_points)

    def run(self) -> None:
        """Train to the recipe's end, a decision to stop, or a signal.

        Raises:
            DataError: There is no batch.
            TrainingError: The loss became NaN or infinite, or mixed precision failed.
        """
        self.follow(self.recipe)
        self._kept_at = time.monotonic()
        self._kept_step = self.step or -1  # a run that is gone on with has a checkpoint here
        self._looked_at = (self.step, self._kept_at)
        to_training(self.model)
        clear_gradients(self.model, self.scheduler.optimizer)
        # An earlier training may have left Accelerate between two micro-batches.
        self.accelerator.step = 0
        if self.settings.accumulate == 1:
            with self.accelerator.accumulate(self.model):
                pass
        next_pause = self._next_pause()
        alone = self.processes.count == 1
        while self.step < self.recipe.total_steps and not self.ended:
            probing = self.probes is not None and self.probes.due(self.step)
            mark = self.stream.mark()
            loss = self._forward_backward()
            if loss is None:
                self._leave(mark)
                return
            if probing:
                self._probe()
            if self.settings.max_grad_norm is not None:
                self.accelerator.clip_grad_norm_(
                    self.model.parameters(), self.settings.max_grad_norm
                )
            if not self.update():
                self._skip()
                continue
            self._skipped_in_a_row = 0
            self.scheduler.step()
            if self.ema is not None:
                average, model = self.ema
                average.update_parameters(model)
            seen = self.probes.after() if probing and self.probes is not None else None
            self._pending.append((self.step, loss, seen))
            self.step += 1
            if self.step >= next_pause or (alone and self.stop.signal):
                self._pause()
                if self.heard:
                    return
                next_pause = self._next_pause()

    def _next_batch(self) -> Batch | None:
        """Give the next batch; None where a signal has ended the loader's workers."""
        try:
            return next(self.stream)
        except RuntimeError:
            if not (self.stop.signal and self.processes.count == 1):
                raise
            return None

    def _leave(self, mark: Mark) -> None:
        """End as after the last update, of which everything has been looked at but the end."""
        self.stream.back_to(mark)
        self._look()
        self._agree()
        if self._kept_step != self.step:
            self.keeper.checkpoint(self, {}, cycle_end=False, stopping_point=False)

    def _forward_backward(self) -> torch.Tensor | None:
        """Add up the gradients of an update's micro-batches; give their mean loss.

        None where there is no batch any more.
        """
        accelerator, micro_batches = self.accelerator, self.settings.accumulate
        total: torch.Tensor | None = None
        for _ in range(micro_batches):
            batch = self._next_batch()
            if batch is None:
                return None
            inputs, targets, weight = batch
            with accelerator.accumulate(self.model) if micro_batches > 1 else _NOTHING:
                with accelerator.autocast() if self._mixed else _NOTHING:
                    loss = self.loss_fn(self.model(inputs), targets)
                if weight != 1.0:
                    loss = loss * weight
                try:
                    self.backward(loss)
                except (RuntimeError, TypeError, AttributeError):
                    check_loss(loss)  # says what is wrong with it, if that was the cause
                    raise
            part = loss.detach()
            total = part if total is None else total + part
        assert total is not None
        return total if micro_batches == 1 else total / micro_batches

    @property
    def _mixed(self) -> bool:
        return self.settings.mixed_precision != "no"

    def _probe(self) -> None:
        assert self.probes is not None
        scaler = self.accelerator.scaler
        lr = self._curves.at(self.step)["lr"]
        self.probes.before(self.step, lr, 1.0 if scaler is None else scaler.get_scale())

    def _skip(self) -> None:
        """Count an update that mixed precision skipped: it is none of the run's steps."""
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self.probes is not None:
            self.probes.skip()
        if self._skipped_in_a_row >= _MOST_SKIPS:
            raise TrainingError(
                f"mixed precision skipped {_MOST_SKIPS} updates in a row before step {self.step}: "
                "the gradients are not finite at any scale; use bf16 or no, or lower max_lr"
            )

    def _pause(self) -> None:
        """Look at the losses; evaluate, decide and keep where that is due; hear signals."""
        self._look()
        ending = self.step in self._stops
        cycle_end = self.step in self._cycle_ends
        every = self.settings.validate_every
        looking = ending or (every is not None and self.step % every == 0)
        best = False
        if looking:
            self.metrics = {} if self.evaluate is None else self.evaluate()
            best = self.judge.note(self.step, self.metrics)
            self.keeper.evaluated(self.step, self.metrics, stopping_point=ending)
        if cycle_end and self.step < self.recipe.total_steps:
            self._decide()
        every = self.settings.checkpoint_every
        overdue = self._agree()
        if ending or best or overdue or (every is not None and self.step % every == 0):
            metrics = self.metrics if looking else {}
            self.keeper.checkpoint(self, metrics, cycle_end=cycle_end, stopping_point=ending)
            self._kept_at, self._kept_step = time.monotonic(), self.step

    def _agree(self) -> bool:
        """Agree with the other processes on signals and on whether a checkpoint is overdue."""
        now = time.monotonic()
        minutes = self.settings.checkpoint_minutes
        overdue = minutes is not None and now - self._kept_at >= 60 * minutes
        steps, before = self.step - self._looked_at[0], self._looked_at[1]
        signal, late, seconds = self.processes.largest(self.stop.signal, overdue, now - before)
        # A signal that comes after this is heard at the next pause, by all.
        self.heard = int(signal)
        per_step = max(seconds, 1e-9) / max(steps, 1)
        self._look_every = max(1, min(_LOOK_EVERY, int(_LOOK_SECONDS / per_step)))
        self._looked_at = (self.step, time.monotonic())
        return bool(late) or bool(signal)

    def _next_pause(self) -> int:
        """Say after how many updates to pause next."""
        regular = (self.settings.validate_every, self.settings.checkpoint_every)
        multiples = [(self.step // every + 1) * every for every in regular if every is not None]
        return min(self.step + self._look_every, self._next_stop(), *multiples)

    def _next_stop(self) -> int:
        return next((s for s in self._ordered_stops if s > self.step), self.recipe.total_steps)

    def _decide(self) -> None:
        decision = self.judge.decide(self.step, self.metrics, self.recipe)
        if decision is None:
            return
        self.keeper.decided(self.step, decision.kind, decision.why)
        if decision.kind == "stop":
            self.ended = decision.why
        elif decision.recipe != self.recipe:
            self.follow(decision.recipe)

    def follow(self, recipe: Recipe) -> None:
        """Go on under a recipe, from the present step."""
        if recipe != self.scheduler.recipes[0]:
            # A new scheduler on the same optimizer, put to the step that is due.
            state = self.scheduler.state_dict()
            optimizer = self.scheduler.optimizer
            self.scheduler = Scheduler(optimizer, recipe, allow_change=True)
            self.scheduler.load_state_dict(state)
        self.recipe = recipe
        self._curves = Curves(recipe)
        self._ordered_stops = recipe.stopping_points
        self._stops = set(self._ordered_stops)
        self._cycle_ends = set(recipe.lr.cycle_ends(recipe.total_steps))
        self.keeper.follows(recipe)

    def _look(self) -> None:
        """Read the pending losses off the device, report them, and stop if one is not finite."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        stacked = torch.stack([loss for _, loss, _ in pending]).flatten()  # of shape (1,), too
        losses = self.processes.mean(stacked).tolist()
        for (step, _, seen), loss in zip(pending, losses, strict=True):
            line = {"step": step, "loss": loss, **self._curves.at(step)}
            if seen is not None and self.probes is not None:
                line |= self.probes.read(seen)
            self.keeper.step(line)
            if not math.isfinite(loss):
                raise _not_finite(step, loss, line["lr"])


_NOTHING: Any = contextlib.nullcontext()


def _not_finite(step: int, loss: float, lr: float) -> TrainingError:
    where = "from the first step" if step == 0 else f"at step {step}"
    remedy = (
        "check the model, the inputs and the loss function"
        if step == 0
        else "lower max_lr, or clip the gradient with max_grad_norm"
    )
    return TrainingError(f"the loss is {loss} {where}, at a rate of {lr:g}; {remedy}")
