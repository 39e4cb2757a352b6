"""The data of the finders' tasks: real, small, as tensors; the same split on every machine.

Images come from scikit-learn (digits, a photograph), Debian's Fashion-MNIST package, and the
folders of parquet files named by ``--data-dir``; text from the documentation that ships with
Python, so its content is the interpreter's.
"""

from __future__ import annotations

import functools
import os
import pydoc_data.topics
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn import datasets as sk

from cyclr.experiments import data as built_in

DATA = Path(os.environ.get("CYCLR_DATA", "../shared/data"))


class Split(NamedTuple):
    """Inputs and targets, to train on and to validate on."""

    inputs: torch.Tensor
    targets: torch.Tensor
    val_inputs: torch.Tensor
    val_targets: torch.Tensor


def _standardized(train: built_in.Images, val: built_in.Images, n: int, n_val: int) -> Split:
    """Scale the first n images to zero mean and unit deviation."""
    x, v = train.images[:n].float(), val.images[:n_val].float()
    mean, deviation = x.mean(), x.std()
    return Split(
        (x - mean) / deviation, train.labels[:n], (v - mean) / deviation, val.labels[:n_val]
    )


@functools.cache
def digits() -> Split:
    """1,437 digits of 8×8 to train on, 360 to validate."""
    return _standardized(*built_in.digits(), 1437, 360)


@functools.cache
def fashion(n: int = 12_000) -> Split:
    """Fashion-MNIST, 28×28; 5,000 to validate."""
    return _standardized(*built_in.fashion_mnist(), n, 5000)


@functools.cache
def cifar(n: int = 12_000) -> Split:
    """CIFAR-10, 32×32; 4,000 to validate."""
    return _standardized(*built_in.image_dataset(str(DATA / "cifar10"), size=32), n, 4000)


@functools.cache
def tiny_imagenet(classes: int = 20) -> Split:
    """Twenty classes of Tiny ImageNet at 32×32; a fifth of its training images validate too."""
    train, val = built_in.image_dataset(str(DATA / "tiny-imagenet-100"), size=64)
    keep, keep_val = train.labels < classes, val.labels < classes
    images = torch.nn.functional.avg_pool2d(train.images[keep].float(), 2)
    images_val = torch.nn.functional.avg_pool2d(val.images[keep_val].float(), 2)
    labels, cut = train.labels[keep], int(0.8 * int(keep.sum()))
    held = built_in.Images(
        torch.cat([images[cut:], images_val]), torch.cat([labels[cut:], val.labels[keep_val]])
    )
    return _standardized(built_in.Images(images[:cut], labels[:cut]), held, cut, len(held.labels))


@functools.cache
def fashion_half(second: bool) -> Split:
    """Fashion-MNIST's classes 0–4 to train on first, or 2,000 of 5–9 to fine-tune on."""
    whole = fashion(12_000 if second else 30_000)
    keep, keep_val = (whole.targets >= 5) == second, (whole.val_targets >= 5) == second
    n = 2000 if second else 10_000
    shift = 5 if second else 0
    return Split(
        whole.inputs[keep][:n],
        whole.targets[keep][:n] - shift,
        whole.val_inputs[keep_val],
        whole.val_targets[keep_val] - shift,
    )


@functools.cache
def _text() -> torch.Tensor:
    """Python's help texts as bytes folded to 64 symbols."""
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics)).lower()
    kept = sorted(set(text), key=lambda c: (-text.count(c), c))[:63]
    index = {symbol: i + 1 for i, symbol in enumerate(kept)}
    return torch.tensor([index.get(symbol, 0) for symbol in text])


