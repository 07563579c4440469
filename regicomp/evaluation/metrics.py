"""Measurements of an image, and their averages over images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from pytorch_msssim import ms_ssim

from regicomp.data.images import Pixels
from regicomp.image_codec.codec import to_tensor
from regicomp.objective.psnr import psnr_of

_MS_SSIM_LEAST_SIDE = 161  # five scales of an 11-pixel window


class ImageResult(NamedTuple):
    """Rate and quality of one image."""

    name: str
    width: int  # pixels
    height: int
    bytes: int  # of the container, headers included
    bpp: float  # 8·bytes / (width·height)
    bpp_estimated: float | None  # -log2 of the latents' likelihoods, per pixel
    psnr_db: float  # of the reconstruction rounded to 8 bits
    psnr_db_float: float | None  # of the reconstruction before rounding
    ms_ssim: float | None  # None where a side is shorter than 161 pixels
    ms_ssim_db: float | None  # -10 log10(1 - MS-SSIM)
    source_bpp: float | None  # H_θ(X|X̂), where there is a q_θ
    encode_seconds: float
    decode_seconds: float


def ms_ssim_of(x: Pixels, x_hat: Pixels) -> tuple[float | None, float | None]:
    """MS-SSIM and MS-SSIM in dB of two 8-bit images, (H, W, 3); None where a side is shorter than 161 pixels."""
    if min(x.shape[:2]) < _MS_SSIM_LEAST_SIDE:
        return None, None
    similarity = float(ms_ssim(*(to_tensor(image) * 255 for image in (x, x_hat)), data_range=255))
    return similarity, min(100.0, -10 * math.log10(max(1 - similarity, 1e-10)))


def psnr_and_ms_ssim(x: Pixels, x_hat: Pixels) -> tuple[float, float | None]:
    """PSNR in dB, and MS-SSIM as in `ms_ssim_of`."""
    return psnr_of(x, x_hat), ms_ssim_of(x, x_hat)[0]


def measured(
    name: str,
    x: Pixels,
    x_hat: Pixels,
    size: int,
    *,
    encode_seconds: float,
    decode_seconds: float,
    with_ms_ssim: bool = True,
    bpp_estimated: float | None = None,
    psnr_db_float: float | None = None,
    source_bpp: float | None = None,
) -> ImageResult:
    """The measurements of an image that came back from `size` bytes as `x_hat`; both (H, W, 3)."""
    height, width = x.shape[:2]
    similarity, similarity_db = ms_ssim_of(x, x_hat) if with_ms_ssim else (None, None)
    return ImageResult(
        name=name,
        width=width,
        height=height,
        bytes=size,
        bpp=8 * size / (width * height),
        bpp_estimated=bpp_estimated,
        psnr_db=psnr_of(x, x_hat),
        psnr_db_float=psnr_db_float,
        ms_ssim=similarity,
        ms_ssim_db=similarity_db,
        source_bpp=source_bpp,
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )


_AVERAGED = ("bpp", "bpp_estimated", "psnr_db", "psnr_db_float", "ms_ssim", "ms_ssim_db", "source_bpp")


def average(images: Iterable[ImageResult]) -> dict[str, Any]:
    """A test set's entry in the record: each metric averaged over the images, and the images' own rows.

    A metric that some image lacks is averaged over those that have it, and null where none has.
    """
    rows = [image._asdict() for image in images]
    entry: dict[str, Any] = {}
    for metric in _AVERAGED:
        values = [row[metric] for row in rows if row[metric] is not None]
        entry[metric] = sum(values) / len(values) if values else None
    return {**entry, "images": rows}
