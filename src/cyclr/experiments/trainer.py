"""The loop of the papers' experiments: one net on one CPU, fast, and exact when gone on with.

What is random is a function of the seed and the step, so a checkpoint holds weights, the
optimizer's state and the curves, and a run that was cut off ends with the bits of one that was not.
"""

from __future__ import annotations

import ctypes
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cyclr.errors import InputError, Interrupted
from cyclr.experiments.batches import Batches, make_prepare, seeded
from cyclr.experiments.clock import Clock
from cyclr.experiments.curves import Curves
from cyclr.experiments.data import Images
from cyclr.experiments.images import Data
from cyclr.experiments.measures import make_measures
from cyclr.experiments.nets import make_net
from cyclr.experiments.optimizers import make_optimizer
from cyclr.experiments.runspec import RunSpec
from cyclr.experiments.store import RunStore
from cyclr.integrations.torch import Scheduler
from cyclr.recipe import Recipe
from cyclr.schedules import Scale
from cyclr.training.signals import StopRequest

_EVALUATION_BATCH = 500


class Trainer:
    """One run, from its first step or from a checkpoint to its end.

    Args:
        spec: What to run.
        data: The images, as ``spec.data`` says.
    """

    def __init__(self, spec: RunSpec, data: Data) -> None:
        keep_memory()
        self.spec, self.data = spec, data
        torch.manual_seed(spec.seed)
        net = make_net(spec.net)
        self.net: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(net, spec.optimizer)
        self.scheduler = follow(self.optimizer, spec.recipe)
        self.prepare = make_prepare(spec.prepare, data.train.images)
        self.batches = Batches(
            data.train,
            size=spec.batch_size,
            order=spec.order,
            augment=spec.augment,
            seed=spec.seed,
            prepare=self.prepare,
        )
        self.measures = make_measures(spec.measures)
        self.curves = Curves(spec.steps)
        self.step = 0
        self.clock = Clock()
        self.interruptions = 0
        self._stops = {s for s in spec.recipe.stopping_points if s <= spec.steps} | {spec.steps}

    def run(
        self,
        store: RunStore | None = None,
        *,
        every_seconds: float = 60.0,
        on_progress: Callable[[Trainer], None] | None = None,
    ) -> None:
        """Train to the end, or until the loss is no longer finite.

        Args:
            store: Where to go on from and leave checkpoints; None to keep nothing.
            every_seconds: Time between checkpoints.
            on_progress: Called at the start and now and then.

        Raises:
            Interrupted: Ctrl-C or SIGTERM came; the update was finished and a checkpoint written.
        """
        if store is not None and (state := store.load()) is not None:
            self.load(state)
        with StopRequest() as stop:
            if on_progress is not None:
                on_progress(self)
            self._train(stop, store, every_seconds, on_progress)
            if store is not None:
                store.save(self.state())  # the result may be lost on its way to the disk
        if stop.signal:
            raise self._interrupted(stop.signal, kept=store is not None)

    def _train(
        self,
        stop: StopRequest,
        store: RunStore | None,
        every_seconds: float,
        on_progress: Callable[[Trainer], None] | None,
    ) -> None:
        self.net.train()
        saved = time.perf_counter()
        self.clock.start()
        while self.step < self.spec.steps and not self.curves.diverged and not stop.signal:
            self.advance()
            if self._due():
                self.clock.stop()  # evaluation is not training
                self._evaluate()
                self.clock.start()
            if self.step % 20 == 0 and on_progress is not None:
                on_progress(self)
            if store is not None and time.perf_counter() - saved >= every_seconds:
                self.clock.stop()
                store.save(self.state())
                self.clock.start()
                saved = time.perf_counter()
        self.clock.stop()

    def _interrupted(self, number: int, *, kept: bool) -> Interrupted:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        where = f"stopped by {name} after step {self.step:,} of {self.spec.steps:,}"
        how = "a checkpoint has been written, and the same command goes on from it"
        how = how if kept else "nothing has been kept"
        return Interrupted(f"{where}; {how}", signal=number, step=self.step)

    def advance(self) -> None:
        """Make one update."""
        step = self.step
        torch.manual_seed(seeded(self.spec.seed, 3, step).initial_seed())  # for dropout and such
        inputs, labels = self.batches(step)
        with self._autocast():
            outputs = self.net(inputs)
        loss = loss_of(outputs, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        lr = self.scheduler.recipes[0].lr(step) if self.measures else 0.0
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        self.curves.add_loss(step, loss.detach())
        for measure in self.measures.values():
            measure.after_step(step, lr, self.net)
        self.step = step + 1

    def _due(self) -> bool:
        step = self.step
        return self.curves.diverged or step % self.spec.evaluate_every == 0 or step in self._stops

    def _evaluate(self) -> None:
        outputs = self.outputs(self.data.test)
        labels = self.data.test.labels
        loss = float(nn.functional.cross_entropy(outputs, labels))
        right = float((outputs.argmax(1) == labels).double().mean())
        self.curves.add_evaluation(self.step, accuracy=right, loss=loss)
        if self.step in self._stops:
            for measure in self.measures.values():
                measure.at_stop(self.step, outputs.softmax(1), labels)

    @torch.no_grad()
    def outputs(self, part: Images) -> torch.Tensor:
        """Give the net's outputs on images, in float32, without training it."""
        self.net.eval()
        pieces = []
        for piece in torch.split(part.images, _EVALUATION_BATCH):
            inputs = self.prepare(piece).contiguous(memory_format=torch.channels_last)
            with self._autocast():
                pieces.append(self.net(inputs).float())
        self.net.train()
        return torch.cat(pieces)

    def _autocast(self) -> Any:
        enabled = self.spec.precision == "bfloat16"
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)

    def state(self) -> dict[str, Any]:
        """Give everything needed to go on later, safe for ``torch.load(weights_only=True)``."""
        return {
            "spec": json.dumps(self.spec.to_dict(), sort_keys=True),
            "data": self.data.fingerprint,
            "step": self.step,
            "seconds": self.clock.wall,
            "cpu_seconds": self.clock.cpu,
            "interruptions": self.interruptions,
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curves": self.curves.state(),
            "measures": {name: measure.state() for name, measure in self.measures.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            InputError: The state is of another run, or was made with other data.
        """
        if json.loads(state["spec"]) != self.spec.to_dict():
            raise InputError("the checkpoint is of another run; delete it to begin anew")
        if state["data"] != self.data.fingerprint:
            raise InputError(
                f"the checkpoint was made with other images (fingerprint {state['data']}, these "
                f"have {self.data.fingerprint}); pass the data it was begun with, or delete it"
            )
        self.step = state["step"]
        self.clock = Clock(wall=state["seconds"], cpu=state["cpu_seconds"])
        self.interruptions = state["interruptions"] + 1
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.step(self.step)
        self.curves.load(state["curves"])
        for name, measure in self.measures.items():
            measure.load(state["measures"][name])


def follow(optimizer: torch.optim.Optimizer, recipe: Recipe) -> Scheduler:
    """Let an optimizer follow a recipe, each group at its own multiple of the rate."""
    plans = []
    for group in optimizer.param_groups:
        factor = group.get("lr_mult", 1.0)
        lr = recipe.lr if factor == 1 else Scale(schedule=recipe.lr, factor=factor)
        plans.append(recipe.replace(lr=lr))
    return Scheduler(optimizer, plans)


def loss_of(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in float32; a net with auxiliary heads gives their outputs and weights too."""
    if isinstance(outputs, torch.Tensor):
        return nn.functional.cross_entropy(outputs.float(), labels)
    losses = [
        weight * nn.functional.cross_entropy(head.float(), labels) for head, weight in outputs
    ]
    return torch.stack(losses).sum()


def keep_memory() -> None:
    """Tell glibc to keep freed memory: asking the kernel for it anew costs a fifth of the speed."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc: only slower
    mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
    mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
