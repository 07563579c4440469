"""Every family of q_θ(x|x̂): where it starts, what it may read of the source, and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from regicomp.config.settings import Settings
from regicomp.image_codec import model_file
from regicomp.source.autoregressive import AutoregressiveSource
from regicomp.source.base import Parameters, SourceModel, to_patches
from regicomp.source.coarse_to_fine import coarse_to_fine
from regicomp.source.elic import ElicSource, group_sizes
from regicomp.source.hyperprior import HyperpriorSource
from regicomp.source.mlicpp import MlicppSource

PATCH = 4
SAMPLES = 3 * PATCH * PATCH
H, W = 4, 5  # of the patch grid
FAMILIES: dict[str, type[SourceModel]] = {
    "hyperprior": HyperpriorSource,
    "autoregressive": AutoregressiveSource,
    "elic": ElicSource,
    "mlicpp": MlicppSource,
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def _model(family: str) -> SourceModel:
    torch.manual_seed(0)
    return FAMILIES[family](patch=PATCH, width=8)


def _trained_by_chance(family: str) -> SourceModel:
    """With last layers that are not zero."""
    model = _model(family)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return model


def _pair(height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    x = torch.randint(0, 256, (batch, 3, height, width), generator=generator).float() / 255
    return x, (x + 0.05 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def _grids() -> tuple[Tensor, Tensor]:
    """s and x̂ on the patch grid, (1, C, H, W)."""
    x, x_hat = _pair(H * PATCH, W * PATCH)
    return torch.round(255 * to_patches(x, PATCH)), to_patches(x_hat, PATCH)


# --- coding orders, written down apart from the models ------------------------------------------------------------


def _stages(family: str) -> Tensor:
    """Stage in which each sample of the grid is coded, (C, H, W)."""
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    if family == "hyperprior":
        return torch.zeros(SAMPLES, H, W, dtype=torch.long)
    if family == "autoregressive":
        return (rows * W + columns).expand(SAMPLES, H, W)
    sizes = {"elic": [2, 2, 4, 8, 32], "mlicpp": [8] * 6}[family]
    assert sum(sizes) == SAMPLES
    group = torch.empty(SAMPLES, dtype=torch.long)
    group[coarse_to_fine(PATCH)] = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    second = (rows + columns) % 2 == 0
    return 2 * group[:, None, None] + second


def _read(model: SourceModel, s: Tensor, x_hat: Tensor) -> Tensor:
    """Means and scales of every sample, (2, C, H, W)."""
    with torch.no_grad():
        found: Parameters = model.parameters_of(s, x_hat)
    return torch.cat(list(found))


def _a_sample_of(stages: Tensor, stage: int) -> tuple[int, ...]:
    where = (stages == stage).nonzero()
    return tuple(where[len(where) // 2].tolist())


@every_family
def test_a_sample_is_read_only_by_those_coded_later(family: str) -> None:
    model, stages = _trained_by_chance(family), _stages(family)
    s, x_hat = _grids()
    before = _read(model, s, x_hat)
    last = int(stages.max())
    for stage in range(last + 1):
        changed = s.clone()
        changed[(0, *_a_sample_of(stages, stage))] += 50
        after = _read(model, changed, x_hat)
        sooner = (stages <= stage).expand_as(before)
        assert torch.equal(after[sooner], before[sooner]), f"stage {stage}"
        assert (stage == last) == torch.equal(after, before), f"stage {stage}"


@every_family
def test_parallel_parameters_are_the_sequential_ones(family: str) -> None:
    """A decoder that knows only earlier stages (the rest is zero) finds the parameters of training, to the bit."""
    model, stages = _trained_by_chance(family), _stages(family)
    s, x_hat = _grids()
    parallel = _read(model, s, x_hat)
    known = torch.zeros_like(s)
    for stage in range(int(stages.max()) + 1):
        now = stages == stage
        sequential = _read(model, known, x_hat)
        assert torch.equal(sequential[:, now], parallel[:, now]), f"stage {stage}"
        known[:, now] = s[:, now]
    assert torch.equal(known, s)


@every_family
def test_every_stage_but_the_first_reads_the_stage_before_it(family: str) -> None:
    """No context is cut off: with a whole stage changed, the next one's parameters change."""
    model, stages = _trained_by_chance(family), _stages(family)
    s, x_hat = _grids()
    before = _read(model, s, x_hat)
    for stage in range(int(stages.max())):
        if family == "autoregressive" and (stage + 1) % W == 0:
            continue  # the first patch of a row does not see the last of the row above
        after = _read(model, torch.where(stages == stage, 255 - s, s), x_hat)
        following = (stages == stage + 1).expand_as(before)
        assert not torch.equal(after[following], before[following]), f"stage {stage + 1}"


