"""The bound R + H_θ ≥ H(X) on photographs: a lossy stream and q_θ's residual, compared with lossless codecs.

By statement 6 of docs/theory.md, R + H_θ is what a lossless file could weigh, headers aside, so it may be compared
with the files that PNG and lossless WebP make of the same image.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from regicomp.data.images import Pixels
from regicomp.data.testsets import TestImage
from regicomp.evaluation.round_trip import Codec, evaluate_image
from regicomp.source.base import SourceModel


class LosslessCodec(NamedTuple):
    """A lossless codec through Pillow, at its smallest setting."""

    name: str
    format: str  # Pillow's
    options: dict[str, Any]

    def bpp(self, pixels: Pixels) -> float:
        """Bits per pixel of the file, headers included.

        Raises:
            RuntimeError: the file does not decode to the image.
        """
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.format, **self.options)
        if not np.array_equal(np.asarray(Image.open(buffer).convert("RGB")), pixels):
            raise RuntimeError(f"{self.name} did not give the image back")
        return 8 * len(buffer.getvalue()) / (pixels.shape[0] * pixels.shape[1])


LOSSLESS = (
    LosslessCodec("PNG", "PNG", {"optimize": True}),
    LosslessCodec("WebP lossless", "WEBP", {"lossless": True, "quality": 100, "method": 4}),
)


class LosslessResult(NamedTuple):
    """One image's bits per pixel, lossless."""

    name: str
    width: int  # pixels
    height: int
    rate_bpp: float  # R: -log2 of the latents' likelihoods
    file_bpp: float  # R as bytes on disk, the container's header included
    source_bpp: float  # H_θ
    psnr_db: float  # of the lossy part
    others: dict[str, float]  # by lossless codec

    @property
    def total_bpp(self) -> float:
        """R + H_θ, at least H(X) on average over the images' true distribution."""
        return self.rate_bpp + self.source_bpp

    @property
    def best_bpp(self) -> float:
        """The smallest of the other lossless files."""
        return min(self.others.values())

    @property
    def excess(self) -> float:
        """How much larger R + H_θ is than the best lossless file, as a fraction of it; negative if smaller."""
        return self.total_bpp / self.best_bpp - 1


def of_image(codec: Codec, source: SourceModel, image: TestImage) -> LosslessResult:
    """R + H_θ and the lossless files of one image.

    The image is coded to bytes and back, and q_θ is given the x̂ that the decoder made.

    Raises:
        RuntimeError: an image does not come back as it was coded.
    """
    pixels = image.load()
    found = evaluate_image(codec, image.name, pixels, source)
    assert found.bpp_estimated is not None
    assert found.source_bpp is not None
    return LosslessResult(
        name=image.name,
        width=found.width,
        height=found.height,
        rate_bpp=found.bpp_estimated,
        file_bpp=found.bpp,
        source_bpp=found.source_bpp,
        psnr_db=found.psnr_db,
        others={other.name: other.bpp(pixels) for other in LOSSLESS},
    )
