"""Pixels to bytes to pixels with a tiny trained-by-chance codec."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from regicomp.data.testsets import TestImage, TestSet
from regicomp.evaluation import classical_codecs, round_trip
from regicomp.evaluation.round_trip import Codec
from regicomp.image_codec import model_file
from regicomp.image_codec.model_file import Loaded, Spec
from regicomp.objective import psnr
from regicomp.source.hyperprior import HyperpriorSource

SPEC = Spec("compressai.models.ScaleHyperprior", {"N": 12, "M": 16})


def _lively() -> nn.Module:
    """A codec whose latents are not all zero."""
    torch.manual_seed(0)
    codec = model_file.build(SPEC, "backbone")
    with torch.no_grad():
        codec.g_a[-1].weight.mul_(30)  # pyright: ignore
        codec.h_s[-2].bias.add_(2.0)  # pyright: ignore
    return codec


@pytest.fixture(scope="module")
def codec_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    model_file.save_codec(path, _lively(), SPEC, {"backbone": "hyperprior"})
    return path


@pytest.fixture(scope="module")
def codec(codec_file: Path) -> Codec:
    return Codec(model_file.load_codec(codec_file))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 33), (65, 127), (64, 64), (200, 170)])
def test_any_size_is_decoded_to_the_encoder_s_reconstruction(codec: Codec, width: int, height: int) -> None:
    pixels = picture(width, height)
    result = round_trip.evaluate_image(codec, "a", pixels, HyperpriorSource(width=8))
    assert (result.width, result.height) == (width, height)
    assert result.bpp == 8 * result.bytes / (width * height)
    decoded = codec.decode(codec.encode(pixels))
    assert decoded.shape == (1, 3, height, width)
    assert torch.equal(decoded, codec.reconstruct(pixels)[0])
    assert (result.ms_ssim is None) == (min(width, height) < 161)
    assert result.source_bpp is not None
    assert result.source_bpp > 0


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_random_sizes(codec: Codec, width: int, height: int, seed: int) -> None:
    round_trip.evaluate_image(codec, "a", picture(width, height, seed))  # raises if decoder and encoder differ


def test_a_codec_in_half_the_bytes_decodes_what_it_encodes(codec_file: Path, tmp_path: Path) -> None:
    whole = model_file.load_codec(codec_file)
    model_file.save_codec(tmp_path / "half.safetensors", whole.network, whole.spec, whole.run, half=True)
    half = model_file.load_codec(tmp_path / "half.safetensors")
    weights = sum(p.numel() for p in whole.network.parameters()) - sum(
        p.numel() for p in whole.network.entropy_bottleneck.parameters()
    )
    saved = codec_file.stat().st_size - (tmp_path / "half.safetensors").stat().st_size
    models = (whole.network.entropy_bottleneck, whole.network.gaussian_conditional)
    padding = sum(m._quantized_cdf.numel() - int(m._cdf_length.sum()) for m in models)
    assert saved == pytest.approx(2 * weights + 4 * padding, abs=0.02 * 2 * weights)
    assert all(p.dtype == torch.float32 for p in half.network.parameters())
    before, after = (round_trip.evaluate_image(Codec(c), "a", picture(96, 80)) for c in (whole, half))
    assert after.psnr_db == pytest.approx(before.psnr_db, abs=0.1)
    assert after.bytes == pytest.approx(before.bytes, rel=0.02)
    whole.network.g_a[0].bias.data[0] = 1e6
    with pytest.raises(ValueError, match="do not fit into float16"):
        model_file.save_codec(tmp_path / "half.safetensors", whole.network, whole.spec, whole.run, half=True)


def test_real_bytes_match_the_estimate(codec: Codec) -> None:
    result = round_trip.evaluate_image(codec, "a", picture(512, 384))
    assert result.bpp_estimated is not None
    assert result.bytes > 1000  # the latents are not empty
    headers = 8 * 64 / (512 * 384)
    assert abs(result.bpp - result.bpp_estimated) < 0.02 * result.bpp_estimated + headers


def test_a_decoder_that_lost_step_is_an_error(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = codec.decode
    monkeypatch.setattr(codec, "decode", lambda data: 1 - decode(data))
    with pytest.raises(RuntimeError, match="differs from the encoder's reconstruction"):
        round_trip.evaluate_image(codec, "a", picture(64, 64))


@pytest.mark.parametrize("tile", [None, 256])
def test_each_transform_is_computed_once_an_image(codec_file: Path, tile: int | None) -> None:
    """The encoder's reconstruction takes y from the encoder and x̂ from the decoder; the numbers do not change."""
    codec = Codec(model_file.load_codec(codec_file), tile=tile)
    small, pixels = picture(64, 64), picture(320, 280)
    codec.decode(codec.encode(small if tile is None else pixels))  # learns the codec's layout and reach
    seen: list[nn.Module] = []

    def note(module: nn.Module, args: tuple[torch.Tensor], _: torch.Tensor) -> None:
        if args[0].shape[-1] != codec.stride:  # the size of a cell is asked of an image of one stride
            seen.append(module)

    for part in (codec.network.g_a, codec.network.g_s):
        part[0].register_forward_hook(note)
    result = round_trip.evaluate_image(codec, "a", pixels)
    tiles = 1 if tile is None else 4
    assert [seen.count(part[0]) for part in (codec.network.g_a, codec.network.g_s)] == [tiles, tiles]
    expected, estimated = codec.reconstruct(pixels)
    assert len(seen) == 4 * tiles  # computed again outside
    assert result.bpp_estimated == estimated
    assert result.psnr_db == psnr.psnr_of(pixels, round_trip.to_pixels(expected))


