"""The photographs in the package: the pixels that all figures on `photos` were measured on, and their licences."""

from __future__ import annotations

import hashlib

import pytest

from regicomp.data import images, photographs

# SHA-256 of the pixels that scikit-image 0.26 and scikit-learn 1.9 give.
PIXELS = {
    "astronaut.png": "a8c429c18afa7b0fd5673e598d73a21225d94c864a71bbb3885126fdecb41071",
    "chelsea.png": "416b729128bfb2c3d1eb69bf9b1734a796293abc17939267b2dc94f8a5784031",
    "coffee.png": "0ce2b51640b9c95f19617f03eabf40c3f0368589cc1ee1190b70966165ac184f",
    "rocket.jpg": "3d4435cc745752b7f9724df88c6e18817de3ce7e3d2d71c55f85f7831e68f197",
    "flower.jpg": "3202904ed246795bf616c66d7859cd7c6080eff736c6e38dc5cc62779742033f",
    "china.jpg": "e701459344fd69797154c91add3bb5d70e5ed1a61d8bed889bab3a796104698d",
}


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_are_what_they_were(name: str) -> None:
    assert hashlib.sha256(images.read(photographs.FOLDER / name).tobytes()).hexdigest() == PIXELS[name]


def test_every_photograph_has_a_licence_and_a_use() -> None:
    files = {path.name for path in images.find(photographs.FOLDER)}
    assert files == set(PIXELS) == {*photographs.TEST.values(), photographs.PALETTE}
    licences = (photographs.FOLDER / "LICENSES.md").read_text()
    for name in files:
        (row,) = [line for line in licences.splitlines() if line.startswith(f"| {name} ")]
        assert any(licence in row for licence in ("public domain", "CC0 1.0", "CC BY 2.0"))


def test_an_unknown_photograph_is_told() -> None:
    with pytest.raises(ValueError, match=r"`name` \(=dog\) must be one of astronaut, cat"):
        photographs.photograph("dog")
