"""ẑ lies on one lattice in training, after the export and in the decoder; tables cost what likelihoods say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models.google import get_scale_table
from torch import Tensor

from regicomp.entropy_coding import symbol_streams
from regicomp.image_codec import model_file

SPECS = {
    "mlicpp": model_file.Spec("regicomp.backbone.mlicpp.MLICPlusPlus", {"N": 8, "M": 16, "slices": 2}),
    "elic": model_file.Spec("regicomp.backbone.elic.Elic", {"N": 8, "M": 10, "groups": [2, 2, 6]}),
    "another's": model_file.Spec("compressai.models.Elic2022Official", {"N": 8, "M": 10, "groups": [2, 2, 6]}),
    "hyperprior": model_file.Spec("regicomp.backbone.hyperprior.Hyperprior", {"N": 8, "M": 10}),
}


def _trained(spec: model_file.Spec) -> Any:
    """A codec whose z is some steps wide, and lies beside 0 where its bottleneck says so."""
    torch.manual_seed(0)
    codec: Any = model_file.build(spec, "backbone")
    (bottleneck,) = (m for m in codec.modules() if isinstance(m, EntropyBottleneck))
    with torch.no_grad():
        h_a = codec.h_a if hasattr(codec, "h_a") else codec.latent_codec.hyper.h_a
        h_a[-1].weight.mul_(300)
        h_a[-1].bias.copy_(torch.linspace(-7, 7, 8))
        bottleneck.biases[0].sub_(torch.linspace(-1, 1, 8).reshape(-1, 1, 1))
    return codec


def _bottleneck(codec: Any) -> EntropyBottleneck:
    (found,) = (m for m in codec.modules() if isinstance(m, EntropyBottleneck))
    return found


@torch.no_grad()
def _z_hat(codec: Any, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    h_s = codec.h_s if hasattr(codec, "h_s") else codec.latent_codec.hyper.h_s
    hook = h_s.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    codec(x)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("name", ["mlicpp", "elic", "another's"])
def test_z_hat_is_the_same_in_training_and_after_export(name: str, tmp_path: Path) -> None:
    codec = _trained(SPECS[name]).train()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    in_training = _z_hat(codec, x)
    model_file.save_codec(tmp_path / "codec.safetensors", codec, SPECS[name], {})
    exported = model_file.load_codec(tmp_path / "codec.safetensors").network
    assert float(in_training.std()) > 2
    torch.testing.assert_close(_z_hat(exported, x), in_training, rtol=0, atol=1e-4)
    solved = _bottleneck(exported).quantiles[:, 0].detach()
    assert float(solved[:, 1].abs().max()) >= 2  # the tables are where z is
    below, above = (solved[:, 1] - solved[:, 0], solved[:, 2] - solved[:, 1])
    assert torch.all((below > 0) & (above > 0) & ((below - above).abs() <= 1.1))
    with torch.no_grad():
        coded = exported.compress(x)
        decoded = exported.decompress(coded["strings"], coded["shape"])["x_hat"]
        torch.testing.assert_close(decoded, exported(x)["x_hat"].clamp(0, 1), rtol=0, atol=1e-4)


def test_a_codec_trained_with_noise_takes_the_medians_as_they_are(tmp_path: Path) -> None:
    codec = _trained(SPECS["hyperprior"])
    model_file.save_codec(tmp_path / "codec.safetensors", codec, SPECS["hyperprior"], {})
    exported = _bottleneck(model_file.load_codec(tmp_path / "codec.safetensors").network)
    medians = exported.quantiles[:, :, 1:2].detach()
    logits = exported._logits_cumulative(medians, stop_gradient=True)
    assert float(logits.abs().max()) < 1e-2
    assert float((medians - medians.round()).abs().max()) > 0.1


def test_an_exported_codec_trained_further_keeps_its_lattice(tmp_path: Path) -> None:
    """Also one of before, with medians between integers."""
    codec = _trained(SPECS["mlicpp"])
    with torch.no_grad():
        _bottleneck(codec).quantiles[:, 0, 1] = 0.3
    model_file.save_codec(tmp_path / "codec.safetensors", codec, SPECS["mlicpp"], {})
    medians = _bottleneck(model_file.load_codec(tmp_path / "codec.safetensors").network).quantiles[:, 0, 1]
    torch.testing.assert_close((medians.detach() - 0.3).round(), medians.detach() - 0.3, rtol=0, atol=1e-5)


def _cost(model: GaussianConditional, symbols: Tensor, scales: Tensor) -> float:
    """Bits a symbol of its tables beyond what its likelihoods say."""
    indexes = symbol_streams.scale_indexes(model, scales)
    coded = 8 * len(symbol_streams.encode([(model, symbols, indexes)]))
    _, likelihoods = model(symbols[None, None], scales[None, None], training=False)
    return (coded + float(likelihoods.double().log2().sum())) / len(symbols)


@pytest.mark.parametrize("name", ["hyperprior", "another's"])
def test_exported_tables_cost_what_the_likelihoods_say(name: str, tmp_path: Path) -> None:
    """Of symbols as wide as predicted, and of a codec that predicts too large scales: all its symbols are 0."""
    model_file.save_codec(tmp_path / "codec.safetensors", _trained(SPECS[name]), SPECS[name], {})
    exported = model_file.load_codec(tmp_path / "codec.safetensors").network
    model = next(m for m in exported.modules() if isinstance(m, GaussianConditional))
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(math.log10(0.4), math.log10(40), 40_000)
    drawn = (scales * torch.randn(scales.shape, generator=generator)).round()
    assert abs(_cost(model, torch.zeros_like(scales), scales)) < 0.005
    assert abs(_cost(model, drawn, scales)) < 0.005
    # The table's own scales are CompressAI's, and one of 0.11 is for that very scale.
    assert model.scale_table.tolist() == pytest.approx(get_scale_table().tolist())
    assert abs(_cost(model, torch.zeros(40_000), torch.full((40_000,), 0.11))) < 0.005
