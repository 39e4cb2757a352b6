"""A fifth set kept aside: written down before any of it was run, after SGD had got its slow sweep.

Mostly under SGD, with and without momentum. In view of it ``edge`` was changed once more.
"""

from __future__ import annotations

from torch import nn
from torch.nn import functional

from benchmarks.finders import data, nets
from benchmarks.finders.problem import ADAPTIVE, Problem, adam, adamw, next_symbol, sgd

FIFTH = [
    Problem(
        name="cancer-tanh-momentum", split=data.cancer, batch_size=64,
        model=lambda: nets.mlp(30, 64, 2, act=nn.Tanh), optimizer=sgd(0.9),
    ),
    Problem(
        name="digits-conv-bn-sgd", split=data.digits, batch_size=32,
        model=lambda: nets.conv(1, 10, 8, norm=True, size=8), optimizer=sgd(), lr_range=(-3, 2),
    ),
    Problem(
        name="digits-lower-half-large-batch", seeds=9, split=data.upper_half, measure="loss",
        batch_size=256, model=lambda: nets.mlp(32, 64, 64, 32), optimizer=sgd(0.9),
        loss_fn=functional.mse_loss, lr_range=(-3, 2),
    ),
    Problem(
        name="fashion-mlp-nesterov-large-batch", split=data.fashion, batch_size=512,
        model=lambda: nets.mlp(784, 128, 64, 10), optimizer=sgd(0.9, nesterov=True),
    ),
    Problem(
        name="fashion-separable-sgd", split=data.fashion, batch_size=128,
        model=lambda: nets.separable(1, 10, 12), optimizer=sgd(0.0, 5e-4), lr_range=(-3, 2),
    ),
    Problem(
        name="fashion-autoencoder-heavy", seeds=9, split=data.reconstruction, measure="loss",
        batch_size=128, model=lambda: nets.mlp(784, 96, 16, 96, 784), optimizer=sgd(0.95),
        loss_fn=functional.mse_loss, lr_range=(-3, 2),
    ),
    Problem(
        name="fashion-conv-heavy", split=data.fashion, batch_size=64,
        model=lambda: nets.conv(1, 10, 8, norm=False, size=28), optimizer=sgd(0.99),
    ),
    Problem(
        name="cifar-resnet-small-batch", seeds=9, split=data.cifar, batch_size=16,
        model=lambda: nets.Residual(3, 10, 16), optimizer=sgd(0.9, 5e-4),
    ),
    Problem(
        name="flower-leaky-sgd", seeds=9, split=data.flower, measure="loss", batch_size=64,
        model=lambda: nets.mlp(24, 64, 64, 3, act=nn.LeakyReLU), optimizer=sgd(),
        loss_fn=functional.mse_loss, lr_range=(-3, 2),
    ),
    Problem(
        name="text-gru-momentum-clipped", split=data.text, measure="loss", batch_size=32, clip=1.0,
        model=lambda: nets.Recurrent(nn.GRU, 48, 64, 64), optimizer=sgd(0.9), loss_fn=next_symbol,
        lr_range=(-3, 2),
    ),
    Problem(
        name="text-window-sgd", seeds=9, split=data.next_letter, measure="loss", batch_size=32,
        model=lambda: nets.Window(64, 8), optimizer=sgd(), lr_range=(-3, 2),
    ),
    Problem(
        name="digits-mixer-adam", split=data.digits, batch_size=64,
        model=lambda: nets.Mixer(1, 10, 8, 2), optimizer=lambda p: adam(p), lr_range=ADAPTIVE,
    ),
    Problem(
        name="flower-sines-adamw", seeds=9, split=data.flower, measure="loss", batch_size=128,
        model=lambda: nets.mlp(24, 64, 64, 3, act=nets.Sine), optimizer=lambda p: adamw(p),
        loss_fn=functional.mse_loss, lr_range=ADAPTIVE,
    ),
]  # fmt: skip