def test_a_latent_is_walked_by_encoder_and_decoder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = model_file.build(Spec("regicomp.backbone.elic.Elic", {"N": 8, "M": 8, "groups": [2, 2, 4]}), "backbone")
    network.update(force=True)  # pyright: ignore
    codec = Codec(Loaded(network.eval(), Spec("", {}), {}, bytes(32)))
    codec.encode(picture(64, 64))  # learns the codec's layout
    walk, walked = network.walk, []  # pyright: ignore
    monkeypatch.setattr(network, "walk", lambda *given: walked.append(1) or walk(*given))
    result = round_trip.evaluate_image(codec, "a", picture(80, 70))
    assert len(walked) == 2
    assert result.bpp_estimated == codec.reconstruct(picture(80, 70))[1]
    assert len(walked) == 3


def test_a_decoder_of_another_latent_is_an_error(codec_file: Path) -> None:
    codec = Codec(model_file.load_codec(codec_file))
    decompress = codec.network.decompress

    def off_by_a_bit(strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, torch.Tensor]:
        given = codec.network.g_s.forward
        codec.network.g_s.forward = lambda y_hat: given(y_hat + 1)
        try:
            return decompress(strings, shape)
        finally:
            codec.network.g_s.forward = given

    codec.network.decompress = off_by_a_bit
    with pytest.raises(RuntimeError, match="differs from the encoder's reconstruction"):
        round_trip.evaluate_image(codec, "a", picture(64, 64))


def test_psnr_is_of_the_rounded_image(codec: Codec) -> None:
    pixels = picture(80, 72)
    result = round_trip.evaluate_image(codec, "a", pixels)
    x_hat = np.clip(np.round(codec.reconstruct(pixels)[0][0].permute(1, 2, 0).double().numpy() * 255), 0, 255)
    error = float(np.mean((pixels.astype(float) - x_hat) ** 2))
    assert math.isclose(result.psnr_db, 10 * math.log10(255**2 / error), abs_tol=1e-9)
    assert psnr.psnr_db(0.0) == 100.0


def test_averages_are_per_image(codec: Codec) -> None:
    small, large = picture(70, 70, 1), picture(200, 180, 2)
    images = [TestImage("small", lambda: small), TestImage("large", lambda: large)]
    entry = round_trip.evaluate(codec, TestSet("two", images))
    rows = entry["images"]
    assert [row["name"] for row in rows] == ["small", "large"]
    assert entry["bpp"] == pytest.approx((rows[0]["bpp"] + rows[1]["bpp"]) / 2)
    assert entry["ms_ssim"] == rows[1]["ms_ssim"]  # the small one has none
    assert entry["source_bpp"] is None


def test_loading_gives_the_exported_codec(codec: Codec, codec_file: Path) -> None:
    again = Codec(model_file.load_codec(codec_file))
    pixels = picture(100, 50)
    assert again.fingerprint == codec.fingerprint
    assert again.encode(pixels) == codec.encode(pixels)


def test_another_codec_s_bytes_are_refused(codec: Codec, tmp_path: Path) -> None:
    torch.manual_seed(9)
    model_file.save_codec(tmp_path / "other.safetensors", model_file.build(SPEC, "backbone"), SPEC, {})
    other = Codec(model_file.load_codec(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="not by this one"):
        other.decode(codec.encode(picture(64, 64)))


def test_the_exported_codec_is_the_backbone_alone(codec_file: Path) -> None:
    from compressai.models import ScaleHyperprior

    assert set(load_file(codec_file)) == set(ScaleHyperprior(12, 16).state_dict())


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "source"])
def test_a_file_that_is_no_codec_is_refused(codec_file: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "codec.safetensors"
    if damage == "cut":
        path.write_bytes(codec_file.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "source":
        model_file.save_source(
            path, HyperpriorSource(width=8), Spec("regicomp.source.hyperprior.HyperpriorSource", {}), {}
        )
    with pytest.raises(ValueError, match=r"codec\.safetensors"):
        model_file.load_codec(path)


def test_a_file_cannot_name_a_class_to_run(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    model_file._write(
        path, _lively(), Spec("subprocess.Popen", {"args": ["touch", str(tmp_path / "owned")]}), "codec", {}
    )
    with pytest.raises(ValueError, match=r"names the class 'subprocess\.Popen'"):
        model_file.load_codec(path)
    assert not (tmp_path / "owned").exists()


def test_initialization_takes_the_weights_and_checks_them(codec_file: Path, tmp_path: Path) -> None:
    codec = model_file.build(SPEC, "backbone")
    model_file.initialize(codec, codec_file)
    for name, value in _lively().state_dict().items():
        if "quantiles" not in name:  # solved for at export
            assert torch.equal(codec.state_dict()[name], value), name
    larger = model_file.build(Spec(SPEC.target, {"N": 16, "M": 16}), "backbone")
    with pytest.raises(ValueError, match="`init_from`"):
        model_file.initialize(larger, codec_file)


def test_anchors_lie_on_a_rising_curve() -> None:
    pixels = picture(170, 180)
    testset = TestSet("one", [TestImage("a", lambda: pixels)])
    for codec in classical_codecs.QUICK:
        points = classical_codecs.curve(codec, testset)
        rates = [p["bpp"] for p in points]
        assert rates == sorted(rates)
        assert points[-1]["psnr_db"] > points[0]["psnr_db"] + 3
        middle = classical_codecs.psnr_at(points, (rates[0] * rates[-1]) ** 0.5)
        assert middle is not None
        assert points[0]["psnr_db"] <= middle <= points[-1]["psnr_db"]
        assert classical_codecs.psnr_at(points, rates[0] / 2) is None
