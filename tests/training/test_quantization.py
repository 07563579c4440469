"""Quantization noise belongs to the place in the batch: however it is shared out, and in any memory format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from compressai.models import ScaleHyperprior
from compressai.models.google import MeanScaleHyperprior
from torch import Tensor, nn

from regicomp.backbone import precision
from regicomp.config.settings import Settings
from regicomp.training.build import build_networks
from regicomp.training.profiling import flops_a_crop
from regicomp.training.quantization import RoundedReconstruction, Rows, decode_rounded, noise_seed, share

Resolved = Callable[..., Settings]
BACKBONES = ("hyperprior", "autoregressive", "attention", "elic", "mlicpp")


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("parts", [1, 2])
def test_shares_cover_the_batch(world: int, parts: int) -> None:
    """Each process's parts, in their order, are every `world`-th row, as the sampler deals the crops out."""
    for rank in range(world):
        rows = [share(8, rank, world, part, parts) for part in range(parts)]
        chosen = [k for r in rows for k in range(r.first, r.first + r.stride * r.here, r.stride)]
        assert chosen == list(range(rank, 8, world))
    assert share(8, 0, 1).are_all


@pytest.mark.parametrize("shape", [(1, 6, 2, 2), (4, 6, 2, 2)])
def test_noise_for_another_batch_is_refused(resolved: Resolved, shape: tuple[int, ...]) -> None:
    """It would be broadcast: one crop would be computed as many."""
    module = build_networks(resolved("backbone=hyperprior", "reg.alpha=0")).train()
    module.noise.rows = share(4, 1, 2)
    with pytest.raises(ValueError, match=rf"2 crops .* batch of {shape[0]}"):
        module.noise.like(torch.zeros(shape), folded=False)
    with pytest.raises(ValueError, match=rf"2 crops .* batch of {shape[0]}"):
        module.codec(torch.zeros(shape[0], 3, 64, 64))
    module.codec(torch.zeros(2, 3, 64, 64))
    module.eval()
    module.codec(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("rows", [share(8, 0, 1), share(8, 1, 2), share(8, 0, 1, 1, 4)])
def test_flops_of_a_crop_do_not_depend_on_how_the_batch_is_shared_out(resolved: Resolved, rows: Rows) -> None:
    module = build_networks(resolved("reg.alpha=0.1")).train()
    expected = flops_a_crop(module, 64)
    module.noise.rows = rows
    assert flops_a_crop(module, 64) == expected
    assert module.noise.rows == rows


def _likelihoods(module: torch.nn.Module, x: Tensor, rows: Rows) -> dict[str, Tensor]:
    module.noise.rows = rows  # pyright: ignore
    torch.manual_seed(noise_seed(0, 7))
    with torch.no_grad():
        return module.codec(x)["likelihoods"]  # pyright: ignore


@pytest.mark.parametrize("backbone", BACKBONES)
def test_shared_out_or_channels_last_the_likelihoods_are_the_same(resolved: Resolved, backbone: str) -> None:
    module = build_networks(resolved(f"backbone={backbone}", "channels_last=false", "reg.alpha=0")).train()
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = _likelihoods(module, x, share(4, 0, 1))
    for rank in range(2):
        part = _likelihoods(module, x[rank::2], share(4, rank, 2))
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value[rank::2], rtol=1e-5, atol=1e-6)
    module.codec.to(memory_format=torch.channels_last)  # pyright: ignore
    other = _likelihoods(module, x.contiguous(memory_format=torch.channels_last), share(4, 0, 1))
    for name, value in whole.items():
        torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_trained_parameter_gets_a_gradient(resolved: Resolved, backbone: str) -> None:
    """Which is what DDP without a search for unused parameters needs: with the regularizer and in its warm-up."""
    for step in (0, 10**9):
        module = build_networks(resolved(f"backbone={backbone}")).train()
        assert module.regularizer is not None
        x = torch.randint(0, 256, (1, 3, 64, 64)).float() / 255
        out = module.codec(x)
        terms = module.objective.terms(x, out["x_hat"], out["likelihoods"].values())
        (terms.loss + module.regularizer(x, out["x_hat"], step)).backward()
        lacking = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
        assert not lacking


# --- the reconstruction from rounded latents ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [ScaleHyperprior, MeanScaleHyperprior])
def test_equals_the_reconstruction_of_rounded_latents(make: type[nn.Module]) -> None:
    """It is the one that inference makes, and its gradient reaches the analysis."""
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


@pytest.mark.parametrize("backbone", ["hyperprior", "autoregressive", "attention"])
def test_mixed_quantization_decodes_rounded_latents_and_counts_noisy_ones(resolved: Resolved, backbone: str) -> None:
    """x̂ is the second reconstruction of a codec that decodes noise, R is its R, at variable rate, too."""
    settings = (f"backbone={backbone}", "rate=variable", "rate.lambdas=[0.01,0.1]", "rate.gains=[30,60]", "reg.alpha=0")
    codec = build_networks(resolved(*settings)).codec
    mixed = build_networks(resolved(*settings, "quantization=mixed"))
    codec.load_state_dict(mixed.codec.state_dict())
    rounded = RoundedReconstruction(codec.train())
    x = torch.rand(2, 3, 64, 64)
    outs: list[Any] = []
    for network in (codec, mixed.train().codec):
        torch.manual_seed(1)
        outs.append(network(x))
    noisy, found = outs
    assert not torch.allclose(found["x_hat"], noisy["x_hat"])
    assert torch.equal(found["x_hat"], rounded())
    assert torch.equal(found["likelihoods"]["y"], noisy["likelihoods"]["y"])
    found["x_hat"].square().sum().backward()
    assert all(float(p.grad.abs().max()) > 0 for p in mixed.codec.g_a.parameters())
    with torch.no_grad():
        assert torch.equal(*(network.eval()(x)["x_hat"] for network in (codec, mixed.codec)))


def test_a_compiled_synthesis_decodes_rounded_latents_too(resolved: Resolved) -> None:
    """Without it x̂ is another."""
    settings = ("rate=variable", "rate.lambdas=[0.01,0.1]", "rate.gains=[30,60]", "reg.alpha=0")
    mixed, noisy = (build_networks(resolved(*settings, f"quantization={q}")).train().codec for q in ("mixed", "noise"))
    x = torch.rand(2, 3, 64, 64)

    @torch.no_grad()
    def decoded(codec: nn.Module) -> Tensor:
        torch.manual_seed(1)
        x_hat: Tensor = codec(x)["x_hat"]
        return x_hat

    expected = decoded(mixed)
    assert not torch.allclose(decoded(noisy), expected)
    torch._dynamo.reset()
    precision.compile_networks(mixed, None, backend="eager")
    torch.testing.assert_close(decoded(mixed), expected)
    torch._dynamo.reset()


def test_codecs_without_one_latent_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`quantization` \(=mixed\) must be noise with"):
        decode_rounded(nn.Identity())
    with pytest.raises(ValueError, match=r"`reg\.feed` \(=rounded\) must be noisy with"):
        RoundedReconstruction(nn.Identity())
