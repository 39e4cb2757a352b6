"""The papers' larger nets: known parameter counts, shapes, and what is peculiar to each."""

from typing import Any

import pytest
import torch
from torch import nn

from cyclr.errors import InputError
from cyclr.experiments.nets import NETS, make_net
from cyclr.experiments.nets.resnet import HeBlock, HeResNet, TopinBlock, WideBlock

# Counts from Netscope and the papers where they are printed, otherwise by hand from the layers.
COUNTS: list[tuple[dict[str, Any], int]] = [
    ({"kind": "resnet", "depth": 20}, 223_450),
    ({"kind": "resnet", "depth": 56}, 806_746),
    ({"kind": "resnet", "depth": 110}, 1_681_690),
    ({"kind": "he_resnet", "depth": 20}, 269_722),
    ({"kind": "he_resnet", "depth": 110}, 1_727_962),
    ({"kind": "densenet40"}, 1_019_722),
    ({"kind": "wrn32"}, 5_899_930),
    ({"kind": "wrn", "depth": 28, "widen": 10}, 36_479_194),
    ({"kind": "alexnet"}, 60_965_224),
    ({"kind": "googlenet"}, 13_378_280),
]


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("settings", "parameters"), COUNTS, ids=lambda x: str(x))
def test_parameter_counts(settings: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        assert _count(make_net(settings)) == parameters


def test_the_super_convergence_resnet_counted_by_hand() -> None:
    def convs(width: int, count: int) -> int:
        return count * (9 * width * width + 2 * width)  # weights, and BatchNorm's two vectors

    stem, head = 27 * 16 + 32, 64 * 10 + 10
    # Nine blocks of two; a block that goes down keeps its input's width.
    by_hand = stem + convs(16, 18) + convs(16, 2) + convs(32, 16) + convs(32, 2) + convs(64, 16)
    assert by_hand + head == 806_746


@pytest.mark.parametrize(
    ("settings", "size", "classes"),
    [
        ({"kind": "resnet", "depth": 8}, 32, 10),
        ({"kind": "resnet", "depth": 8, "stem_stride": 2}, 32, 10),
        ({"kind": "he_resnet", "depth": 8, "survival": 0.5, "classes": 100}, 32, 100),
        ({"kind": "densenet40", "depth": 10, "classes": 100}, 32, 100),
        ({"kind": "wrn", "depth": 10, "widen": 1}, 32, 10),
        ({"kind": "wrn32"}, 32, 10),
        ({"kind": "alexnet", "size": 64, "classes": 100, "hidden": 64}, 64, 100),
        ({"kind": "alexnet", "hidden": 16}, 224, 1000),
        ({"kind": "alexnet", "size": 64, "hidden": 64, "width": 0.01}, 64, 1000),
        ({"kind": "googlenet", "size": 64, "classes": 100}, 64, 100),
        ({"kind": "googlenet", "size": 64, "classes": 100, "width": 0.25}, 64, 100),
        ({"kind": "googlenet"}, 224, 1000),
    ],
    ids=lambda x: str(x),
)
def test_shapes(settings: dict[str, Any], size: int, classes: int) -> None:
    net = make_net(settings).eval()
    with torch.no_grad():
        assert net(torch.randn(2, 3, size, size)).shape == (2, classes)


def test_a_narrow_net_has_a_share_of_the_channels_and_starts_with_signals_as_large() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 64, 64) * 60
    whole = make_net({"kind": "alexnet", "size": 64}).eval()
    narrow = make_net({"kind": "alexnet", "size": 64, "hidden": 1024, "width": 0.25}).eval()
    assert [narrow.conv1.out_channels, narrow.conv2.out_channels] == [24, 64]
    assert [narrow.conv3.out_channels, narrow.conv4.out_channels] == [96, 96]
    with torch.no_grad():
        sizes = [float(net(x).std()) for net in (narrow, whole)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.5)

    inception = make_net({"kind": "googlenet", "size": 64, "width": 0.25})
    assert inception.blocks["3a"].out == 256 / 4
    assert inception.fc.in_features == 1024 / 4
    hidden = [m for m in inception.heads["4a"] if isinstance(m, nn.Linear)]
    assert [m.in_features for m in hidden] == [2048 / 4, 1024 / 4]


@pytest.mark.parametrize("kind", sorted(NETS))
def test_rates_name_parameters_that_are_there(kind: str) -> None:
    with torch.device("meta"):
        net = make_net({"kind": kind})
    names = {name for name, _ in net.named_parameters()}
    assert set(getattr(net, "rates", {})) <= names


