"""Pictures of a codec's work on an image: the original, the reconstruction, the error, and where the latent's bits go.

Pictures are embedded in the page as data URIs of compact WebP files. Large images are cut to their middle, so that
every pixel shown is one the codec coded.
"""

from __future__ import annotations

import base64
import io
import math
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from regicomp.backbone import variable_rate
from regicomp.data.images import Pixels
from regicomp.evaluation.round_trip import Codec, to_pixels, to_tensor

MOST_PIXELS = 768  # a side
ERROR_LEVELS = 32  # grey levels at the top of the error map's scale


class CodedImage(NamedTuple):
    """A codec's view of an image."""

    x_hat: Pixels  # (H, W, 3)
    error: NDArray[np.float64]  # mean absolute difference of the three channels, grey levels, (H, W)
    bits: NDArray[np.float64]  # bits per pixel of the latent y, on its grid, (h, w)
    rest_bpp: float  # bits per pixel of the other latents (side information)
    stride: int  # pixels a side of a latent position


@torch.inference_mode()
def code(codec: Codec, pixels: Pixels, quality: float | None = None) -> CodedImage:
    """Code an image by the codec's forward pass, at `quality` where the codec is of variable rate.

    The forward pass's likelihoods are the estimated bits.
    """
    height, width = pixels.shape[:2]
    padded = codec.pad(to_tensor(pixels))
    with variable_rate.at_quality(codec.network, quality):
        out = codec.network(padded)
    x_hat = to_pixels(out["x_hat"].clamp(0, 1)[..., :height, :width])
    error = np.abs(pixels.astype(np.float64) - x_hat).mean(axis=2)
    y = out["likelihoods"]["y"]
    bits = -torch.log2(y.double()).sum(dim=1)[0]
    stride = padded.shape[-1] // bits.shape[-1]
    rest = sum(float(-torch.log2(v.double()).sum()) for name, v in out["likelihoods"].items() if name != "y")
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    return CodedImage(x_hat, error, bits.numpy()[:rows, :columns] / stride**2, rest / (height * width), stride)


def middle(values: NDArray[np.generic], most: int = MOST_PIXELS) -> NDArray[np.generic]:
    """The middle of an image (H, W, ...), at most `most` on a side."""
    top, left = (max(0, (side - most) // 2) for side in values.shape[:2])
    return values[top : top + most, left : left + most]


def _uri(image: Image.Image, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def photo(pixels: Pixels) -> str:
    """A photograph as a data URI; quality 90 keeps a codec's artefacts apart from the page's."""
    return _uri(Image.fromarray(np.asarray(middle(pixels), dtype=np.uint8)), quality=90, method=4)


def heat(values: NDArray[np.float64], top: float, lossless: bool = False) -> str:
    """A map (H, W) from 0 to `top` in the colours of cividis, which look the same to colour-blind readers."""
    shade = matplotlib.colormaps["cividis"](np.clip(values / max(top, 1e-12), 0, 1), bytes=True)[..., :3]
    image = Image.fromarray(np.ascontiguousarray(shade))
    return _uri(image, lossless=True) if lossless else _uri(image, quality=80, method=4)


def error_map(coded: CodedImage) -> str:
    """The error from 0 to ERROR_LEVELS grey levels."""
    return heat(np.asarray(middle(coded.error), dtype=np.float64), ERROR_LEVELS)


def bit_map(coded: CodedImage, top: float) -> str:
    """The latent's bits from 0 to `top` bits per pixel, a pixel a latent position; the part that `photo` shows."""
    shown = middle(coded.bits, math.ceil(MOST_PIXELS / coded.stride))
    return heat(np.asarray(shown, dtype=np.float64), top, lossless=True)
