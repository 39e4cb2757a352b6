"""Tasks kept aside: written down when the rule ``basin`` was settled, and not used to change it.

The slow sweep under SGD and the rule ``edge`` were made with these in view as well.

Other data, losses, activations, norms and optimizers than those of ``problems``, and small, so that
scoring every finder on them takes minutes. The list was fixed before any of them was run.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.finders import data, nets
from benchmarks.finders.problem import ADAPTIVE, Problem, adam, adamw, sgd


def every_digit_for_itself(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Ten yes-or-no questions in place of one among ten."""
    wanted = functional.one_hot(targets, outputs.shape[1]).float()
    return functional.binary_cross_entropy_with_logits(outputs, wanted)


HELD_OUT = [
    Problem(
        name="wine-linear-adam", seeds=9, split=data.wine, model=lambda: nets.mlp(13, 3),
        optimizer=lambda p: adam(p), batch_size=16, lr_range=ADAPTIVE,
    ),
    Problem(
        name="diabetes-mlp-sgd", seeds=9, split=data.diabetes, measure="loss", batch_size=32,
        model=lambda: nets.mlp(10, 32, 1), optimizer=sgd(), loss_fn=functional.mse_loss,
    ),
    Problem(
        name="digits-autoencoder-adam", split=data.digits_again, measure="loss",
        model=lambda: nets.mlp(64, 48, 8, 48, 64, act=nn.Tanh), optimizer=lambda p: adam(p),
        loss_fn=functional.mse_loss, lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-patches-radam", split=data.digits, model=lambda: nets.Patches(1, 10, 8, 2),
        optimizer=lambda p: torch.optim.RAdam(p), lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-rnn-adamw-clipped", split=data.digits, batch_size=32, clip=1.0,
        model=lambda: nets.Recurrent(nn.RNN, 48, 10), optimizer=lambda p: adamw(p),
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-yes-or-no-adamax", split=data.digits, batch_size=256,
        model=lambda: nets.conv(1, 10, 8, norm=True, size=8),
        optimizer=lambda p: torch.optim.Adamax(p), loss_fn=every_digit_for_itself,
        lr_range=ADAPTIVE,
    ),
    Problem(
        name="digits-wrong-labels-momentum", split=data.digits_mislabelled, batch_size=32,
        model=lambda: nets.conv(1, 10, 8, norm=True, size=8), optimizer=sgd(0.9, 5e-4),
    ),
    Problem(
        name="fashion-layernorm-momentum", split=data.fashion, batch_size=64,
        model=lambda: nets.normed_mlp(784, 64, 64, 10), optimizer=sgd(0.9, 1e-4),
    ),
    Problem(
        name="fashion-hinge-nesterov", split=data.fashion, batch_size=128,
        model=lambda: nets.conv(1, 10, 6, norm=False, size=28),
        optimizer=sgd(0.9, 5e-4, nesterov=True), loss_fn=functional.multi_margin_loss,
    ),
    Problem(
        name="fashion-groupnorm-adadelta", split=data.fashion, batch_size=64,
        model=lambda: nets.grouped_conv(1, 10, 8, size=28),
        optimizer=lambda p: torch.optim.Adadelta(p), lr_range=(-3, 2),
    ),
    Problem(
        name="flower-sines-adam", seeds=9, split=data.flower, measure="loss", batch_size=256,
        model=lambda: nets.mlp(24, 64, 64, 3, act=nets.Sine), optimizer=lambda p: adam(p),
        loss_fn=functional.mse_loss, lr_range=ADAPTIVE,
    ),
    Problem(
        name="text-window-nadam", split=data.next_letter, measure="loss", batch_size=128,
        model=lambda: nets.Window(64, 8), optimizer=lambda p: torch.optim.NAdam(p),
        lr_range=ADAPTIVE,
    ),
]  # fmt: skip
