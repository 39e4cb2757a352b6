"""The tasks that finders are scored on. None of them was chosen with a rule's result in mind.

Real data, nets with and without BatchNorm, every common optimizer, clipped and not, batches of 16
to 512, from scratch and fine-tuning. ``HALVES`` are fixed: constants of a rule are chosen on one
half and reported on the other, then the other way round. Five more sets were kept aside in turn:
``HELD_OUT``, ``FRESH``, ``LATEST``, ``FOURTH`` and ``FIFTH``, each written down before it was run,
and looked at before the next. ``basin`` was not changed in view of any, ``edge`` in view of all.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.finders import data, nets
from benchmarks.finders.fifth import FIFTH
from benchmarks.finders.fourth import FOURTH
from benchmarks.finders.fresh import FRESH
from benchmarks.finders.held_out import HELD_OUT
from benchmarks.finders.latest import LATEST
from benchmarks.finders.pretrained import pretrained, tuned_conv
from benchmarks.finders.problem import ADAPTIVE, Problem, adam, adamw, next_symbol, sgd


def gaussian(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of a normal whose mean and log-deviation are the outputs."""
    mean, log_deviation = outputs.chunk(2, dim=1)
    return (0.5 * ((targets - mean) * (-log_deviation).exp()) ** 2 + log_deviation).mean()


