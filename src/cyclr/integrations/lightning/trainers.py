"""The Trainer that a sweep runs under: it computes like the user's, and does nothing else."""

from __future__ import annotations

from typing import Any

from cyclr.integrations.lightning.package import loggers, pl


class SweepTrainer(pl.Trainer):  # type: ignore[misc] # its type depends on what is installed
    """Shows another Trainer's limits to the module, and does not stop at them.

    A ``configure_optimizers`` may make a schedule of that length, and a ``training_step`` may ask
    how much of the training is over.
    """

    _shown: tuple[int, int] | None = None

    @property
    def max_epochs(self) -> Any:
        """The other Trainer's epochs, -1 for no limit; also what its estimates are made from."""
        return super().max_epochs if self._shown is None else self._shown[0]

    @property
    def max_steps(self) -> Any:
        """The other Trainer's updates, -1 for no limit."""
        return super().max_steps if self._shown is None else self._shown[1]

    def show(self, other: Any) -> None:
        """Take another Trainer's limits."""
        epochs = other.max_epochs
        if epochs is None:  # it has not fitted yet, which is when Lightning fills in its default
            timed = any(isinstance(callback, pl.callbacks.Timer) for callback in other.callbacks)
            epochs = 1000 if other.max_steps == -1 and not timed else -1
        self._shown = epochs, other.max_steps

    def lift(self) -> None:
        """Train on whatever is shown; once a fit has begun, which sets the limits."""
        self.fit_loop.max_epochs = -1
        self.fit_loop.epoch_loop.max_steps = -1


def trainer_like(other: Any, *callbacks: Any) -> SweepTrainer:
    """Make a Trainer that computes like another and calls these callbacks only."""
    device = other.strategy.root_device
    made = SweepTrainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        precision=other.precision,
        accumulate_grad_batches=other.accumulate_grad_batches,
        gradient_clip_val=other.gradient_clip_val,
        gradient_clip_algorithm=other.gradient_clip_algorithm,
        limit_train_batches=other.limit_train_batches,
        overfit_batches=other.overfit_batches,
        default_root_dir=other.default_root_dir,
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        logger=loggers.DummyLogger(),  # not none: a training_step may well use self.logger
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    made.show(other)
    return made
