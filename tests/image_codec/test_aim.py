"""A codec of variable rate meets an aim, and says what it reaches where it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import picture as draw
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_codec import toy

import regicomp
from regicomp.image_codec import aim, container, picture
from regicomp.image_codec.codec import Codec, to_pixels

GOLDEN = Path(__file__).parents[1] / "golden"
PIXELS = draw(96, 80, 3)
CODEC = toy()


def _psnr(pixels: np.ndarray, back: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((pixels.astype(float) - back) ** 2)))


def _coded(quality: float) -> tuple[int, float]:
    """Bytes and dB of a file at a quality; what is decoded is the encoder's own reconstruction."""
    data = CODEC.encode(PIXELS, quality)
    back = to_pixels(CODEC.decode(data))
    assert np.array_equal(back, to_pixels(CODEC.reconstruct(PIXELS, quality)[0]))
    return len(data), _psnr(PIXELS, back)


@given(st.floats(1, 6), st.floats(1, 6))
@settings(max_examples=6, deadline=None)
def test_bytes_and_decibels_rise_with_quality(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if high - low > 0.3:
        (few, poor), (many, good) = _coded(low), _coded(high)
        assert few < many
        assert poor < good


@pytest.mark.parametrize("quality", [1, 2.5, 6])
def test_bytes_are_the_estimate_at_every_quality(quality: float) -> None:
    codec = toy(scale=30.0)  # where symbols lie inside the tables: an outlier's likelihood is bounded, its bits are not
    streams = container.unpack(codec.encode(PIXELS, quality)).streams
    estimated = codec.reconstruct(PIXELS, quality)[1]
    assert 8 * sum(map(len, streams)) / (96 * 80) == pytest.approx(estimated, rel=0.02)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.97, 1.0])
def test_bits_are_met_within_two_percent_in_eight_encodings(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = (len(CODEC.encode(PIXELS, q)) for q in (1, 6))
    calls: list[float] = []
    encode = Codec._encode
    monkeypatch.setattr(Codec, "_encode", lambda self, x, q, *rest: calls.append(q) or encode(self, x, q, *rest))
    wanted = 8 * (low * (high / low) ** share) / (96 * 80)
    data = aim.compress(CODEC, picture.from_array(PIXELS, 10**6), aim.Aim(bpp=wanted))
    assert 8 * len(data) / (96 * 80) == pytest.approx(wanted, rel=0.02)
    assert len(calls) <= aim.MOST_TRIES


def test_decibels_and_most_bytes_are_met() -> None:
    given_ = picture.from_array(PIXELS, 10**6)
    low, high = (_psnr(PIXELS, to_pixels(CODEC.decode(CODEC.encode(PIXELS, q)))) for q in (1, 6))
    wanted = 0.4 * low + 0.6 * high
    data = aim.compress(CODEC, given_, aim.Aim(psnr_db=wanted))
    assert _psnr(PIXELS, to_pixels(CODEC.decode(data))) == pytest.approx(wanted, abs=0.1)
    most = len(CODEC.encode(PIXELS, 3.3))
    data = aim.compress(CODEC, given_, aim.Aim(max_bytes=most))
    assert 0.98 * most <= len(data) <= most
    assert len(aim.compress(CODEC, given_, aim.Aim(max_bytes=10**6))) == len(CODEC.encode(PIXELS, 6))


@pytest.mark.parametrize("wanted", [aim.Aim(bpp=0.001), aim.Aim(bpp=100), aim.Aim(psnr_db=90), aim.Aim(max_bytes=20)])
def test_an_aim_out_of_reach_names_the_range(wanted: aim.Aim) -> None:
    with pytest.raises(ValueError, match=r"must be within what this codec reaches on this picture, [\d.]+ to [\d.]+"):
        aim.compress(CODEC, picture.from_array(PIXELS, 10**6), wanted)


def test_a_codec_of_one_quality_takes_no_aim() -> None:
    codec = regicomp.load(GOLDEN / "codec.safetensors")
    given_ = picture.from_array(PIXELS, 10**6)
    assert aim.compress(codec, given_, aim.Aim()) == codec.compress(given_)
    for wanted in (aim.Aim(bpp=0.3), aim.Aim(quality=2.0)):
        with pytest.raises(ValueError, match="this codec has one quality only"):
            aim.compress(codec, given_, wanted)


@pytest.mark.parametrize("quality", [0.99, 6.01, float("nan"), True])
def test_a_quality_out_of_range_is_refused(quality: float) -> None:
    with pytest.raises(ValueError, match="must be a number from 1 to 6"):
        CODEC.encode(PIXELS, quality)


def test_a_file_holds_its_quality() -> None:
    golden = regicomp.load(GOLDEN / "codec_levels.safetensors")
    assert golden.levels == 3
    assert container.unpack(golden.encode(PIXELS, 1.2345)).quality in (1234, 1235)
    assert container.unpack(golden.encode(PIXELS)).quality == 2000
    with pytest.raises(ValueError, match=r"not by this one"):
        regicomp.load(GOLDEN / "codec.safetensors").decode(golden.encode(PIXELS, 2))
