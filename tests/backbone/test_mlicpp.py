"""MLIC++: its size, its three ways through the latent, what may depend on what, and learning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from regicomp.backbone import contexts
from regicomp.backbone.fast_layers import without_strided_pointwise
from regicomp.backbone.mlicpp import MLICPlusPlus
from regicomp.backbone.mlicpp_slices import Coded, Gaussians
from regicomp.backbone.precision import keep_entropy_in_float32
from regicomp.config import resolvers, settings
from regicomp.evaluation import round_trip
from regicomp.image_codec import model_file
from regicomp.objective.rate_distortion import RateDistortion
from regicomp.training import module

# Parameters by part at N=192, M=320, 10 slices.
PUBLISHED = {
    "entropy_bottleneck": 11_712,
    "g_a": 4_396_352,
    "g_s": 14_700_172,
    "h_a": 1_881_024,
    "h_s": 16_685_600,
    "slices.local_context": 755_220,
    "slices.channel_context": 5_810_112,
    "slices.global_inter": 4_633_344,
    "slices.global_intra": 659_232,
    "slices.anchor_parameters": 3_837_440,
    "slices.other_parameters": 4_226_560,
    "slices.anchor_residual": 12_952_320,
    "slices.other_residual": 12_952_320,
}
TINY = {"N": 16, "M": 24, "slices": 3}
Z_HAT = torch.linspace(-2, 2, 2 * TINY["N"]).reshape(1, -1, 1, 2)
CHANNELS = 8
SCALE = 8.0  # of y, and of what is predicted for it, in `codec`


def image(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """Smooth noise with some grain, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, height // 16, width // 16, generator=generator)
    grain = torch.rand(batch, 3, height, width, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return 0.8 * smooth + 0.2 * grain


@pytest.fixture(scope="module")
def codec() -> MLICPlusPlus:
    """A small codec whose latent is worth coding: y and its predicted scales are some steps wide."""
    torch.manual_seed(1)
    model = MLICPlusPlus(**TINY).eval()
    with torch.no_grad():
        y = model.g_a(image(128, 128))
        model.g_a[-1].weight.mul_(SCALE / y.std())
        for coder in model.slices:
            for net in (coder.anchor_parameters.net, coder.other_parameters.net):
                net[-1].bias[:CHANNELS] = SCALE
                net[-1].weight.mul_(4)
    model.update(force=True, update_quantiles=True)
    return model


# --- its size -----------------------------------------------------------------------------------------------


def test_parameters_by_part_are_the_published_ones() -> None:
    counts: dict[str, int] = {}
    model = MLICPlusPlus()
    for name, parameter in model.named_parameters():
        first, second, third = [*name.split("."), ""][:3]
        part = f"slices.{third}" if first == "slices" else first
        assert second
        counts[part] = counts.get(part, 0) + parameter.numel()
    assert counts == PUBLISHED
    assert sum(counts.values()) == 83_501_408


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"N": 0}, r"`N` \(=0\) must be at least 1"),
        ({"slices": 0}, r"`slices` \(=0\) must be at least 1"),
        ({"M": 50, "slices": 4}, r"`slices` \(=4\) must divide `M` \(=50\)"),
        ({"M": 60, "slices": 4}, r"`heads` \(=2\) must divide the channels of a slice \(=15\)"),
        ({"heads": -1}, r"`heads` \(=-1\) must be at least 1"),
        ({"M": 9, "slices": 3, "heads": 1}, r"`M` \(=9\) must be even"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLICPlusPlus(**{**TINY, **arguments})


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: contexts.LocalContext(6, heads=4), r"`heads` \(=4\)"),
        (lambda: contexts.LocalContext(6, window=4), r"`window` \(=4\) must be odd"),
        (lambda: contexts.GlobalIntraContext(6, heads=0), r"`heads` \(=0\)"),
    ],
)
def test_bad_arguments_of_contexts_are_named(module: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module()


# --- forward, compress, decompress --------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 128), (192, 128)])
@torch.no_grad()
def test_decoder_makes_the_very_image_of_forward(codec: MLICPlusPlus, height: int, width: int) -> None:
    x = image(height, width)
    out = codec(x)
    coded = codec.compress(x)
    assert tuple(coded["shape"]) == (height // 64, width // 64)
    decoded = codec.decompress(coded["strings"], list(coded["shape"]))["x_hat"]
    assert decoded.shape == x.shape
    assert torch.equal(decoded, out["x_hat"].clamp(0, 1))
    assert decoded.std() > 0


@torch.no_grad()
def test_bytes_are_what_the_likelihoods_say(codec: MLICPlusPlus) -> None:
    x = image(128, 192)
    out = codec(x)
    for name, strings in zip("yz", codec.compress(x)["strings"], strict=True):
        estimated = float(-torch.log2(out["likelihoods"][name]).sum()) / 8
        assert abs(len(strings[0]) - estimated) <= 0.02 * estimated + 64, name
    y, _ = codec._encode(x)
    assert y.round().unique().numel() > 20
    assert float(-torch.log2(out["likelihoods"]["y"]).mean()) > 2


@torch.no_grad()
def test_bytes_must_be_right_for_the_image_to_be(codec: MLICPlusPlus) -> None:
    x = image(64, 64)
    coded = codec.compress(x)
    other = codec.compress(image(64, 64, seed=1))
    swapped = codec.decompress([other["strings"][0], coded["strings"][1]], coded["shape"])["x_hat"]
    assert not torch.equal(swapped, codec(x)["x_hat"].clamp(0, 1))


@torch.no_grad()
def test_training_decodes_what_evaluation_decodes(codec: MLICPlusPlus) -> None:
    x = image(64, 128, batch=2)
    expected = codec(x)
    codec.train()
    found = codec(x)
    codec.eval()
    assert torch.equal(found["x_hat"], expected["x_hat"])
    assert not torch.equal(found["likelihoods"]["y"], expected["likelihoods"]["y"])
    assert expected["x_hat"].shape == x.shape
    assert expected["likelihoods"]["y"].shape == (2, TINY["M"], 4, 8)
    assert expected["likelihoods"]["z"].shape == (2, TINY["N"], 1, 2)


def test_inputs_are_checked(codec: MLICPlusPlus) -> None:
    assert codec.downsampling_factor == 64
    with pytest.raises(ValueError, match="64 divides"):
        codec(torch.zeros(1, 3, 64, 96))
    with pytest.raises(ValueError, match="must be one image"):
        codec.compress(torch.zeros(2, 3, 64, 64))
    with pytest.raises(ValueError, match="must be one image's"):
        codec.decompress([[b""]], [1, 1])
    fresh = MLICPlusPlus(**TINY)
    with pytest.raises(ValueError, match=r"call `update\(\)`"):
        fresh.compress(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"call `update\(\)`"):
        fresh.decompress([[b""], [b""]], [1, 1])


# --- what may depend on what --------------------------------------------------------------------------------


def code(codec: MLICPlusPlus, symbols: Tensor) -> Coded:
    """The walk through `symbols`, (1, M, 4, 8), of a careless encoder, which gives away all of a slice."""

    def quantize(i: int, positions: Tensor, predicted: Gaussians) -> Tensor:
        del positions
        return symbols.chunk(TINY["slices"], dim=1)[i] + predicted.means

    with torch.no_grad():
        return codec.code_slices(Z_HAT, quantize)


def by_pass(coded: Coded) -> Iterator[Tensor]:
    """Scales and means of each pass, in coding order."""
    board = contexts.checkerboard(4, 8)
    both = torch.stack(coded.gaussians)[:, 0]
    for part in both.chunk(TINY["slices"], dim=1):
        for positions in (board.anchors, board.others):
            yield part.flatten(2)[..., positions]


@pytest.mark.parametrize("row", [0, 2, 3])
@pytest.mark.parametrize("anchor", [True, False])
@pytest.mark.parametrize("index", range(TINY["slices"]))
def test_passes_depend_on_those_before_only(codec: MLICPlusPlus, index: int, anchor: bool, row: int) -> None:
    generator = torch.Generator().manual_seed(2)
    symbols = torch.randint(-9, 10, (1, TINY["M"], 4, 8), generator=generator).float()
    changed = symbols.clone()
    column = 4 + (row + anchor) % 2
    changed[0, index * CHANNELS + 3, row, column] += 40
    coded_in = 2 * index + (not anchor)
    before, after = (list(by_pass(code(codec, s))) for s in (symbols, changed))
    assert len(before) == 2 * TINY["slices"]
    for number, (a, b) in enumerate(zip(before, after, strict=True)):
        if number <= coded_in:
            assert torch.equal(a, b), f"pass {number} depends on pass {coded_in}"
        else:
            assert not torch.equal(a, b), f"pass {number} ignores pass {coded_in}"


def test_checkerboard_splits_the_grid() -> None:
    for h, w in ((1, 1), (1, 4), (3, 3), (4, 6)):
        board = contexts.checkerboard(h, w)
        assert all((p // w + p % w) % 2 == 1 for p in board.anchors.tolist())
        assert sorted([*board.anchors.tolist(), *board.others.tolist()]) == list(range(h * w))
        assert board.mask.flatten().nonzero().flatten().tolist() == board.anchors.tolist()
        grid = torch.rand(2, 3, h, w)
        parts = [contexts.scatter(contexts.gather(grid, p), p, h, w) for p in (board.anchors, board.others)]
        assert torch.equal(parts[0] + parts[1], grid)


def test_local_context_reads_the_anchors_of_its_window() -> None:
    torch.manual_seed(3)
    local = contexts.LocalContext(4)
    board = contexts.checkerboard(9, 9)
    anchors = (torch.randn(1, 4, 9, 9) * board.mask).requires_grad_()
    out = local(anchors, board)
    assert out.shape == (1, 8, 9, 9)
    assert not out[..., board.mask].any()
    (gradient,) = torch.autograd.grad(out[..., 4, 4].sum(), anchors)
    seen = gradient[0].abs().sum(0) > 0
    window = torch.zeros(9, 9, dtype=torch.bool)
    window[2:7, 2:7] = True
    assert not seen[~window].any()
    assert seen[window & board.mask].all()


def test_local_context_keeps_anchors_among_themselves() -> None:
    torch.manual_seed(8)
    local = contexts.LocalContext(4)
    board = contexts.checkerboard(6, 6)
    inside = (..., slice(2, 4), slice(2, 4))  # windows that the border does not cut; see test_contexts.py
    with torch.no_grad():
        local.fuse.weight[..., ~contexts.checkerboard(5, 5).mask] = 0  # only what anchors asked for counts
        anchors, elsewhere = torch.randn(2, 1, 4, 6, 6)
        found = [local(torch.where(board.mask, anchors, e), board)[inside] for e in (elsewhere, 3 - elsewhere)]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)
    assert not torch.allclose(found[0], local(anchors.flip(1), board)[inside], atol=1e-3)


def test_global_intra_asks_at_others_and_finds_at_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(9)
    intra = contexts.GlobalIntraContext(4)
    board = contexts.checkerboard(4, 6)
    with torch.no_grad():
        for projection in (intra.qk, intra.v):  # each position for itself
            projection[1].weight.zero_()[..., 1, 1] = 1
    attended: list[Tensor] = []
    attention = contexts.linear_attention

    def record(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        attended.extend((q, k, v))
        return attention(q, k, v, heads)

    monkeypatch.setattr(contexts, "linear_attention", record)
    previous, anchors = torch.randn(2, 1, 4, 4, 6).unbind(0)
    previous.requires_grad_()
    anchors.requires_grad_()
    assert intra(previous, anchors, board).shape == (1, 8, 4, 6)
    read = ((previous, board.others), (previous, board.anchors), (anchors, board.anchors))
    for tensor, (origin, positions) in zip(attended, read, strict=True):
        (gradient,) = torch.autograd.grad(tensor.sum(), origin, retain_graph=True)
        found = gradient.flatten(2).abs().sum((0, 1)).nonzero().flatten()
        assert found.tolist() == positions.tolist()


@torch.no_grad()
def test_residuals_are_small_and_of_their_own_pass(codec: MLICPlusPlus) -> None:
    symbols = torch.zeros(1, TINY["M"], 4, 8)
    coded = code(codec, symbols)
    residual = coded.y_hat - coded.gaussians.means
    assert 0 < residual.abs().max() <= 0.5
    mask = contexts.checkerboard(4, 8).mask
    last = codec.slices[-1]
    for net, touched in ((last.other_residual.net, ~mask), (last.anchor_residual.net, mask)):
        bias = net[-1].bias.clone()
        net[-1].bias += 0.1
        moved = code(codec, symbols).y_hat != coded.y_hat
        net[-1].bias.copy_(bias)
        assert not moved[:, :-CHANNELS].any()
        assert moved[:, -CHANNELS:, touched].all()
        if touched is not mask:
            assert not moved[:, -CHANNELS:, mask].any()


@torch.no_grad()
def test_residuals_are_predicted_from_hyper_means_and_all_that_is_decoded(codec: MLICPlusPlus) -> None:
    seen: list[Tensor] = []
    first = codec.slices[-1].other_residual.net[0]
    handle = first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    y_hat = code(codec, torch.ones(1, TINY["M"], 4, 8)).y_hat
    handle.remove()
    hyper_means, before, current = seen[0].split([TINY["M"], TINY["M"] - CHANNELS, CHANNELS], dim=1)
    assert torch.equal(hyper_means, codec.h_s(Z_HAT)[:, TINY["M"] :])
    assert torch.equal(before, y_hat[:, :-CHANNELS])
    mask = contexts.checkerboard(4, 8).mask
    assert torch.equal(current[..., mask], y_hat[:, -CHANNELS:, mask])  # anchors with their residual


def test_linear_attention_is_attention() -> None:
    q, k, v = torch.randn(3, 2, 6, 10, dtype=torch.float64)
    q = q[..., :7]
    found = contexts.linear_attention(q, k, v, heads=2)
    for head in (slice(0, 3), slice(3, 6)):
        weights = k[:, head].softmax(2).transpose(1, 2) @ q[:, head].softmax(1)  # (B, keys, queries)
        torch.testing.assert_close(found[:, head], v[:, head] @ weights)


# --- learning -----------------------------------------------------------------------------------------------


def test_thirty_steps_lower_the_loss() -> None:
    torch.manual_seed(4)
    model = MLICPlusPlus(**TINY).train()
    with torch.no_grad():
        model.h_a[-1].weight.mul_(50)  # or ẑ would be 0 at first, and h_s's first weights without a gradient
    parameters = module.trainable(model)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, 2e-3)
    objective = RateDistortion(0.01)
    losses: list[float] = []
    x = image(64, 64, batch=2)
    for _ in range(30):
        out = model(x)
        loss = objective.terms(x, out["x_hat"], out["likelihoods"].values()).loss
        loss.backward()
        for name, parameter in zip(names, parameters, strict=True):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert losses or parameter.grad.any(), name
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5]), losses


def test_bf16_keeps_the_entropy_model_in_float32() -> None:
    torch.manual_seed(5)
    model = MLICPlusPlus(**TINY).train()
    without_strided_pointwise(model)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    keep_entropy_in_float32(model)
    x = image(64, 128).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    assert all(t.dtype == torch.float32 for t in (out["x_hat"], *out["likelihoods"].values()))
    RateDistortion(0.01).terms(x, out["x_hat"], out["likelihoods"].values()).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.trainable(model))


# --- in the framework ---------------------------------------------------------------------------------------


def node(*overrides: str) -> model_file.Spec:
    resolvers.register_resolvers()
    with initialize_config_dir(str(settings.conf_dir()), version_base=None):
        cfg = compose("train", ["backbone=mlicpp", "source=hyperprior", *overrides])
    return settings.resolve(cfg).backbone


def test_configuration_gives_the_published_widths() -> None:
    paper = node("size=paper", "quality=2")
    assert paper.arguments == {"N": 192, "M": 320, "slices": 10, "heads": 2}


def test_exported_codec_codes_images_of_any_size(tmp_path: Path) -> None:
    torch.manual_seed(6)
    spec = node("size=tiny")
    path = tmp_path / "codec.safetensors"
    model_file.save_codec(path, model_file.build(spec, "backbone"), spec, {})
    pixels = np.random.default_rng(7).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = round_trip.evaluate_image(round_trip.Codec(model_file.load_codec(path)), "noise", pixels)
    assert (result.height, result.width) == (50, 70)
    assert result.bytes > 0
