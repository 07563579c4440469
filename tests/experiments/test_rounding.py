"""Rate and error as training sees them beside those of coding."""

import numpy as np
import pytest

import regicomp
from experiments.branches import rounding
from regicomp.data.photographs import photograph
from regicomp.image_codec.codec import to_tensor


def test_rounded_figures_are_those_of_the_codec_and_noise_is_of_the_seed() -> None:
    """On a crop whose sides are no multiple of the stride."""
    codec = regicomp.load()
    pixels = np.asarray(photograph("astronaut"))[:100, :72]
    x = to_tensor(pixels)
    noisy, rounded = rounding.both(codec, x, 3.0)
    x_hat, rate = codec.reconstruct(pixels, 3.0)
    assert rounded[0] == pytest.approx(rate, rel=1e-5)
    clamped = float(((x_hat - x) * 255).square().mean())
    assert clamped <= rounded[1] * 1.0001
    assert rounded[1] == pytest.approx(clamped, rel=0.1)
    assert rounding.both(codec, x, 3.0)[0] == noisy != rounding.both(codec, x, 3.0, seed=1)[0]
    assert noisy[0] > rounded[0]  # at a low rate most latents round to 0, and noise does not


def test_measured_points_become_gaps_and_bd_rates() -> None:
    """A codec that needs a tenth more bits with noise, and equally many rounded, has BD-rates of 10 and 0."""
    rows = []
    for name, more in (("plain_0", 1.0), ("paper_0", 1.1)):
        for level in range(1, 6):
            noisy, rounded = 0.3 * level * more, 0.2 * level
            rows.append(
                {
                    "codec": name,
                    "level": str(level),
                    "bpp, noise": f"{noisy}",
                    "squared error, noise": f"{220 / level}",
                    "bpp, rounding": f"{rounded}",
                    "squared error, rounding": f"{200 / level}",
                }
            )
    (saving,) = rounding.savings(rows)
    assert (saving["BD-rate with noise"], saving["BD-rate with rounding"]) == ("+10.00", "+0.00")
    rate, error = rounding.gaps(rows)[:2]
    assert rate["level 3"] == "+50.00"
    assert error["level 5"] == "+10.00"


def test_every_level_is_measured() -> None:
    """The means of the images' rates."""
    codec = regicomp.load()
    images = [to_tensor(np.asarray(photograph("astronaut"))[at : at + 64, :64]) for at in (0, 64)]
    found = rounding.measure("plain_0", [codec], images)
    assert [row["level"] for row in found] == list(range(1, (codec.levels or 0) + 1))
    rates = [rounding.both(codec, x, 1)[1][0] for x in images]
    assert float(found[0]["bpp, rounding"]) == pytest.approx(sum(rates) / 2, abs=1e-5)
