"""The small nets: shapes, and the residual block against its formula."""

import pytest
import torch
from torch import nn

from cyclr.experiments.models import Residual, digits_net, small_resnet


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, 8)])
def test_the_resnet_maps_images_to_classes(channels: int, size: int) -> None:
    net = small_resnet(channels=channels, classes=7, width=4)
    inputs = torch.randn(5, channels, size, size)
    assert net(inputs).shape == (5, 7)
    features = net[:6](inputs)
    assert features.shape == (5, 32, -(-size // 8), -(-size // 8))


def test_the_width_scales_the_resnet() -> None:
    # Convolutions grow with the square of the width, so doubling it almost quadruples the net.
    assert 3.8 < _count(small_resnet(width=32)) / _count(small_resnet(width=16)) < 4.0
    convolutions = [m for m in small_resnet().modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == 7  # and the linear layer: eight


def test_the_digits_net_maps_digits_to_classes() -> None:
    net = digits_net()
    assert net(torch.randn(3, 1, 8, 8)).shape == (3, 10)
    assert _count(net) == 32 * 9 + 2 * 32 + 64 * 32 * 9 + 2 * 64 + 1024 * 10 + 10


def test_the_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = Residual(4, 6, stride=2).eval()
    x = torch.randn(2, 4, 8, 8)
    y = torch.relu(block.norm1(block.conv1(x)))
    expected = torch.relu(block.norm2(block.conv2(y)) + block.shortcut[1](block.shortcut[0](x)))
    assert expected.shape == (2, 6, 4, 4)
    assert torch.equal(block(x), expected)


def test_the_shortcut_is_the_identity_where_shapes_agree() -> None:
    block = Residual(4, 4).eval()
    nn.init.zeros_(block.norm2.weight)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), torch.relu(x))
    assert len(Residual(4, 4, stride=2).shortcut) == 2
    assert len(Residual(4, 8).shortcut) == 2
