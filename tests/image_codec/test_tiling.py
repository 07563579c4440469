"""Tiles and bf16 change the transforms in their last bits only, and the entropy model not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from regicomp.image_codec import model_file, tiling
from regicomp.image_codec.model_file import Spec

SPECS = {
    "hyperprior": Spec("compressai.models.ScaleHyperprior", {"N": 8, "M": 12}),
    "attention": Spec("regicomp.backbone.autoregressive.Attention", {"N": 8}),
    "elic": Spec("compressai.models.Elic2022Official", {"N": 8, "M": 20, "groups": [2, 2, 4, 4, 8]}),
    "mlicpp": Spec("regicomp.backbone.mlicpp.MLICPlusPlus", {"N": 8, "M": 16, "slices": 2, "heads": 2}),
}


def build(name: str) -> Any:
    torch.manual_seed(0)
    return model_file.build(SPECS[name], "backbone").eval()


@pytest.mark.parametrize("name", SPECS)
def test_tiles_have_no_seams(name: str) -> None:
    codec = build(name)
    x = torch.rand(1, 3, 7 * 64, 5 * 64)
    with torch.inference_mode():
        y = codec.g_a(x)
        x_hat = codec.g_s(y)
        with tiling.Transforms(codec, 64, "float32").use(256):
            assert torch.allclose(codec.g_a(x), y, rtol=1e-5, atol=1e-5 * float(y.abs().max()))
            assert torch.allclose(codec.g_s(y), x_hat, rtol=1e-5, atol=1e-5)
        assert torch.equal(codec.g_a(x), y)  # and nothing stays behind


def test_a_tile_bounds_what_is_computed_at_once() -> None:
    codec = build("hyperprior")
    seen: list[int] = []
    codec.g_a[0].register_forward_pre_hook(lambda _, args: seen.append(max(args[0].shape[-2:])))
    with torch.inference_mode(), tiling.Transforms(codec, 64, "float32").use(256):
        codec.g_a(torch.rand(1, 3, 1024, 640))
    tiles = [side for side in seen if side > 200]
    assert max(tiles) <= 256 + 2 * 2 * 16 + 16 * 8  # the margin is measured on up to 272 pixels
    assert len(tiles) >= 12


def test_reach_is_measured() -> None:
    def blur(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 11, stride=1, padding=5)

    assert tiling.reach(blur, 1, tiling._Scale(1, 1), torch.device("cpu")) == 5
    with pytest.raises(ValueError, match="`tile` needs transforms"):
        tiling.reach(lambda x: x - x.mean(), 1, tiling._Scale(1, 1), torch.device("cpu"))


def test_bf16_is_of_the_transforms_alone() -> None:
    codec = build("hyperprior")
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        y = codec.g_a(x)
        with tiling.Transforms(codec, 64, "bf16").use(0):
            rough = codec.g_a(x)
            assert torch.equal(codec.h_a(y), build("hyperprior").h_a(y))
    assert rough.dtype == torch.float32
    assert 0 < float((rough - y).abs().max()) < 0.05 * float(y.abs().max())


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`precision` \(=half\)"):
        tiling.Transforms(build("hyperprior"), 64, "half")
    with pytest.raises(ValueError, match=r"`precision` \(=bf16\) needs a codec"):
        tiling.Transforms(nn.Linear(1, 1), 64, "bf16")
    with (
        pytest.raises(ValueError, match=r"`tile` \(=100\)"),
        tiling.Transforms(build("hyperprior"), 64, "float32").use(100),
    ):
        pass