@functools.cache
def text(length: int = 32, part: str = "all") -> Split:
    """Windows of text, and the same shifted by one: predict the next of 64 symbols.

    Args:
        length: Symbols in a window.
        part: ``"all"``, or ``"first"`` or ``"second"`` half.
    """
    symbols = _text()
    half = len(symbols) // 2
    symbols = {"all": symbols, "first": symbols[:half], "second": symbols[half:]}[part]
    windows = symbols[: len(symbols) // (length + 1) * (length + 1)].view(-1, length + 1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(windows)))
    windows = windows[order]
    train, val = windows[800:], windows[:800]
    return Split(train[:, :-1], train[:, 1:], val[:, :-1], val[:, 1:])


def _table(x: np.ndarray, y: np.ndarray, n: int) -> Split:
    """Standardize a table's columns, shuffle its rows, and train on the first n."""
    order = np.random.default_rng(0).permutation(len(x))
    inputs = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)[order]
    targets = torch.tensor(y)[order]
    return Split(inputs[:n], targets[:n], inputs[n:], targets[n:])


@functools.cache
def cancer() -> Split:
    """Breast cancer, 30 measurements: 400 to train on, 169 to validate."""
    return _table(*sk.load_breast_cancer(return_X_y=True), 400)


@functools.cache
def wine() -> Split:
    """Three sorts of wine, 13 measurements: 120 to train on, 58 to validate."""
    return _table(*sk.load_wine(return_X_y=True), 120)


@functools.cache
def diabetes() -> Split:
    """Progress of diabetes, standardized, by 10 measurements: 300 to train on, 142 to validate."""
    x, y = sk.load_diabetes(return_X_y=True)
    return _table(x, ((y - y.mean()) / y.std())[:, None].astype(np.float32), 300)


@functools.cache
def photograph(name: str = "china.jpg") -> Split:
    """Colours of a photograph by position: 20,000 pixels to train on, 5,000 to validate."""
    image = torch.tensor(sk.load_sample_image(name)).float() / 127.5 - 1
    height, width, _ = image.shape
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    place = torch.stack([rows, columns], -1).view(-1, 2)
    bands = place[:, None, :] * (2.0 ** torch.arange(6))[:, None] * np.pi
    features = torch.cat([bands.sin().flatten(1), bands.cos().flatten(1)], 1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(features)))
    x, y = features[order], image.view(-1, 3)[order]
    return Split(x[:20_000], y[:20_000], x[20_000:25_000], y[20_000:25_000])


@functools.cache
def flower() -> Split:
    """Another photograph."""
    return photograph("flower.jpg")


@functools.cache
def reconstruction() -> Split:
    """Fashion-MNIST's pixels as inputs and targets."""
    s = fashion()
    return Split(s.inputs, s.inputs.flatten(1), s.val_inputs, s.val_inputs.flatten(1))


@functools.cache
def upper_half() -> Split:
    """Digits: from the upper four rows to the lower four."""
    s = digits()
    x, v = s.inputs.view(-1, 8, 8), s.val_inputs.view(-1, 8, 8)
    return Split(x[:, :4].flatten(1), x[:, 4:].flatten(1), v[:, :4].flatten(1), v[:, 4:].flatten(1))


@functools.cache
def digits_again() -> Split:
    """Digits' pixels as inputs and targets."""
    s = digits()
    return Split(s.inputs, s.inputs.flatten(1), s.val_inputs, s.val_inputs.flatten(1))


@functools.cache
def digits_mislabelled(share: float = 0.3) -> Split:
    """Digits of which a share of the training labels, drawn at random, say any digit."""
    s, generator = digits(), torch.Generator().manual_seed(0)
    wrong = torch.rand(len(s.targets), generator=generator) < share
    any_digit = torch.randint(10, s.targets.shape, generator=generator)
    return s._replace(targets=torch.where(wrong, any_digit, s.targets))


@functools.cache
def next_letter() -> Split:
    """Windows of eight symbols of text, and the symbol after each."""
    x, y, v, w = text(8)
    return Split(x, y[:, -1], v, w[:, -1])


@functools.cache
def colours() -> Split:
    """CIFAR-10: from grey pictures to the three colours."""
    s = cifar(6000)
    x, v = s.inputs, s.val_inputs[:2000]
    return Split(x.mean(1, keepdim=True), x, v.mean(1, keepdim=True), v)