# --- bits -----------------------------------------------------------------------------------------------------------


@every_family
def test_untrained_model_is_a_gaussian_of_sigma_20_around_x_hat(family: str) -> None:
    x, x_hat = _pair(13, 18)
    found = _read(_model(family), *_grids())
    mean, scale = found.chunk(2)
    torch.testing.assert_close(mean, 255 * _grids()[1], rtol=0, atol=0)
    torch.testing.assert_close(scale, torch.full_like(scale, 20.0))
    with torch.no_grad():
        assert torch.equal(_model(family).bits(x, x_hat), _model("hyperprior").bits(x, x_hat))


@every_family
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (1, 9), (17, 2), (13, 22)])
def test_bits_of_any_size_are_finite_and_every_sample_s(family: str, height: int, width: int) -> None:
    x, x_hat = _pair(height, width, batch=2)
    with torch.no_grad():
        bits = _trained_by_chance(family).bits(x, x_hat)
    assert bits.shape == x.shape
    assert bits.dtype == torch.float32
    assert torch.isfinite(bits).all()
    assert float(bits.min()) >= -1e-6


@every_family
@pytest.mark.parametrize("patch", [1, 2, 3, 6, 8])
def test_any_patch(family: str, patch: int) -> None:
    x, x_hat = _pair(2 * patch + 1, 16)
    options: dict[str, Any] = {"slices": 3, "heads": 1} if family == "mlicpp" else {}
    with torch.no_grad():
        entropy = FAMILIES[family](patch=patch, width=8, **options)(x, x_hat)
    assert torch.isfinite(entropy)


