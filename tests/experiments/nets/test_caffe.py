"""Every printed detail of Caffe's CIFAR-10 nets and LeNet."""

import math

import pytest
import torch
from torch import nn

from cyclr.experiments.nets.caffe import Cifar10Full, Cifar10Quick, LeNet
from cyclr.experiments.nets.fillers import gaussian, msra, xavier


def _sizes(net: nn.Sequential, x: torch.Tensor) -> dict[str, tuple[int, ...]]:
    sizes = {}
    for name, layer in net.named_children():
        x = layer(x)
        sizes[name] = tuple(x.shape[1:])
    return sizes


def test_full_has_the_printed_layers_in_the_printed_order() -> None:
    sizes = _sizes(Cifar10Full(), torch.randn(2, 3, 32, 32))
    assert sizes == {
        "conv1": (32, 32, 32),
        "pool1": (32, 16, 16),
        "relu1": (32, 16, 16),
        "norm1": (32, 16, 16),
        "conv2": (32, 16, 16),
        "relu2": (32, 16, 16),
        "pool2": (32, 8, 8),
        "norm2": (32, 8, 8),
        "conv3": (64, 8, 8),
        "relu3": (64, 8, 8),
        "pool3": (64, 4, 4),
        "flat": (1024,),
        "ip1": (10,),
    }


def test_quick_has_the_printed_layers_in_the_printed_order() -> None:
    sizes = _sizes(Cifar10Quick(), torch.randn(2, 3, 32, 32))
    convolutions = ["conv1", "pool1", "relu1", "conv2", "relu2", "pool2", "conv3", "relu3", "pool3"]
    assert list(sizes) == [*convolutions, "flat", "ip1", "ip2"]
    assert [sizes[name] for name in ("pool1", "pool2", "pool3", "ip1", "ip2")] == [
        (32, 16, 16),
        (32, 8, 8),
        (64, 4, 4),
        (64,),
        (10,),
    ]


def test_lenet_has_the_printed_layers() -> None:
    sizes = _sizes(LeNet(), torch.randn(2, 1, 28, 28))
    assert [sizes[name] for name in ("conv1", "pool1", "conv2", "pool2", "ip1", "ip2")] == [
        (20, 24, 24),
        (20, 12, 12),
        (50, 8, 8),
        (50, 4, 4),
        (500,),
        (10,),
    ]


@pytest.mark.parametrize("net", [Cifar10Full(), Cifar10Quick()], ids=["full", "quick"])
def test_convolutions_are_5_by_5_with_padding_2_and_the_first_pool_is_a_maximum(
    net: nn.Sequential,
) -> None:
    for name in ("conv1", "conv2", "conv3"):
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        assert (conv.kernel_size, conv.stride, conv.padding) == ((5, 5), (1, 1), (2, 2))
    kinds = [type(net.get_submodule(name)) for name in ("pool1", "pool2", "pool3")]
    assert kinds == [nn.MaxPool2d, nn.AvgPool2d, nn.AvgPool2d]


def test_the_mean_pool_counts_only_the_pixels_inside_the_image() -> None:
    pooled = Cifar10Full().get_submodule("pool2")(torch.arange(256.0).view(1, 1, 16, 16))
    # Rows 14 and 15, columns 0 to 2: six pixels, not nine.
    assert float(pooled[0, 0, 7, 0]) == pytest.approx(sum([224, 225, 226, 240, 241, 242]) / 6)
    # The last window holds the four pixels of the corner.
    assert float(pooled[0, 0, 7, 7]) == pytest.approx((238 + 239 + 254 + 255) / 4)
    assert float(pooled[0, 0, 0, 0]) == pytest.approx(17.0)


def test_initial_weights_are_gaussian_with_the_printed_deviations() -> None:
    torch.manual_seed(0)
    printed = {
        Cifar10Full: {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "ip1": 0.01},
        Cifar10Quick: {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "ip1": 0.1, "ip2": 0.1},
    }
    for cls, deviations in printed.items():
        net = cls()
        for name, deviation in deviations.items():
            weight = net.get_parameter(f"{name}.weight").detach()
            spread = 5 / math.sqrt(2 * weight.numel())  # five standard errors
            assert float(weight.std()) == pytest.approx(deviation, rel=spread)
            assert float(weight.mean()) == pytest.approx(0, abs=deviation * spread * 2)
            assert torch.count_nonzero(net.get_parameter(f"{name}.bias")) == 0


def test_caffes_fillers_count_the_inputs_alone() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 200, 5)  # fan_in 200
    xavier(conv, bias=0.2)
    assert float(conv.weight.detach().abs().max()) == pytest.approx(math.sqrt(3 / 200), rel=1e-3)
    assert conv.bias is not None
    assert conv.bias.unique().tolist() == [pytest.approx(0.2)]
    msra(conv)
    assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / 200), rel=0.02)
    gaussian(conv, 0.03)
    assert float(conv.weight.detach().std()) == pytest.approx(0.03, rel=0.02)
    assert torch.count_nonzero(conv.bias) == 0


def test_full_learns_at_the_printed_multiples_of_rate_and_decay() -> None:
    assert dict(Cifar10Full.rates) == {
        "conv1.weight": (1, 1),
        "conv1.bias": (2, 1),
        "conv2.weight": (1, 1),
        "conv2.bias": (2, 1),
        "conv3.weight": (1, 1),
        "conv3.bias": (1, 1),
        "ip1.weight": (1, 250),
        "ip1.bias": (2, 0),
    }


@pytest.mark.parametrize("cls", [Cifar10Full, Cifar10Quick, LeNet])
def test_every_parameter_has_multipliers(cls: type[nn.Module]) -> None:
    assert set(cls.rates) == {name for name, _ in cls().named_parameters()}  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", [Cifar10Quick, LeNet])
def test_in_quick_and_lenet_biases_learn_twice_as_fast_and_everything_decays(
    cls: type[nn.Module],
) -> None:
    for name, multipliers in cls.rates.items():  # type: ignore[union-attr, operator]
        assert multipliers == ((2, 1) if name.endswith("bias") else (1, 1))


@pytest.mark.parametrize(
    ("net", "parameters"), [(Cifar10Full(), 89_578), (Cifar10Quick(), 145_578), (LeNet(), 431_080)]
)
def test_parameter_counts(net: nn.Module, parameters: int) -> None:
    assert sum(p.numel() for p in net.parameters()) == parameters
