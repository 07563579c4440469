"""A narrowed codec: what is left out was never used."""

from __future__ import annotations

import pytest
import torch

from experiments.shipped import narrowing
from regicomp.backbone.hyperprior import Hyperprior


@pytest.fixture
def codec() -> Hyperprior:
    """Small, and with large latents in channels 1, 4 and 5 alone."""
    torch.manual_seed(0)
    network = Hyperprior(8, 6).eval()
    with torch.no_grad():
        network.g_a[6].weight.mul_(40)
        for channel in (0, 2, 3):
            network.g_a[6].weight[channel] = 0
            network.g_a[6].bias[channel] = 0
    return network


def test_channels_that_are_always_zero_are_not_missed(codec: Hyperprior) -> None:
    images = [torch.rand(1, 3, 64, 128) for _ in range(3)]
    counts = narrowing.usage(codec, images)
    assert counts.count_nonzero() == 3
    keep = narrowing.most_used(counts, 3)
    assert keep.tolist() == [1, 4, 5]
    narrow = narrowing.narrowed(codec, keep).eval()
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in codec.parameters())
    for x in images:
        with torch.inference_mode():
            before, after = codec(x), narrow(x)
        torch.testing.assert_close(after["x_hat"], before["x_hat"], atol=1e-5, rtol=0)
        torch.testing.assert_close(after["likelihoods"]["z"], before["likelihoods"]["z"], atol=1e-5, rtol=0)
        torch.testing.assert_close(after["likelihoods"]["y"], before["likelihoods"]["y"][:, keep], atol=1e-5, rtol=1e-4)


def test_all_channels_in_order_are_the_codec_itself(codec: Hyperprior) -> None:
    whole = narrowing.narrowed(codec, torch.arange(6)).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(whole(x)["x_hat"], codec(x)["x_hat"])
