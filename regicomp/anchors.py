"""Classical codecs (through Pillow) measured on the same images: the curves a run's point is held against."""

from __future__ import annotations

import io
import math
import time
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from regicomp.data.images import Pixels
from regicomp.data.testsets import TestSet
from regicomp.evaluation import ImageResult, average, ms_ssim_of, psnr_of


class Anchor(NamedTuple):
    """A classical codec and the qualities its curve is made of."""

    name: str
    format: str  # Pillow's
    qualities: tuple[int, ...]
    options: dict[str, Any]


JPEG = Anchor("JPEG", "JPEG", (3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 40, 55, 70, 85), {"optimize": True})
WEBP = Anchor("WebP", "WEBP", (1, 4, 8, 14, 20, 35, 50, 65, 80, 90), {"method": 4})
ANCHORS = (JPEG, WEBP)


def _measure(anchor: Anchor, quality: int, name: str, pixels: Pixels, with_ms_ssim: bool) -> ImageResult:
    height, width = pixels.shape[:2]
    buffer = io.BytesIO()
    started = time.perf_counter()
    Image.fromarray(pixels).save(buffer, anchor.format, quality=quality, **anchor.options)
    encoded = time.perf_counter()
    decoded = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"), dtype=np.uint8)
    finished = time.perf_counter()
    similarity, similarity_db = ms_ssim_of(pixels, decoded) if with_ms_ssim else (None, None)
    size = len(buffer.getvalue())
    return ImageResult(
        name=name,
        width=width,
        height=height,
        bytes=size,
        bpp=8 * size / (width * height),
        bpp_estimated=None,
        psnr_db=psnr_of(pixels, decoded),
        psnr_db_float=None,
        ms_ssim=similarity,
        ms_ssim_db=similarity_db,
        source_bpp=None,
        encode_seconds=encoded - started,
        decode_seconds=finished - encoded,
    )


def curve(anchor: Anchor, testset: TestSet, with_ms_ssim: bool = False) -> list[dict[str, Any]]:
    """The anchor's points on a test set, one an encoder quality: like a record's test-set entry, by rising rate.

    Args:
        anchor: codec and qualities.
        testset: images.
        with_ms_ssim: measure MS-SSIM too, which takes most of the time.
    """
    loaded = [(image.name, image.load()) for image in testset.images]
    points = [
        {"quality": q, **average([_measure(anchor, q, name, pixels, with_ms_ssim) for name, pixels in loaded])}
        for q in anchor.qualities
    ]
    return sorted(points, key=lambda point: point["bpp"])


def psnr_at(points: list[dict[str, Any]], bpp: float) -> float | None:
    """PSNR of a curve at a rate, interpolated linearly in log(bpp); None outside the curve's rates."""
    rates = [math.log(point["bpp"]) for point in points]
    if not rates or not rates[0] <= math.log(bpp) <= rates[-1]:
        return None
    return float(np.interp(math.log(bpp), rates, [point["psnr_db"] for point in points]))
