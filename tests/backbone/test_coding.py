"""The five backbones' coding: what is decoded is what the encoder's evaluation shows, whatever runs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import compressai.models
import numpy as np
import pytest
import torch
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from regicomp.backbone.autoregressive import Attention, Autoregressive, fronts
from regicomp.backbone.elic import Elic
from regicomp.backbone.fast_layers import QuickDeconvolution, QuickGDN
from regicomp.backbone.hyperprior import Hyperprior
from regicomp.backbone.latent_coding import Pass
from regicomp.backbone.mlicpp import MLICPlusPlus
from regicomp.backbone.precision import transforms_in
from regicomp.data import images
from regicomp.entropy_coding import symbol_streams
from regicomp.evaluation import round_trip
from regicomp.image_codec.model_file import Loaded, Spec

TINY: dict[str, tuple[type, dict[str, Any]]] = {
    "hyperprior": (Hyperprior, {"N": 12, "M": 16}),
    "autoregressive": (Autoregressive, {"N": 12, "M": 16}),
    "attention": (Attention, {"N": 12}),
    "elic": (Elic, {"N": 16, "M": 20, "groups": [2, 2, 4, 4, 8]}),
    "mlicpp": (MLICPlusPlus, {"N": 16, "M": 24, "slices": 3}),
}
THEIRS: dict[str, type] = {
    "hyperprior": compressai.models.ScaleHyperprior,
    "autoregressive": compressai.models.JointAutoregressiveHierarchicalPriors,
    "attention": compressai.models.Cheng2020Attention,
    "elic": compressai.models.Elic2022Official,
}
NAMES = list(TINY)


def image(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, height, width) in [0, 1]."""
    return round_trip.to_tensor(picture(width, height, seed))


def lively(name: str) -> Any:
    """A tiny codec whose latents are some steps wide and not all alike, as far as its random weights allow."""
    torch.manual_seed(3)
    cls, arguments = TINY[name]
    network = cls(**arguments).eval()
    with torch.no_grad():
        last = [m for m in network.g_a if isinstance(m, nn.Conv2d)][-1]
        last.weight.mul_(4 / network.g_a(image(64, 128)).std())
        if name in ("autoregressive", "attention"):
            network.entropy_parameters[-1].bias[: network.M] = 3
            network.context_prediction.weight.mul_(4)
            network.entropy_parameters[0].weight.mul_(4)
    network.update(force=True, update_quantiles=True)
    return network


@pytest.fixture(scope="module")
def codecs() -> dict[str, Any]:
    return {name: lively(name) for name in NAMES}


def size(coded: dict[str, Any]) -> int:
    return sum(len(string) for strings in coded["strings"] for string in strings)


# --- encoder, decoder, evaluation ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 192), (128, 64)])
@torch.no_grad()
def test_the_decoder_makes_the_very_latent_and_picture_of_the_encoder(
    codecs: dict[str, Any], name: str, height: int, width: int
) -> None:
    codec, x = codecs[name], image(height, width)
    coded = codec.compress(x)
    assert set(coded) >= {"strings", "shape"}
    decoded = codec.decompress(coded["strings"], list(coded["shape"]))
    assert torch.equal(decoded["y_hat"], coded["y_hat"])
    # The very bits, so that a checksum of the latent may be compared: a zero has one sign.
    assert decoded["y_hat"].numpy().tobytes() == coded["y_hat"].contiguous().numpy().tobytes()
    assert torch.equal(decoded["x_hat"], codec(x)["x_hat"].clamp(0, 1))
    assert coded["y_hat"].std() > 1


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_bytes_are_what_the_likelihoods_say(codecs: dict[str, Any], name: str) -> None:
    codec, x = codecs[name], image(128, 128)
    likelihoods = codec(x)["likelihoods"]
    for part, strings in zip("yz", codec.compress(x)["strings"], strict=True):
        # Likelihoods are floored at 1e-9, while the coder spends what a far symbol needs.
        if (likelihoods[part] < 1e-6).any():
            continue
        estimated = float(-torch.log2(likelihoods[part]).sum()) / 8
        assert abs(len(strings[0]) - estimated) <= 0.02 * estimated + 16