@every_family
def test_images_of_a_batch_do_not_mix(family: str) -> None:
    model = _trained_by_chance(family)
    x, x_hat = _pair(16, 12, batch=2)
    with torch.no_grad():
        together = model.bits(x, x_hat)
        alone = torch.cat([model.bits(x[k : k + 1], x_hat[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-3)


# --- training -------------------------------------------------------------------------------------------------------


@every_family
def test_every_parameter_and_the_reconstruction_get_a_gradient(family: str) -> None:
    model = _trained_by_chance(family)
    x, x_hat = _pair(16, 20)
    x_hat.requires_grad_(True)
    model(x, x_hat).backward()
    assert x_hat.grad is not None
    assert x_hat.grad.count_nonzero() == x_hat.numel()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@every_family
def test_five_steps_lower_the_entropy(family: str) -> None:
    model = _model(family)
    x, x_hat = _pair(32, 32)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    found: list[float] = []
    for _ in range(6):
        optimizer.zero_grad()
        entropy = model(x, x_hat)
        entropy.backward()
        optimizer.step()
        found.append(float(entropy.detach()))
    assert found[-1] < found[0] - 0.01


@pytest.mark.parametrize("family", ["autoregressive", "elic"])
def test_hidden_weights_of_masked_convolutions_are_not_touched(family: str) -> None:
    """Neither by measuring, even in inference mode, nor by training: they take no share of the clipped gradient."""
    model = _trained_by_chance(family)
    masked = [m for m in model.modules() if isinstance(getattr(m, "mask", None), Tensor)]
    assert masked
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x, x_hat = _pair(16, 16)
    with torch.inference_mode():
        model(x, x_hat)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model(x, x_hat).backward()
    for convolution in masked:
        gradient, mask = convolution.weight.grad, convolution.mask
        assert isinstance(gradient, Tensor)
        assert isinstance(mask, Tensor)
        assert not gradient[mask == 0].any()
        assert gradient[mask == 1].any()


@every_family
def test_trains_under_bf16_autocast(family: str) -> None:
    model = _trained_by_chance(family)
    x, x_hat = _pair(16, 16)
    expected = float(model(x, x_hat).detach())
    x_hat = x_hat.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        entropy = model(x, x_hat)
    entropy.backward()
    assert entropy.dtype == torch.float32
    assert float(entropy.detach()) == pytest.approx(expected, rel=0.05)
    assert x_hat.grad is not None
    assert torch.isfinite(x_hat.grad).all()


# --- arguments and configuration ------------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize(
    ("argument", "value"), [("patch", 0), ("width", 0), ("density", "cauchy"), ("initial_scale", 0.0)]
)
def test_arguments_out_of_range_are_refused(family: str, argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        FAMILIES[family](**{argument: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 7}, r"`slices` \(=7\) must divide the samples of a patch, 3·patch² \(=192\)"),
        ({"slices": 0}, r"`slices` \(=0\)"),
        ({"slices": -6}, r"`slices` \(=-6\)"),
        ({"heads": 3}, r"`heads` \(=3\) must divide the channels of a slice \(=32\)"),
    ],
)
def test_slices_and_heads_must_fit(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MlicppSource(width=8, **options)


def test_groups_are_in_elic_s_proportions() -> None:
    assert group_sizes(192) == (8, 8, 16, 32, 128)
    assert group_sizes(48) == (2, 2, 4, 8, 32)
    for patch in range(1, 20):
        sizes = group_sizes(3 * patch * patch)
        assert sum(sizes) == 3 * patch * patch
        assert min(sizes) >= 1
        assert list(accumulate(sizes))[-1] - sizes[-1] == pytest.approx(patch * patch)


@pytest.mark.parametrize(
    ("backbone", "source"),
    [
        ("hyperprior", "hyperprior"),
        ("autoregressive", "autoregressive"),
        ("attention", "autoregressive"),
        ("elic", "elic"),
        ("mlicpp", "mlicpp"),
    ],
)
def test_a_backbone_brings_its_own_family(resolved: Callable[..., Settings], backbone: str, source: str) -> None:
    """… and both can be built and do one forward pass together."""
    cfg = resolved(f"backbone={backbone}")
    resolved(f"backbone={backbone}", tiny=False)
    assert (cfg.source_label, cfg.backbone_label) == (source, backbone)
    codec, model = model_file.build(cfg.backbone, "backbone"), model_file.build(cfg.source, "source")
    assert isinstance(model, FAMILIES[source])
    x, _ = _pair(64, 64)
    with torch.no_grad():
        out = codec(x)
        assert out["x_hat"].shape == x.shape
        assert torch.isfinite(model(x, out["x_hat"]))


@pytest.mark.parametrize("source", ["hyperprior", "autoregressive", "elic", "mlicpp"])
def test_any_family_with_any_backbone(resolved: Callable[..., Settings], source: str) -> None:
    assert resolved("backbone=attention", f"source={source}").source_label == source


def test_a_width_that_a_codec_does_not_have_is_not_asked_for(resolved: Callable[..., Settings]) -> None:
    assert "M" not in resolved("backbone=attention").backbone.arguments
    for value in ("null", "???"):
        with pytest.raises(ValueError, match=r"`backbone\.M`"):
            resolved("backbone=elic", f"backbone.M={value}")
    with pytest.raises(ValueError, match=r"`backbone\.N`.*from 1 to 6"):
        resolved("backbone=attention", "quality=7", tiny=False)
