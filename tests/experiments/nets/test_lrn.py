"""The two local response normalizations: Caffe's formula, its gradient, float32."""

import pytest
import torch

from cyclr.experiments.nets.lrn import AcrossChannelsLRN, WithinChannelLRN


def _printed(x: torch.Tensor, alpha: float) -> torch.Tensor:
    """The formula, term by term: zeros around the image count in the mean over nine."""
    y = torch.empty_like(x)
    _, _, height, width = x.shape
    for i in range(height):
        for j in range(width):
            window = x[:, :, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            y[:, :, i, j] = x[:, :, i, j] / (1 + alpha * (window**2).sum((2, 3)) / 9) ** 0.75
    return y


def _inputs(channels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An input for ours and one for the plain form, and weights for the sum of the output."""
    torch.manual_seed(0)
    x, weight = 30 * torch.randn(2, channels, 5, 6), torch.randn(2, channels, 5, 6)
    return x.clone().requires_grad_(), x.clone().requires_grad_(), weight


def test_within_channels_is_the_printed_formula() -> None:
    x = _inputs(3)[0].detach()
    assert WithinChannelLRN().alpha == 5e-5
    torch.testing.assert_close(WithinChannelLRN(0.01)(x), _printed(x, 0.01))


def test_within_channels_has_the_formulas_gradient() -> None:
    ours, plain, weight = _inputs(3)
    (WithinChannelLRN(0.01)(ours) * weight).sum().backward()
    squares = torch.nn.functional.avg_pool2d(plain**2, 3, 1, 1)
    (plain * (1 + 0.01 * squares) ** -0.75 * weight).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)


@pytest.mark.parametrize("channels", [5, 8])
def test_across_channels_is_torchs_own(channels: int) -> None:
    ours, plain, weight = _inputs(channels)
    assert AcrossChannelsLRN().alpha == 1e-4
    y = AcrossChannelsLRN(0.01)(ours)
    expected = torch.nn.functional.local_response_norm(plain, 5, alpha=0.01, beta=0.75, k=1.0)
    torch.testing.assert_close(y, expected)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)


def test_across_channels_at_the_first_and_the_last() -> None:
    x = torch.tensor([1.0, 2, 3, 4, 5, 6]).reshape(1, 6, 1, 1)
    y = AcrossChannelsLRN(5.0)(x).flatten()
    assert float(y[0]) == pytest.approx(1 / (1 + 1 + 4 + 9) ** 0.75)
    assert float(y[2]) == pytest.approx(3 / (1 + 1 + 4 + 9 + 16 + 25) ** 0.75)
    assert float(y[5]) == pytest.approx(6 / (1 + 16 + 25 + 36) ** 0.75)


def test_float32_under_autocast() -> None:
    x = torch.full((1, 1, 4, 4), 20.0, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = WithinChannelLRN()(x)
        assert AcrossChannelsLRN()(x.expand(1, 5, 4, 4)).dtype == torch.float32
    assert y.dtype == torch.float32
    # 1 + 5e-5 · 400 = 1.02: bfloat16 could not tell it from 1.0234.
    assert float(y[0, 0, 1, 1]) == pytest.approx(20 / 1.02**0.75, rel=1e-6)