@pytest.mark.parametrize("name", ["autoregressive", "attention", "elic"])
@torch.no_grad()
def test_a_batch_is_its_images(codecs: dict[str, Any], name: str) -> None:
    codec, x = codecs[name], torch.cat([image(64, 128), image(64, 128, seed=1)])
    both = codec(x)
    for k in range(2):
        alone = codec(x[k : k + 1])
        assert torch.equal(both["x_hat"][k : k + 1], alone["x_hat"])
        for part in "yz":
            assert torch.equal(both["likelihoods"][part][k : k + 1], alone["likelihoods"][part])
    with pytest.raises(ValueError, match="must be one image"):
        codec.compress(x)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_threads_do_not_change_what_is_decoded(codecs: dict[str, Any], name: str) -> None:
    codec, x = codecs[name], image(64, 128)
    coded = codec.compress(x)
    expected = codec.decompress(coded["strings"], coded["shape"])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        again = codec.compress(x)
        found = codec.decompress(coded["strings"], coded["shape"])
    finally:
        torch.set_num_threads(threads)
    assert again["strings"] == coded["strings"]
    assert torch.equal(found["y_hat"], expected["y_hat"])
    assert np.array_equal(round_trip.to_pixels(found["x_hat"]), round_trip.to_pixels(expected["x_hat"]))


