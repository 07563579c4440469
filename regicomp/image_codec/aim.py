"""The quality at which a codec of variable rate meets an aim: so many bits a pixel, so many dB, so many bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from regicomp.image_codec.codec import Codec, to_pixels
from regicomp.image_codec.container import QUALITY_UNIT
from regicomp.image_codec.picture import Picture
from regicomp.objective.psnr import psnr_of

MOST_TRIES = 8  # encodings a picture
_CLOSE_BPP = 0.005  # of the aim
_CLOSE_DB = 0.02
_CLOSE_BYTES = 0.01  # below the aim


class Aim(NamedTuple):
    """Goal for a file; one of these at most. All None: the codec's middle quality."""

    quality: float | None = None
    bpp: float | None = None  # bits of the whole file by pixel
    psnr_db: float | None = None  # of the picture's colours, 8-bit
    max_bytes: int | None = None


class Tried(NamedTuple):
    """A file at some quality, and what it comes to in the aim's unit."""

    quality: float
    value: float
    data: bytes


def compress(codec: Codec, picture: Picture, aim: Aim) -> bytes:
    """Compress a picture at the quality that comes nearest to an aim, in at most 8 encodings.

    Args:
        codec: of variable rate, unless the aim is empty.
        picture: what is compressed.
        aim: what the file should be.

    Raises:
        ValueError: the codec has one quality only, the aim is out of the codec's reach (the message names the range),
            or the picture is refused.
    """
    named = {name: value for name, value in aim._asdict().items() if value is not None}
    if not named or "quality" in named:
        return codec.compress(picture, aim.quality)
    (name, wanted), *_ = named.items()
    if codec.levels is None:
        raise ValueError(f"`{name}` (={wanted:g}) must be left out: this codec has one quality only")
    with codec.remembering():
        if name == "bpp":
            height, width = picture.pixels.shape[:2]
            near: Callable[[float], bool] = lambda v: abs(v / wanted - 1) <= _CLOSE_BPP  # noqa: E731
            tried = _search(codec, picture, lambda q, data: 8 * len(data) / (width * height), name, wanted, near)
        elif name == "psnr_db":
            near = lambda v: abs(v - wanted) <= _CLOSE_DB  # noqa: E731
            tried = _search(codec, picture, lambda q, data: _psnr(codec, picture, q), name, wanted, near)
        else:
            near = lambda v: wanted * (1 - _CLOSE_BYTES) <= v <= wanted  # noqa: E731
            tried = _search(codec, picture, lambda q, data: len(data), name, wanted, near)
            tried = [t for t in tried if t.value <= wanted]
    return min(tried, key=lambda t: abs(t.value - wanted)).data


def _psnr(codec: Codec, picture: Picture, quality: float) -> float:
    """Of the encoder's reconstruction, in dB."""
    return psnr_of(picture.pixels, to_pixels(codec.reconstruct(picture.pixels, quality)[0]))


def _search(
    codec: Codec,
    picture: Picture,
    measure: Callable[[float, bytes], float],
    name: str,
    wanted: float,
    near: Callable[[float], bool],
) -> list[Tried]:
    """The files tried: at both ends, then where a line between the nearest two below and above meets the aim."""

    def at(quality: float) -> Tried:
        quality = round(quality * QUALITY_UNIT) / QUALITY_UNIT
        data = codec.compress(picture, quality)
        return Tried(quality, measure(quality, data), data)

    # Rates grow geometrically with quality, and decibels are logarithms already.
    scale: Callable[[float], float] = (lambda v: v) if name == "psnr_db" else math.log
    low, high = at(1.0), at(float(codec.levels or 1))
    tried = [low, high]
    if name == "max_bytes" and high.value <= wanted:
        return tried
    if not low.value <= wanted <= high.value and not any(near(t.value) for t in tried):
        raise ValueError(
            f"`{name}` (={wanted:g}) must be within what this codec reaches on this picture, "
            f"{low.value:.4g} to {high.value:.4g}"
        )
    while len(tried) < MOST_TRIES and not any(near(t.value) for t in tried):
        span = scale(high.value) - scale(low.value)
        along = 0.5 if span <= 0 else (scale(wanted) - scale(low.value)) / span
        # One end must not stay where it is for ever: every other try leans to the middle.
        along = min(max(along, 0.02), 0.98) if len(tried) % 3 else 0.5 * (along + 0.5)
        step = 1 / QUALITY_UNIT
        quality = min(max(low.quality + along * (high.quality - low.quality), low.quality + step), high.quality - step)
        if high.quality - low.quality < 2 * step:
            break
        latest = at(quality)
        tried.append(latest)
        low, high = (latest, high) if latest.value <= wanted else (low, latest)
    return tried