def test_a_block_that_goes_down_keeps_its_width_and_appends_zeros() -> None:
    torch.manual_seed(0)
    block = TopinBlock(16, down=True, momentum=0.05)
    x = torch.randn(2, 16, 32, 32)
    y = block(x)
    assert y.shape == (2, 32, 16, 16)
    assert torch.count_nonzero(y[:, 16:]) == 0
    assert block.conv1.stride == (2, 2)
    assert (block.conv1.out_channels, block.conv2.out_channels) == (16, 16)
    # With residuals of zero what is left is the mean over 3×3, rectified.
    nn.init.zeros_(block.norm2.weight)
    pooled = nn.functional.avg_pool2d(x, 3, 2, ceil_mode=True).relu()
    torch.testing.assert_close(block(x)[:, :16], pooled)


def test_caffes_moving_average_fraction_becomes_torchs_momentum() -> None:
    net = make_net({"kind": "resnet", "depth": 8, "bn_momentum": 0.001})
    momenta = {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)}
    assert momenta == {0.001}


def test_a_wide_block_adds_without_a_relu() -> None:
    torch.manual_seed(0)
    block = WideBlock(16, 64, down=True, momentum=0.1)
    shortcut = block.shortcut[0]
    assert isinstance(shortcut, nn.Conv2d)
    assert (shortcut.kernel_size, shortcut.stride) == ((2, 2), (2, 2))
    y = block(torch.randn(2, 16, 32, 32))
    assert y.shape == (2, 64, 16, 16)
    assert float(y.detach().min()) < 0


def test_survival_falls_linearly_to_the_last_block() -> None:
    net = HeResNet(depth=20, survival=0.5)
    survival = [block.survival for block in net.body if isinstance(block, HeBlock)]
    assert survival == pytest.approx([1 - i / 9 * 0.5 for i in range(1, 10)])


def test_stochastic_depth_leaves_blocks_out_in_training_and_scales_them_in_evaluation() -> None:
    torch.manual_seed(0)
    block = HeBlock(16, 16, 1, survival=0.25)
    x = torch.randn(2, 16, 4, 4)
    left_out = sum(bool(torch.equal(block(x), x.relu())) for _ in range(100))
    assert left_out / 100 == pytest.approx(0.75, abs=0.15)
    block.eval()
    residual = block.norm2(block.conv2(block.norm1(block.conv1(x)).relu()))
    torch.testing.assert_close(block(x), (0.25 * residual + x).relu())


def test_a_dense_layer_appends_its_growth_and_drops_out() -> None:
    net = make_net({"kind": "densenet40"})
    dropped = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
    assert dropped == [0.2] * (36 + 2)
    assert net.norm.num_features == 16 + 36 * 12


def test_googlenets_helpers_are_there_in_training_only() -> None:
    net = make_net({"kind": "googlenet", "size": 64, "classes": 10})
    x = torch.randn(2, 3, 64, 64)
    outputs = net(x)
    assert [(tuple(head.shape), weight) for head, weight in outputs] == [
        ((2, 10), 1.0),
        ((2, 10), 0.3),
        ((2, 10), 0.3),
    ]
    helpers = sum(p.numel() for name, p in net.named_parameters() if name.startswith("heads"))
    with torch.device("meta"):
        full = make_net({"kind": "googlenet"})
    without = sum(p.numel() for name, p in full.named_parameters() if not name.startswith("heads"))
    assert without == 6_998_552  # Caffe's net as it is deployed
    assert helpers > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "vgg"}, "net.kind must be one of alexnet, "),
        ({}, "net.kind must be one of"),
        ({"kind": "cifar10_full", "depth": 3}, "net 'cifar10_full' cannot be made: "),
        ({"kind": "resnet", "depth": 21}, "net.depth must be 6n \\+ 2, such as 20, 56 or 110, got"),
        ({"kind": "he_resnet", "survival": 0}, r"net.survival must be in \(0, 1\], got 0"),
        ({"kind": "densenet40", "depth": 41}, "net.depth must be 3n \\+ 4"),
        ({"kind": "wrn", "depth": 29}, "net.depth must be 6n \\+ 4"),
        ({"kind": "alexnet", "size": 100}, "net.size must be 64 or 224, got 100"),
        ({"kind": "alexnet", "width": 0}, r"net.width must be in \(0, 1\], got 0"),
        ({"kind": "googlenet", "width": 2}, r"net.width must be in \(0, 1\], got 2"),
    ],
)
def test_what_is_no_net_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_net(settings)
