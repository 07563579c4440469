"""Image files: found, checked and decoded to 8-bit RGB."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"})
Pixels = NDArray[np.uint8]
"""An 8-bit RGB image, (H, W, 3)."""

# Modes with more than 8 bits a sample: reducing them silently would falsify distortions.
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


def find(folders: str | Path | Iterable[str | Path]) -> list[Path]:
    """All image files below one or several folders, sorted by path within each folder.

    Raises:
        ValueError: a folder is missing or holds no image.
    """
    if isinstance(folders, str | Path):
        folders = [folders]
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ValueError(f"image folder {folder} does not exist or is not a folder")
        inside = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not inside:
            raise ValueError(f"image folder {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
        found += inside
    return found


def read(path: Path) -> Pixels:
    """Decode a file to 8-bit RGB.

    The EXIF rotation is applied; grey, palette and CMYK become RGB; transparency is laid on white.

    Raises:
        ValueError: the file is no image, is cut off, or has more than 8 bits a sample.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            pixels = None if mode in _DEEP_MODES else _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: is too large to be decoded safely ({error})") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: cannot be decoded ({error})") from error
    if pixels is None:
        raise ValueError(f"{path}: has more than 8 bits a sample (mode {mode}); convert it first")
    return pixels


def _to_rgb(image: Image.Image) -> Pixels:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright.convert("RGBA"))
    return np.array(upright.convert("RGB"))


def size(path: Path) -> tuple[int, int]:
    """Width and height from the header alone, as stored.

    Raises:
        ValueError: the file is no image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: is not a readable image ({error})") from error
