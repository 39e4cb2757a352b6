"""Tasks kept aside once ``held_out`` had been looked at: written down before any of them was run.

Again other data, losses, nets and optimizers, and small. ``basin`` was not changed in view of them;
``edge`` and the slow sweep under SGD were. ``latest`` and others came after.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.finders import data, nets
from benchmarks.finders.pretrained import tuned_conv
from benchmarks.finders.problem import ADAPTIVE, Problem, adam, adamw, next_symbol, sgd

FRESH = [
    Problem(
        name="cancer-linear-adagrad", split=data.cancer, model=lambda: nets.mlp(30, 2),
        optimizer=lambda p: torch.optim.Adagrad(p), batch_size=32, lr_range=(-4, 2),
    ),
    Problem(
        name="diabetes-absolute-adamw", seeds=9, split=data.diabetes, measure="loss", batch_size=16,
        model=lambda: nets.mlp(10, 24, 24, 1), optimizer=lambda p: adamw(p),
        loss_fn=functional.l1_loss, lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-selu-sgd", split=data.digits, batch_size=32,
        model=lambda: nets.mlp(64, *[48] * 7, 10, act=nn.SELU), optimizer=sgd(),
    ),
    Problem(
        name="digits-conv-adafactor", split=data.digits, batch_size=64,
        model=lambda: nets.conv(1, 10, 8, norm=False, size=8),
        optimizer=lambda p: torch.optim.Adafactor(p), lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-variational-adam", split=data.digits_again, measure="loss", batch_size=128,
        model=lambda: nets.Variational(64, 64, 8), optimizer=lambda p: adam(p),
        loss_fn=nets.evidence, lr_range=ADAPTIVE,
    ),
    Problem(
        name="fashion-mixer-adamw", split=data.fashion, batch_size=64,
        model=lambda: nets.Mixer(1, 10, 28, 7), optimizer=lambda p: adamw(p), lr_range=ADAPTIVE,
    ),
    Problem(
        name="fashion-separable-nesterov", split=data.fashion, batch_size=128,
        model=lambda: nets.separable(1, 10, 16), optimizer=sgd(0.9, 1e-4, nesterov=True),
    ),
    Problem(
        name="fashion-finetune-adam", split=lambda: data.fashion_half(second=True), batch_size=32,
        model=lambda: tuned_conv(8), optimizer=lambda p: adam(p), lr_range=ADAPTIVE,
    ),
    Problem(
        name="cifar-colours-adamw", split=data.colours, measure="loss", batch_size=32,
        model=lambda: nets.painter(8), optimizer=lambda p: adamw(p),
        loss_fn=functional.mse_loss, lr_range=ADAPTIVE,
    ),
    Problem(
        name="tiny-imagenet-groupnorm-momentum", seeds=9, split=data.tiny_imagenet, batch_size=64,
        model=lambda: nets.grouped_conv(3, 20, 12, size=32), optimizer=sgd(0.9, 5e-4),
    ),
    Problem(
        name="text-convolution-adam", seeds=9, split=data.text, measure="loss", batch_size=32,
        model=lambda: nets.Causal(64, 48), optimizer=lambda p: adam(p), loss_fn=next_symbol,
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="text-rnn-momentum-clipped", split=data.text, measure="loss", batch_size=32,
        clip=1.0, model=lambda: nets.Recurrent(nn.RNN, 64, 64, 64), optimizer=sgd(0.9),
        loss_fn=next_symbol, lr_range=(-3, 2),
    ),
    Problem(
        name="flower-regression-momentum", split=data.flower, measure="loss", batch_size=64,
        model=lambda: nets.mlp(24, 96, 96, 3), optimizer=sgd(0.95),
        loss_fn=functional.mse_loss,
    ),
]  # fmt: skip
