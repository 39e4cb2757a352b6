"""Tasks kept aside once ``fresh`` had been looked at as well: written down before any was run.

``basin`` was not changed in view of them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.finders import data, nets
from benchmarks.finders.problem import ADAPTIVE, Problem, adam, adamw, next_symbol, sgd

LATEST = [
    Problem(
        name="wine-mlp-nesterov", seeds=9, split=data.wine, batch_size=24,
        model=lambda: nets.mlp(13, 24, 3, act=nn.Tanh), optimizer=sgd(0.9, nesterov=True),
    ),
    Problem(
        name="diabetes-huber-momentum", seeds=9, split=data.diabetes, measure="loss", batch_size=64,
        model=lambda: nets.mlp(10, 16, 1), optimizer=sgd(0.9), loss_fn=functional.smooth_l1_loss,
    ),
    Problem(
        name="digits-conv-sgd-large-batch", split=data.digits, batch_size=256,
        model=lambda: nets.conv(1, 10, 12, norm=False, size=8), optimizer=sgd(),
    ),
    Problem(
        name="digits-lower-half-rmsprop", seeds=9, split=data.upper_half, measure="loss",
        model=lambda: nets.mlp(32, 64, 64, 32, act=nn.GELU), batch_size=64,
        optimizer=lambda p: torch.optim.RMSprop(p), loss_fn=functional.mse_loss, lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-mixer-nesterov-clipped", split=data.digits, batch_size=32, clip=1.0,
        model=lambda: nets.Mixer(1, 10, 8, 2), optimizer=sgd(0.9, 1e-4, nesterov=True),
        lr_range=(-3, 2),
    ),
    Problem(
        name="fashion-layernorm-adamw-large-batch", split=data.fashion, batch_size=512,
        model=lambda: nets.normed_mlp(784, 64, 64, 10), optimizer=lambda p: adamw(p),
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="fashion-conv-adam-small-batch", split=data.fashion, batch_size=16,
        model=lambda: nets.conv(1, 10, 12, norm=False, size=28), optimizer=lambda p: adam(p),
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="fashion-autoencoder-momentum", split=data.reconstruction, measure="loss",
        batch_size=64, model=lambda: nets.mlp(784, 64, 16, 64, 784, act=nn.Tanh),
        optimizer=sgd(0.9), loss_fn=functional.mse_loss, lr_range=(-3, 2),
    ),
    Problem(
        name="cifar-groupnorm-adam", split=data.cifar, batch_size=128,
        model=lambda: nets.grouped_conv(3, 10, 8, size=32), optimizer=lambda p: adam(p),
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="photo-leaky-momentum", split=data.photograph, measure="loss", batch_size=256,
        model=lambda: nets.mlp(24, 64, 64, 3, act=nn.LeakyReLU), optimizer=sgd(0.9),
        loss_fn=functional.mse_loss,
    ),
    Problem(
        name="text-gru-adamw", split=data.text, measure="loss", batch_size=32,
        model=lambda: nets.Recurrent(nn.GRU, 48, 64, 64), optimizer=lambda p: adamw(p),
        loss_fn=next_symbol, lr_range=ADAPTIVE,
    ),
    Problem(
        name="text-window-momentum", seeds=9, split=data.next_letter, measure="loss", batch_size=64,
        model=lambda: nets.Window(64, 8), optimizer=sgd(0.9),
    ),
]  # fmt: skip
