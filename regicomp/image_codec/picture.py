"""A user's picture taken apart: 8-bit RGB for the codec, and beside it what the codec cannot carry.

| mode | becomes |
|---|---|
| RGB, palette, YCbCr | RGB |
| grey, bilevel | one channel, which the codec sees three times; grey again after decoding |
| RGBA, grey with alpha, palette with transparency | the colours as they are, and alpha beside them without loss |
| CMYK | RGB by Pillow's conversion; its ICC profile describes inks and is left out |
| several frames | the first; a Pillow image's present one. Training and evaluation take the first, too |
| more than 8 bits a sample | refused |

The EXIF rotation is applied, other metadata than the ICC profile is left out.
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from regicomp.data.images import FORMATS, Pixels, bits
from regicomp.image_codec import container

log = logging.getLogger(__name__)

INPUTS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm"})
OUTPUTS = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM"}
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_MODES = _GREY_MODES | {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}


class Picture(NamedTuple):
    """An 8-bit picture taken apart."""

    pixels: Pixels  # (H, W, 3)
    grey: bool  # the three channels are one
    alpha: NDArray[np.uint8] | None  # (H, W)
    profile: bytes | None  # ICC


def from_pillow(image: Image.Image, max_pixels: int = container.MAX_PIXELS) -> Picture:
    """Take a Pillow image apart.

    Raises:
        ValueError: too large, of more than 8 bits a sample, or of a mode that is not in the table.
    """
    if image.width * image.height > max_pixels:
        raise ValueError(f"has {image.width}x{image.height} pixels, more than `max_pixels` (={max_pixels})")
    if not image.width or not image.height:
        raise ValueError(f"has {image.width}x{image.height} pixels; a picture must have at least one")
    if bits(image) > 8:
        raise ValueError(f"has more than 8 bits a sample (mode {image.mode}); convert it first")
    if image.mode not in _MODES:
        raise ValueError(f"has a colour mode ({image.mode}) that cannot become RGB; convert it first")
    upright = ImageOps.exif_transpose(image)
    grey = upright.mode in _GREY_MODES and not ("transparency" in upright.info and upright.mode == "P")
    profile = None if upright.mode == "CMYK" else upright.info.get("icc_profile")
    if profile is not None and len(profile) > container.MAX_PROFILE:
        raise ValueError(f"has an ICC profile of {len(profile)} bytes, more than {container.MAX_PROFILE}")
    alpha = None
    if upright.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        alpha = np.array(upright.getchannel("A"))
    return Picture(np.array(upright.convert("RGB")), grey, alpha, profile or None)


def frames(image: Image.Image) -> int:
    """How many frames a Pillow image has; the further views of a phone's MPO file, a JPEG, are none."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def read(path: Path, max_pixels: int = container.MAX_PIXELS) -> Picture:
    """Decode an image file; see `decode`."""
    return _opened(path, path, max_pixels)


def decode(data: bytes, name: str | Path, max_pixels: int = container.MAX_PIXELS) -> Picture:
    """Decode an image file's content.

    Args:
        data: the file's content.
        name: the name that errors give it.
        max_pixels: larger pictures are refused.

    Raises:
        ValueError: the file is no image, is cut off, or its picture is refused; the message begins with its name.
    """
    return _opened(io.BytesIO(data), name, max_pixels)


def _opened(file: Path | io.BytesIO, name: str | Path, max_pixels: int) -> Picture:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is `max_pixels`
            with Image.open(file, formats=FORMATS) as image:
                if (count := frames(image)) > 1:
                    log.warning("%s: has %d frames; the first is taken", name, count)
                return from_pillow(image, max_pixels)
    except UnidentifiedImageError as error:
        raise ValueError(f"{name}: is no image of a known format ({', '.join(FORMATS)})") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: {error}") from error


def from_array(array: NDArray[Any], max_pixels: int = container.MAX_PIXELS) -> Picture:
    """Take an array apart: 8-bit, (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA.

    Raises:
        ValueError: other shapes or numbers.
    """
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not fits:
        raise ValueError(f"an array (of {array.dtype}, {array.shape}) must be of uint8, (H, W), (H, W, 3) or (H, W, 4)")
    if not array.size:
        raise ValueError(f"an array (of {array.shape}) must have a pixel")
    return from_pillow(Image.fromarray(np.ascontiguousarray(array)), max_pixels)


def to_pillow(picture: Picture) -> Image.Image:
    """Put a picture together: mode L, LA, RGB or RGBA, with its ICC profile in `info`."""
    image = Image.fromarray(picture.pixels[..., 0] if picture.grey else picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    if picture.profile is not None:
        image.info["icc_profile"] = picture.profile
    return image


def image_format(path: Path) -> str:
    """Pillow's name of the format that a decoded picture is written in.

    Raises:
        ValueError: the suffix names no lossless format.
    """
    found = OUTPUTS.get(path.suffix.lower())
    if found is None:
        raise ValueError(f"{path}: a decoded picture is written without further loss, as {', '.join(sorted(OUTPUTS))}")
    return found


def file_bytes(image: Image.Image, path: Path) -> bytes:
    """An image file in the format that `path`'s suffix names.

    Raises:
        ValueError: the format is not lossless or cannot hold the picture's alpha.
    """
    fmt = image_format(path)
    if fmt in ("BMP", "PPM") and image.mode in ("LA", "RGBA"):
        raise ValueError(f"{path}: {fmt} cannot hold the picture's alpha; choose .png, .webp or .tif")
    profile = image.info.get("icc_profile")
    kept = {"icc_profile": profile} if profile and fmt in ("PNG", "WEBP", "TIFF") else {}
    lossless: dict[str, Any] = {"lossless": True, "exact": True} if fmt == "WEBP" else {}
    buffer = io.BytesIO()
    image.save(buffer, fmt, **kept, **lossless)
    return buffer.getvalue()


def pack_alpha(alpha: NDArray[np.uint8]) -> bytes:
    """zlib of each row's difference from the row above, modulo 256."""
    above = np.concatenate([np.zeros_like(alpha[:1]), alpha[:-1]])
    return zlib.compress((alpha - above).tobytes(), 9)


def unpack_alpha(packed: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Undo `pack_alpha`; (H, W).

    Raises:
        ValueError: malformed or of another size.
    """
    rows = container.inflate(packed, width * height, "alpha")
    if len(rows) != width * height:
        raise ValueError("the file is malformed: its alpha has not the length it must have")
    return np.cumsum(np.frombuffer(rows, np.uint8).reshape(height, width), axis=0, dtype=np.uint8)
