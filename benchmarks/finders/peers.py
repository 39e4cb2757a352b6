"""The peers' finders, through their own packages and with their defaults.

Each gets a fresh net, optimizer and loader of a task, and gives the rate it suggests and how many
updates it took. Runs in an environment of its own: see README.md.
"""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.finders.problem import Problem
from benchmarks.finders.train import begin

Suggestion = dict[str, Any]


def loader(problem: Problem, seed: int) -> DataLoader[Any]:
    """Make an ordinary loader."""
    split = problem.split()
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        TensorDataset(split.inputs, split.targets),
        problem.batch_size,
        shuffle=True,
        drop_last=True,
        generator=generator,
    )


def torch_lr_finder(problem: Problem, seed: int) -> Suggestion:
    """torch-lr-finder's steepest gradient; from 1e-7, as its README does, to 10."""
    from torch_lr_finder import LRFinder

    model, optimizer = begin(problem, seed)
    for group in optimizer.param_groups:
        group["lr"] = 1e-7
    finder = LRFinder(model, optimizer, problem.loss_fn, device="cpu")
    finder.range_test(loader(problem, seed), end_lr=10, num_iter=100)
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    _, lr = finder.plot(ax=ax)
    plt.close("all")
    return {"torch-lr-finder": float(lr), "steps": len(finder.history["lr"])}


def ignite(problem: Problem, seed: int) -> Suggestion:
    """Ignite's finder, from 1e-7 to 10 in 100 updates: its defaults need a whole run."""
    from ignite.engine import Engine
    from ignite.handlers import FastaiLRFinder

    model, optimizer = begin(problem, seed)

    def update(_: Any, batch: Any) -> float:
        model.train()
        optimizer.zero_grad()
        loss = problem.loss_fn(model(batch[0]), batch[1])
        loss.backward()
        if problem.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), problem.clip)
        optimizer.step()
        return loss.item()

    trainer, finder = Engine(update), FastaiLRFinder()
    data = loader(problem, seed)
    to_save = {"model": model, "optimizer": optimizer}
    with finder.attach(trainer, to_save, num_iter=100, start_lr=1e-7, end_lr=10.0) as wrapped:
        wrapped.run(data, max_epochs=-(-100 // len(data)))
    return {"ignite": float(finder.lr_suggestion()), "steps": len(finder._history["lr"])}


def lightning(problem: Problem, seed: int) -> Suggestion:
    """Lightning's Tuner."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner

    inner, optimizer = begin(problem, seed)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.lr = inner, 1e-3

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return problem.loss_fn(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
            return optimizer

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_steps=problem.steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            gradient_clip_val=problem.clip,
        )
        finder = Tuner(trainer).lr_find(Module(), loader(problem, seed))
    lr = None if finder is None else finder.suggestion()
    steps = 0 if finder is None else len(finder.results["lr"])
    return {"Lightning": math.nan if lr is None else float(lr), "steps": steps}


def fastai(problem: Problem, seed: int) -> Suggestion:
    """Fastai's four suggestions, off one sweep."""
    from fastai.basics import DataLoaders, Learner, OptimWrapper
    from fastai.callback.core import Callback
    from fastai.callback.schedule import minimum, slide, steep, valley

    model, optimizer = begin(problem, seed)

    class Clip(Callback):
        def before_step(self) -> None:
            nn.utils.clip_grad_norm_(self.learn.model.parameters(), problem.clip)

    data = loader(problem, seed)
    learner = Learner(
        DataLoaders(data, data, device="cpu"),
        model,
        loss_func=problem.loss_fn,
        opt_func=lambda _, **__: OptimWrapper(opt=optimizer),
        cbs=[Clip()] if problem.clip is not None else [],
    )
    with learner.no_bar(), learner.no_logging(), tempfile.TemporaryDirectory() as folder:
        learner.path = __import__("pathlib").Path(folder)
        found = learner.lr_find(suggest_funcs=(valley, slide, minimum, steep), show_plot=False)
    names = ("valley", "slide", "minimum", "steep")
    rates = {f"fastai {n}": float(getattr(found, n)) for n in names}
    return {**rates, "steps": len(learner.recorder.lrs)}


FINDERS: dict[str, Callable[[Problem, int], Suggestion]] = {
    "torch-lr-finder": torch_lr_finder,
    "ignite": ignite,
    "lightning": lightning,
    "fastai": fastai,
}


def suggest(name: str, problem: Problem, seed: int) -> Suggestion:
    """Ask one peer; if it fails, say how."""
    torch.set_num_threads(1)
    import matplotlib as mpl

    mpl.use("Agg")
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            return FINDERS[name](problem, seed)
    except Exception as error:  # whatever a user would see
        return {"failed": f"{type(error).__name__}: {str(error)[:200]}", "steps": 0}