# --- against CompressAI -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THEIRS)
@torch.no_grad()
def test_streams_are_as_long_as_compressai_s_and_decode_to_the_same_picture(codecs: dict[str, Any], name: str) -> None:
    ours, theirs = codecs[name], THEIRS[name](**TINY[name][1]).eval()
    theirs.load_state_dict(ours.state_dict())
    assert list(theirs.state_dict()) == list(ours.state_dict())
    x = image(128, 192)
    mine, its = ours.compress(x), theirs.compress(x)
    count = sum(len(s) for s in its["strings"])
    # Each stream ends with the coder's state: ELIC has eleven of them there, two here.
    assert abs(size(mine) - size(its)) <= 0.001 * size(its) + 8 * (count - 2)
    found = ours.decompress(mine["strings"], mine["shape"])["x_hat"]
    expected = theirs.decompress(its["strings"], its["shape"])["x_hat"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", THEIRS)
def test_initial_weights_and_training_are_compressai_s(name: str) -> None:
    built = []
    for cls in (TINY[name][0], THEIRS[name]):
        torch.manual_seed(0)
        built.append(cls(**TINY[name][1]))
    states = [network.state_dict() for network in built]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    outs = []
    for network in built:
        torch.manual_seed(1)
        out = network(image(64, 64))
        out["x_hat"].sum().backward()
        outs.append((out["x_hat"], out["likelihoods"]["y"]))
    assert torch.equal(outs[0][0], outs[1][0])
    assert torch.equal(outs[0][1], outs[1][1])
    gradients = [[p.grad for p in network.parameters() if p.grad is not None] for network in built]
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@given(st.integers(1, 20), st.integers(1, 20))
def test_fronts_visit_each_position_once_after_its_context(h: int, w: int) -> None:
    visited = fronts(h, w)
    assert len(visited) == w + 3 * (h - 1)
    known: set[tuple[int, int]] = set()
    for front in visited:
        now = {divmod(p, w) for p in front.tolist()}
        for row, column in now:
            context = {(row - r, column + c) for r in (1, 2) for c in range(-2, 3)} | {
                (row, column - c) for c in (1, 2)
            }
            assert {(r, c) for r, c in context if r >= 0 and 0 <= c < w} <= known
        assert not now & known
        known |= now
    assert len(known) == h * w


def test_a_kodak_image_takes_141_rounds() -> None:
    assert len(fronts(512 // 16, 768 // 16)) == 141


@pytest.mark.parametrize("name", ["autoregressive", "attention"])
@torch.no_grad()
def test_a_front_predicts_what_position_after_position_would(codecs: dict[str, Any], name: str) -> None:
    codec = codecs[name]
    z_hat = torch.linspace(-2, 2, codec.N * 6).reshape(1, -1, 2, 3)
    h, w = 8, 12
    symbols = torch.randint(-5, 6, (h * w, codec.M), generator=torch.Generator().manual_seed(0)).float()
    scales, means = torch.empty(2, h * w, codec.M)

    def quantize(current: Pass) -> Tensor:
        scales[current.positions], means[current.positions] = current.scales, current.means
        return symbols[current.positions] + current.means

    y_hat = codec.walk(z_hat, quantize)
    params = codec.h_s(z_hat)
    weight = codec.context_prediction.weight * codec.context_prediction.mask
    padded = F.pad(torch.zeros_like(y_hat), (2,) * 4)
    for row in range(h):
        for column in range(w):
            context = F.conv2d(padded[:, :, row : row + 5, column : column + 5], weight, codec.context_prediction.bias)
            here = torch.cat([params[:, :, row : row + 1, column : column + 1], context], dim=1)
            scale, mean = codec.entropy_parameters(here).flatten().chunk(2)
            position = row * w + column
            # float32, sums in another order
            torch.testing.assert_close(scales[position], scale, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(means[position], mean, rtol=1e-5, atol=1e-5)
            padded[0, :, row + 2, column + 2] = symbols[position] + means[position]
    torch.testing.assert_close(y_hat, padded[:, :, 2:-2, 2:-2], rtol=0, atol=0)
    assert means.std() > 0.1


# --- layers and the range coder -----------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_quick_gdn_is_gdn(inverse: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    quick = QuickGDN(6, inverse=inverse)
    quick.gamma.add_(torch.rand(6, 6) * 0.3)
    x = torch.randn(2, 6, 37, 41)
    kept = x.clone()
    expected = super(QuickGDN, quick).forward(x)
    found = quick(x.contiguous(memory_format=layout))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(x, kept)


@torch.no_grad()
def test_quick_deconvolution_is_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    quick = QuickDeconvolution(5, 3, 5, stride=2, padding=2, output_padding=1)
    x = torch.randn(2, 5, 7, 9)
    expected = F.conv_transpose2d(x, quick.weight, quick.bias, 2, 2, 1)
    torch.testing.assert_close(quick(x), expected, rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(0.01, 400), min_size=1, max_size=50))
def test_scale_indexes_are_compressai_s(codecs_hyper: Any, scales: list[float]) -> None:
    model = codecs_hyper.gaussian_conditional
    values = torch.tensor([*scales, *model.scale_table.tolist(), 0.11])
    assert torch.equal(symbol_streams.scale_indexes(model, values), model.build_indexes(values).long())


@pytest.fixture(scope="module")
def codecs_hyper(codecs: dict[str, Any]) -> Any:
    return codecs["hyperprior"]


@settings(max_examples=30)
@given(st.data())
def test_symbols_come_back_from_bytes_that_are_compressai_s(codecs_hyper: Any, data: st.DataObject) -> None:
    model = codecs_hyper.gaussian_conditional
    count = data.draw(st.integers(4, 40))
    symbols = torch.tensor(data.draw(st.lists(st.integers(-3000, 3000), min_size=count, max_size=count)))
    indexes = torch.tensor(data.draw(st.lists(st.integers(0, 63), min_size=count, max_size=count)))
    encoded = symbol_streams.encode([(model, symbols, indexes)])
    (expected,) = model.compress(symbols[None, None].float(), indexes[None, None].int())
    assert encoded == expected
    decoder = symbol_streams.Decoder(encoded)
    cut = data.draw(st.integers(0, count))
    found = torch.cat([decoder.take(model, indexes[:cut]), decoder.take(model, indexes[cut:])])
    assert torch.equal(found, symbols.float())


def test_too_few_symbols_are_refused(codecs_hyper: Any) -> None:
    with pytest.raises(ValueError, match="3 symbols is too short"):
        symbol_streams.encode([(codecs_hyper.gaussian_conditional, torch.zeros(3), torch.zeros(3).long())])


def test_tables_follow_the_model() -> None:
    model = lively("hyperprior").gaussian_conditional
    before = symbol_streams.tables(model)
    assert symbol_streams.tables(model) is before
    model.update_scale_table([0.5, 1.0, 2.0], force=True)
    assert len(symbol_streams.tables(model).lengths) == 3


def test_bad_inputs_are_named(codecs: dict[str, Any]) -> None:
    codec = codecs["autoregressive"]
    with pytest.raises(ValueError, match="64 divides"):
        codec.compress(torch.zeros(1, 3, 64, 96))
    with pytest.raises(ValueError, match="must be one image's"):
        codec.decompress([[b""]], [1, 1])
    with pytest.raises(ValueError, match="of 3 bytes is cut"):
        codec.decompress([[b"abc"], [b"abc"]], [1, 1])
    with pytest.raises(ValueError, match=r"call `update\(\)`"):
        Autoregressive(12, 16).eval().compress(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="small numbers"):
        codec.compress(torch.full((1, 3, 64, 64), float("nan")))
    with pytest.raises(ValueError, match=r"`groups` \(=\[1, 2\]\) must sum to `M` \(=20\)"):
        Elic(8, 20, [1, 2])


# --- precision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_transforms_in_bf16_leave_the_entropy_model_alone(codecs: dict[str, Any], name: str) -> None:
    codec, x = codecs[name], image(64, 128)
    coded = codec.compress(x)
    expected = codec.decompress(coded["strings"], coded["shape"])
    with transforms_in(codec, "bf16"):
        found = codec.decompress(coded["strings"], coded["shape"])
        own = codec.compress(x)
        decoded = codec.decompress(own["strings"], own["shape"])
        assert torch.equal(decoded["x_hat"], codec(x)["x_hat"].clamp(0, 1))
    assert torch.equal(found["y_hat"], expected["y_hat"])
    assert found["x_hat"].dtype == torch.float32
    assert not torch.equal(found["x_hat"], expected["x_hat"])
    torch.testing.assert_close(found["x_hat"], expected["x_hat"], rtol=0, atol=0.05)
    assert torch.equal(codec.decompress(coded["strings"], coded["shape"])["x_hat"], expected["x_hat"])


def test_bad_precisions_are_named(codecs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`precision` \(=fp8\) must be"), transforms_in(codecs["elic"], "fp8"):
        pass
    with pytest.raises(ValueError, match="needs a codec with g_a and g_s"), transforms_in(nn.Conv2d(3, 3, 1), "bf16"):
        pass


# --- many images --------------------------------------------------------------------------------------------


def _agree(codec: round_trip.Codec, pixels: np.ndarray) -> None:
    assert torch.equal(codec.decode(codec.encode(pixels)), codec.reconstruct(pixels)[0])


def _as_codec(name: str, codecs: dict[str, Any]) -> round_trip.Codec:
    return round_trip.Codec(Loaded(codecs[name], Spec("", {}), {}, bytes(32)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_200_random_sizes(codecs: dict[str, Any], name: str) -> None:
    codec, rng = _as_codec(name, codecs), np.random.default_rng(0)
    sizes = [(1, 1), (1, 300), (300, 1), (300, 300), *rng.integers(1, 301, (196, 2)).tolist()]
    for k, (width, height) in enumerate(sizes):
        _agree(codec, picture(width, height, k))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_24_kodak_images(codecs: dict[str, Any], name: str) -> None:
    folder = Path(os.environ.get("REGICOMP_DATA", "data")) / "kodak"
    if not folder.is_dir():
        pytest.skip("set REGICOMP_DATA to the folder that holds kodak/")
    paths = images.find(folder)
    assert len(paths) == 24
    codec = _as_codec(name, codecs)
    for path in paths:
        _agree(codec, images.read(path))
