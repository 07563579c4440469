"""Errors in flat squares and elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import regicomp
from experiments import tables
from experiments.branches import flat

ELIC = Path(flat.__file__).parent / "elic"


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


def test_the_page_says_what_was_measured_and_the_readme_quotes_it() -> None:
    page = (ELIC / "flat.md").read_text()
    assert page == tables.markdown(tables.read_csv(ELIC / "flat.csv"))
    assert page in ELIC.with_name("README.md").read_text()
