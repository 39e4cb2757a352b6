"""A fourth set kept aside: written down before any of it was run, after ``latest`` was looked at.

With more squared errors under momentum than the others: those had been read furthest too low.
"""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional

from benchmarks.finders import data, nets
from benchmarks.finders.problem import ADAPTIVE, Problem, adam, adamw, next_symbol, sgd

smoothed = functools.partial(functional.cross_entropy, label_smoothing=0.1)

FOURTH = [
    Problem(
        name="diabetes-linear-momentum", seeds=9, split=data.diabetes, measure="loss",
        model=lambda: nets.mlp(10, 1), optimizer=sgd(0.9), batch_size=32,
        loss_fn=functional.mse_loss,
    ),
    Problem(
        name="cancer-mlp-rmsprop", split=data.cancer, model=lambda: nets.mlp(30, 32, 2),
        optimizer=lambda p: torch.optim.RMSprop(p), batch_size=16, lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-gru-nesterov-clipped", split=data.digits, batch_size=64, clip=1.0,
        model=lambda: nets.Recurrent(nn.GRU, 48, 10), optimizer=sgd(0.9, nesterov=True),
        lr_range=(-3, 2),
    ),
    Problem(
        name="digits-lower-half-momentum", seeds=9, split=data.upper_half, measure="loss",
        model=lambda: nets.mlp(32, 96, 96, 32, act=nn.Tanh), optimizer=sgd(0.95), batch_size=32,
        loss_fn=functional.mse_loss,
    ),
    Problem(
        name="fashion-separable-rmsprop", split=data.fashion, batch_size=64,
        model=lambda: nets.separable(1, 10, 12), optimizer=lambda p: torch.optim.RMSprop(p),
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="fashion-patches-momentum-clipped", split=data.fashion, batch_size=64, clip=1.0,
        model=lambda: nets.Patches(1, 10, 28, 7), optimizer=sgd(0.9), lr_range=(-3, 2),
    ),
    Problem(
        name="fashion-smoothed-adam", split=data.fashion, batch_size=128,
        model=lambda: nets.conv(1, 10, 8, norm=True, size=28), optimizer=lambda p: adam(p),
        loss_fn=smoothed, lr_range=ADAPTIVE,
    ),
    Problem(
        name="cifar-layernorm-momentum", split=data.cifar, batch_size=64,
        model=lambda: nets.normed_mlp(3072, 64, 64, 10), optimizer=sgd(0.9, 1e-4),
    ),
    Problem(
        name="china-sines-momentum", seeds=9, split=data.photograph, measure="loss", batch_size=128,
        model=lambda: nets.mlp(24, 64, 64, 3, act=nets.Sine), optimizer=sgd(0.9),
        loss_fn=functional.mse_loss,
    ),
    Problem(
        name="flower-absolute-adamw", split=data.flower, measure="loss", batch_size=64,
        model=lambda: nets.mlp(24, 64, 64, 3, act=nn.GELU), optimizer=lambda p: adamw(p),
        loss_fn=functional.l1_loss, lr_range=ADAPTIVE,
    ),
    Problem(
        name="text-lstm-adam", split=data.text, measure="loss", batch_size=64,
        model=lambda: nets.Recurrent(nn.LSTM, 48, 64, 64), optimizer=lambda p: adam(p),
        loss_fn=next_symbol, lr_range=ADAPTIVE,
    ),
    Problem(
        name="text-convolution-momentum-clipped", seeds=9, split=data.text, measure="loss",
        batch_size=32, clip=1.0, model=lambda: nets.Causal(64, 48), optimizer=sgd(0.9),
        loss_fn=next_symbol, lr_range=(-3, 2),
    ),
]  # fmt: skip
