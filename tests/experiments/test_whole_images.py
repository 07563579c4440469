"""Bits of whole images against those of crops of them."""

from __future__ import annotations

import numpy as np
import pytest

import regicomp
from experiments.branches import crops
from regicomp.data.photographs import photograph


def test_squares_cover_the_image_once() -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    parts = crops.cut(pixels, 2)
    assert [part.shape for part in parts] == [(2, 2, 3)] * 6
    assert sorted(np.concatenate([part.ravel() for part in parts])) == sorted(pixels.ravel())
    with pytest.raises(ValueError, match="6×4 pixels cannot be cut into squares of 4"):
        crops.cut(pixels, 4)


def test_an_image_as_large_as_a_square_takes_as_many_bits_as_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And smaller squares, each coded by itself, take another number, which the page sets in proportion."""
    monkeypatch.setattr(crops, "SIDES", (128, 64))
    image = np.asarray(photograph("astronaut"))[:128, :128]
    codec = regicomp.load()
    rows = crops.measure("shipped", codec, [image])
    assert [row["level"] for row in rows] == [1, codec.levels]
    for row, line in zip(rows, crops.page(rows).splitlines()[2:], strict=True):
        assert row["bpp, whole"] == row["bpp, 128²"] != row["bpp, 64²"]
        more = 100 * (float(row["bpp, whole"]) / float(row["bpp, 64²"]) - 1)
        name, level, same, other = (cell.strip() for cell in line.strip("|").split("|"))
        assert (name, int(level), same) == ("shipped", row["level"], "+0.0")
        assert float(other.replace("−", "-")) == pytest.approx(more, abs=0.051)
