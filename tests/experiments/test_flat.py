"""Errors in flat squares and elsewhere."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import regicomp
from experiments import tables
from experiments.branches import flat
from regicomp.image_codec.codec import to_tensor
from regicomp.source.hyperprior import HyperpriorSource

FOLDERS = [Path(flat.__file__).parent / name for name in ("elic", "fixed")]


def test_a_square_is_flat_if_none_of_its_colours_changes() -> None:
    pixels = np.full((32, 48, 3), 200, dtype=np.uint8)
    assert flat.flat(pixels).shape == (2, 3)
    assert flat.flat(pixels).all()
    pixels[20, 40, 1] = 0  # in one pixel and one colour
    assert np.argwhere(~flat.flat(pixels)).tolist() == [[1, 2]]


def test_a_ramp_is_flat_and_is_not_constant() -> None:
    ramp = flat.ramp()
    assert flat.flat(ramp).all()
    assert len(np.unique(ramp.reshape(-1, 3), axis=0)) > 100


def test_flat_squares_and_the_others_are_told_apart() -> None:
    """An image of one kind of square has the error of the whole image there, and none elsewhere."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    codec = regicomp.load()
    row = flat.measure("shipped", codec, [flat.ramp(), noise])
    expected = [flat.psnr(flat.squared_errors(codec, pixels)) for pixels in (flat.ramp(), noise, flat.ramp())]
    assert [float(row[key]) for key in row if "dB" in key] == pytest.approx(expected, abs=0.006)


def test_smoothing_leaves_nothing_of_a_lattice() -> None:
    """Whatever its form, if its period is 16 pixels; the mean stays."""
    lattice = np.tile(np.random.default_rng(0).normal(size=(16, 16, 3)), (8, 8, 1))
    inside = flat.smoothed(100 + lattice)[16:-16, 16:-16]
    assert np.ptp(inside, axis=(0, 1)) == pytest.approx(0, abs=1e-9)
    assert inside[0, 0] == pytest.approx(100 + lattice.mean(axis=(0, 1)))


class _Lattice:
    """A codec of one quality that lays dots over what it is given."""

    levels = None

    def reconstruct(self, pixels: flat.Pixels, quality: float | None = None) -> tuple[torch.Tensor, float]:
        assert quality is None  # as regicomp.image_codec has it of such codecs
        dots = torch.zeros(pixels.shape[:2])
        dots[::4, ::4] = 100 / 255
        return (to_tensor(pixels) - dots).clamp(0, 1), 0.0


def test_a_q_that_expects_what_it_sees_pays_for_a_lattice() -> None:
    """And not where it is smoothed away; untrained, q_θ expects x̂ itself."""
    source = HyperpriorSource(width=8, initial_scale=5.0).eval()
    codec: Any = _Lattice()
    row = flat.paid("lattice", codec, source)
    with torch.no_grad():
        bits = source.bits(to_tensor(flat.ramp()), codec.reconstruct(flat.ramp())[0])
    assert float(row["as it is"]) == pytest.approx(3 * float(bits.mean()), abs=0.02)
    assert float(row["as it is"]) > 1.1 * float(row["smoothed"])


def test_the_page_says_what_was_measured_and_the_readme_quotes_it() -> None:
    for folder, name in itertools.product(FOLDERS, ("flat", "paid")):
        page = (folder / f"{name}.md").read_text()
        assert page == tables.markdown(tables.read_csv(folder / f"{name}.csv"))
        assert page in folder.with_name("README.md").read_text()
