"""Image files: found, checked and decoded to 8-bit RGB; docs/data.md describes the treatment of every kind of file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"})
Pixels = NDArray[np.uint8]
"""An 8-bit RGB image, (H, W, 3)."""

MAX_FILE_BYTES = 2**30
_SUFFIXES_OF = {
    "PNG": {".png"},
    "JPEG": {".jpg", ".jpeg"},
    "MPO": {".jpg", ".jpeg"},  # a JPEG with a second picture behind it, as telephones write them
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
    "BMP": {".bmp"},
    "PPM": {".ppm"},
}
# Only these are looked for in a file, whatever its name: Pillow would start Ghostscript for a PostScript file.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")
# Modes with more than 8 bits a sample: reducing them silently would falsify distortions.
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE = 258  # TIFF tag

REFUSED = {
    "storage": "cannot be read from its storage",
    "empty": "is empty (0 bytes)",
    "no image": "is no image of a known format",
    "truncated": "is truncated or damaged",
    "huge": "is too large to be decoded safely",
    "deep": "has more than 8 bits a sample",
    "mode": "has a colour mode that cannot become RGB",
    "small": "is smaller than the crop",
}
"""Kinds of files that are not used, with what is wrong with them."""

NOTED = {
    "animated": "several frames; the first is used",
    "cmyk": "CMYK; converted to RGB without colour management",
    "rotated": "EXIF rotation; turned upright",
    "extension": "another format than the name says; decoded by content",
}
"""Kinds of files that are used after a change, with the change."""


class BadImage(ValueError):
    """A file that is not used; `kind` is a key of REFUSED."""

    def __init__(self, message: str, kind: str = "truncated") -> None:
        # A DataLoader's worker passes an exception on as the text of its traceback, whose last line is the message.
        line = message.strip().rsplit("\n", 1)[-1]
        super().__init__(line.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))
        self.kind = kind


class Header(NamedTuple):
    """The header of an image file: width and height as stored, and which of NOTED hold."""

    width: int
    height: int
    noted: tuple[str, ...] = ()


def _refused(name: str | Path, kind: str, detail: object = "") -> BadImage:
    text = " ".join(str(detail).split())
    return BadImage(f"{name}: {REFUSED[kind]}" + (f" ({text})" if text else ""), kind)


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


def bits(image: Image.Image) -> int:
    """Bits a sample as stored: Pillow opens PNG, TIFF and PPM files of 16-bit colours as 8-bit RGB silently."""
    if image.mode in _DEEP_MODES:
        return 16
    if image.format == "TIFF":
        stored = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
        return max(stored) if isinstance(stored, tuple) else int(stored)
    arguments = [tile[3] for tile in getattr(image, "tile", [])]
    if image.format == "PNG":
        return 16 if any("16" in str(argument) for argument in arguments) else 8
    if image.format == "PPM":  # the decoder gets the largest value where it is not 255
        values = [v for argument in arguments if isinstance(argument, tuple) for v in argument if isinstance(v, int)]
        return 16 if any(value > 255 for value in values) else 8
    return 8


def _open(file: BinaryIO, name: str | Path) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _refused(name, "huge", error) from error
    except UnidentifiedImageError as error:
        raise _refused(name, "no image") from error
    except OSError as error:
        # Storage reports an error number; Pillow, on files it cannot make sense of, does not.
        raise _refused(name, "truncated" if error.errno is None else "storage", error) from error
    except (SyntaxError, ValueError) as error:
        raise _refused(name, "truncated", error) from error
    if bits(image) > 8:
        raise _refused(name, "deep", f"mode {image.mode}; convert it first")
    return image


def _noted(image: Image.Image, suffix: str) -> tuple[str, ...]:
    found = []
    if image.format != "MPO" and getattr(image, "is_animated", False):
        found.append("animated")
    if image.mode == "CMYK":
        found.append("cmyk")
    # A PNG is decoded whole to look for EXIF data behind its pixels, so only those in front are seen here.
    if (image.format != "PNG" or "exif" in image.info) and image.getexif().get(_ORIENTATION, 1) != 1:
        found.append("rotated")
    if suffix.lower() not in _SUFFIXES_OF.get(str(image.format), ()):
        found.append("extension")
    return tuple(found)


def header(path: Path) -> Header:
    """Size, and which of NOTED hold, without decoding the pixels.

    Raises:
        BadImage: the file is missing, empty, no image, too large, or has more than 8 bits a sample.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise _refused(path, "empty")
        if size > MAX_FILE_BYTES:
            raise _refused(path, "huge", f"{size} bytes")
        with path.open("rb") as file, _open(file, path) as image:
            try:
                width, height = image.size
                return Header(width, height, _noted(image, path.suffix))
            except (SyntaxError, ValueError, EOFError) as error:  # a damaged frame list or EXIF block
                raise _refused(path, "truncated", error) from error
    except OSError as error:
        raise _refused(path, "storage", error.strerror or error) from error


def read(path: Path) -> Pixels:
    """Decode a file to 8-bit RGB; see `decode`.

    Raises:
        BadImage: as `decode`; or with kind "storage" if the file cannot be read, which may pass.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _refused(path, "huge", f"{path.stat().st_size} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise _refused(path, "storage", error.strerror or error) from error
    return decode(data, path)


def decode(data: bytes, name: str | Path) -> Pixels:
    """Decode a file's content to 8-bit RGB.

    The EXIF rotation is applied; grey, palette and CMYK become RGB; transparency is laid on white; of several frames
    the first is taken.

    Args:
        data: the file's content.
        name: the name that errors give it.

    Raises:
        BadImage: empty, no image, cut off, too large, or more than 8 bits a sample.
    """
    if not data:
        raise _refused(name, "empty")
    with _open(io.BytesIO(data), name) as image:
        try:
            return _to_rgb(image, name)
        except BadImage:
            raise
        except Image.DecompressionBombError as error:
            raise _refused(name, "huge", error) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise _refused(name, "truncated", error) from error


def _to_rgb(image: Image.Image, name: str | Path) -> Pixels:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright.convert("RGBA"))
    try:
        rgb = upright.convert("RGB")
    except ValueError as error:
        raise _refused(name, "mode", error) from error
    return np.array(rgb)


def size(path: Path) -> tuple[int, int]:
    """Width and height from the header alone, as stored.

    Raises:
        BadImage: as `header`.
    """
    found = header(path)
    return found.width, found.height
