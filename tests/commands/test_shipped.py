"""The codec that comes with regicomp: at hand, small enough, and what its record says."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

import regicomp
from regicomp import codec
from regicomp.data import testsets
from regicomp.evaluation import record, round_trip
from regicomp.evaluation.metrics import psnr_of
from regicomp.image_codec import container, model_file, picture
from regicomp.image_codec.codec import to_pixels

HERE = regicomp.SHIPPED.parent


@pytest.fixture(scope="module")
def photo() -> testsets.TestImage:
    return testsets.find(["photos"], ".", [])[0].images[0]


@functools.cache
def _part() -> tuple[round_trip.Codec, np.ndarray]:
    """The codec, and a part of a photograph."""
    pixels = testsets.find(["photos"], ".", [])[0].images[2].load()[100:260, 200:392]
    return round_trip.Codec(model_file.load_codec(regicomp.SHIPPED)), pixels


def _coded(quality: float) -> tuple[int, float]:
    """Bytes and dB of a file at a quality; it decodes to the encoder's reconstruction."""
    shipped, pixels = _part()
    data = shipped.encode(pixels, quality)
    back = to_pixels(shipped.decode(data))
    assert np.array_equal(back, to_pixels(shipped.reconstruct(pixels, quality)[0]))
    return len(data), psnr_of(pixels, back)


def test_there_and_back_without_a_model(photo: testsets.TestImage, tmp_path: Path) -> None:
    Image.fromarray(photo.load()).save(tmp_path / "photo.png")
    codec.main(["encode", str(tmp_path / "photo.png"), str(tmp_path / "photo.rgc")])
    codec.main(["decode", str(tmp_path / "photo.rgc"), str(tmp_path / "back.png")])
    decoded = picture.read(tmp_path / "back.png").pixels
    assert np.array_equal(decoded, regicomp.load().decompress((tmp_path / "photo.rgc").read_bytes()))


def test_it_spends_less_than_jpeg(photo: testsets.TestImage) -> None:
    pixels = photo.load()
    row = round_trip.measure(round_trip.Codec(model_file.load_codec(regicomp.SHIPPED)), photo)
    sizes: list[int] = []
    for quality in range(1, 96):
        made = io.BytesIO()
        Image.fromarray(pixels).save(made, "JPEG", quality=quality, optimize=True)
        error = np.mean((np.asarray(Image.open(made), float) - pixels) ** 2)
        if 10 * np.log10(255**2 / error) >= row.psnr_db:
            sizes.append(made.getbuffer().nbytes)
    assert row.bytes < min(sizes)


@pytest.mark.parametrize("quality", [1, 2.5, 6])
def test_bytes_are_within_two_percent_of_the_estimate(photo: testsets.TestImage, quality: float) -> None:
    pixels = photo.load()
    shipped = round_trip.Codec(model_file.load_codec(regicomp.SHIPPED))
    data = shipped.encode(pixels, quality)
    expected, estimated_bpp = shipped.reconstruct(pixels, quality)
    assert np.array_equal(to_pixels(shipped.decode(data)), to_pixels(expected))
    payload = sum(map(len, container.unpack(data).streams))
    assert 8 * payload / (pixels.shape[0] * pixels.shape[1]) == pytest.approx(estimated_bpp, rel=0.02)


@given(st.floats(1, 6), st.floats(1, 6))
@settings(max_examples=8, deadline=None)
def test_bytes_and_decibels_rise_with_quality(one: float, other: float) -> None:
    """Between any two qualities at least 0.05 apart: one byte more, and at most a hundredth of a decibel less."""
    low, high = sorted((one, other))
    if high - low < 0.05:
        return
    (few, poor), (many, good) = _coded(low), _coded(high)
    assert few < many
    assert poor - 0.01 < good


def test_its_record_is_its_own() -> None:
    loaded = model_file.load_codec(regicomp.SHIPPED)
    known, training = record.read(HERE / "results.json"), OmegaConf.load(HERE / "training.yaml")
    assert known["run"]["parameters"] == sum(p.numel() for p in loaded.network.parameters())
    assert (known["run"]["alpha"], known["run"]["steps"]) == (training.reg.alpha, training.trainer.max_steps)
    assert regicomp.SHIPPED.stat().st_size <= 10_000_000
