"""The reconstruction from rounded latents is the one that inference makes, and its gradient reaches the analysis."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compressai.models import ScaleHyperprior
from compressai.models.google import MeanScaleHyperprior
from torch import nn

from regicomp.training.quantization import RoundedReconstruction


@pytest.mark.parametrize("make", [ScaleHyperprior, MeanScaleHyperprior])
def test_equals_the_reconstruction_of_rounded_latents(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    codec: Any = make(8, 12)
    with torch.no_grad():
        codec.g_a[-1].weight.mul_(30)  # latents that round to more than 0
    rounded = RoundedReconstruction(codec)
    x = torch.rand(2, 3, 64, 64)
    noisy = codec(x)["x_hat"]
    found = rounded()
    assert not torch.equal(found, noisy)
    if make is ScaleHyperprior:  # with means, training takes them from a noisy z
        with torch.no_grad():
            torch.testing.assert_close(found, codec.g_s(torch.round(codec.g_a(x))))
    found.square().sum().backward()
    assert float(codec.g_a[0].weight.grad.abs().max()) > 0


def test_each_forward_pass_is_decoded_once() -> None:
    codec = ScaleHyperprior(8, 12)
    rounded = RoundedReconstruction(codec)
    codec(torch.rand(1, 3, 64, 64))
    rounded()
    with pytest.raises(RuntimeError, match="training mode"):
        rounded()


def test_codecs_without_one_latent_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`reg\.feed` \(=rounded\) must be noisy with"):
        RoundedReconstruction(nn.Identity())