def scaled_mse(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Squared error in units that make the loss tiny."""
    return 1e-5 * functional.mse_loss(outputs, targets)


@functools.cache
def _text_source() -> Any:
    make = lambda: nets.Decoder(64, 32)  # noqa: E731 -- as above
    return pretrained(make, data.text(32, "first"), next_symbol)


PROBLEMS = [
    Problem(
        name="digits-mlp-sgd", split=data.digits, model=lambda: nets.mlp(64, 64, 10),
        optimizer=sgd(), batch_size=16,
    ),
    Problem(
        name="digits-conv-momentum", split=data.digits, batch_size=64,
        model=lambda: nets.conv(1, 10, norm=False, size=8), optimizer=sgd(0.9, 1e-4),
    ),
    Problem(
        name="digits-mlp-large-batch", split=data.digits, batch_size=512,
        model=lambda: nets.mlp(64, 128, 128, 10, act=nn.Tanh), optimizer=sgd(0.9),
    ),
    Problem(
        name="digits-lstm-rmsprop", split=data.digits, batch_size=32,
        model=lambda: nets.Recurrent(nn.LSTM, 48, 10),
        optimizer=lambda p: torch.optim.RMSprop(p), lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-gaussian-adam", seeds=9, split=data.upper_half,
        model=lambda: nets.mlp(32, 96, 64), optimizer=lambda p: adam(p), loss_fn=gaussian,
        measure="loss", batch_size=32, lr_range=ADAPTIVE,
    ),
    Problem(
        name="fashion-mlp-adam", split=data.fashion, model=lambda: nets.mlp(784, 128, 64, 10),
        optimizer=lambda p: adam(p), batch_size=128, lr_range=ADAPTIVE,
    ),
    Problem(
        name="fashion-conv-bn-nesterov", split=data.fashion, batch_size=64,
        model=lambda: nets.conv(1, 10, 12, norm=True, size=28), optimizer=sgd(0.9, 5e-4, True),
    ),
    Problem(
        name="fashion-deep-mlp-adagrad", split=data.fashion, batch_size=128,
        model=lambda: nets.mlp(784, 96, 96, 96, 96, 10),
        optimizer=lambda p: torch.optim.Adagrad(p), lr_range=(-4, 1),
    ),
    Problem(
        name="fashion-autoencoder-adamw", split=data.reconstruction, measure="loss",
        model=lambda: nets.mlp(784, 96, 16, 96, 784), optimizer=lambda p: adamw(p),
        loss_fn=functional.mse_loss, batch_size=256, lr_range=ADAPTIVE,
    ),
    Problem(
        name="fashion-finetune-sgd", split=lambda: data.fashion_half(True), model=tuned_conv,
        optimizer=sgd(0.9, 1e-4), batch_size=32,
    ),
    Problem(
        name="fashion-patches-adamw", seeds=9, split=data.fashion, batch_size=64,
        model=lambda: nets.Patches(1, 10, 28, 7), optimizer=lambda p: adamw(p), lr_range=ADAPTIVE,
    ),
    Problem(
        name="cifar-conv-momentum", split=data.cifar, batch_size=100,
        model=lambda: nets.conv(3, 10, 12, norm=False, size=32), optimizer=sgd(0.9, 4e-3),
    ),
    Problem(
        name="cifar-resnet-momentum", split=data.cifar, batch_size=64,
        model=lambda: nets.Residual(3, 10, 24), optimizer=sgd(0.9, 5e-4),
    ),
    Problem(
        name="cifar-conv-bn-adamw", split=data.cifar, batch_size=96,
        model=lambda: nets.conv(3, 10, 12, norm=True, size=32), optimizer=lambda p: adamw(p),
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="tiny-imagenet-resnet-sgd", split=data.tiny_imagenet, batch_size=48,
        model=lambda: nets.Residual(3, 20, 24), optimizer=sgd(0.0, 5e-4), lr_range=(-3, 2),
    ),
    Problem(
        name="tiny-imagenet-conv-rmsprop", split=data.tiny_imagenet, batch_size=64,
        model=lambda: nets.conv(3, 20, 12, norm=True, size=32),
        optimizer=lambda p: torch.optim.RMSprop(p), lr_range=ADAPTIVE,
    ),
    Problem(
        name="text-gru-adam-clipped", split=data.text, measure="loss", batch_size=24, clip=1.0,
        model=lambda: nets.Recurrent(nn.GRU, 48, 64, symbols=64), optimizer=lambda p: adam(p),
        loss_fn=next_symbol, lr_range=ADAPTIVE,
    ),
    Problem(
        name="text-lstm-sgd-clipped", split=data.text, measure="loss", batch_size=32, clip=0.5,
        model=lambda: nets.Recurrent(nn.LSTM, 64, 64, symbols=64), optimizer=sgd(0.9),
        loss_fn=next_symbol, lr_range=(-3, 2),
    ),
    Problem(
        name="text-transformer-adamw", split=data.text, measure="loss", batch_size=16,
        model=lambda: nets.Decoder(64, 32), optimizer=lambda p: adamw(p), loss_fn=next_symbol,
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="text-finetune-adamw", split=lambda: data.text(32, "second"), measure="loss",
        model=lambda: _text_source()(), optimizer=lambda p: adamw(p), loss_fn=next_symbol,
        batch_size=16, lr_range=ADAPTIVE,
    ),
    Problem(
        name="tabular-mlp-nesterov", split=data.cancer, model=lambda: nets.mlp(30, 32, 2),
        optimizer=sgd(0.9, 1e-3, True), batch_size=16,
    ),
    Problem(
        name="photo-regression-adam", split=data.photograph, measure="loss",
        model=lambda: nets.mlp(24, 96, 96, 3), optimizer=lambda p: adam(p),
        loss_fn=functional.mse_loss, batch_size=512, lr_range=ADAPTIVE,
    ),
    Problem(
        name="photo-tiny-loss-sgd", seeds=9, split=data.photograph, measure="loss",
        model=lambda: nets.mlp(24, 64, 64, 3, act=nn.Tanh), optimizer=sgd(0.9),
        loss_fn=scaled_mse, batch_size=128, lr_range=(1, 6),
    ),
    Problem(
        name="digits-clipped-sgd", split=data.digits, batch_size=128, clip=0.1,
        model=lambda: nets.mlp(64, 96, 96, 96, 10), optimizer=sgd(0.9), lr_range=(-3, 2),
    ),
]  # fmt: skip

SETS = (PROBLEMS, HELD_OUT, FRESH, LATEST, FOURTH, FIFTH)
BY_NAME = {problem.name: problem for tasks in SETS for problem in tasks}
NAMES = tuple(problem.name for problem in PROBLEMS)
HALVES = (NAMES[::2], NAMES[1::2])


def apart(names: Sequence[str]) -> list[list[str]]:
    """Part names into those of ``PROBLEMS`` and of the sets kept aside; a part may be missing."""
    sets = [{problem.name for problem in tasks} for tasks in SETS]
    parts = [[name for name in names if name in kept] for kept in sets]
    return [part for part in parts if part]
