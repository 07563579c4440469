"""Files of every bad or unusual kind, made for tests."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RGB = np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)
REFUSED = {
    "empty.png": "empty",
    "cut.png": "truncated",
    "cut.jpg": "truncated",
    "flipped.png": "truncated",
    "text.png": "no image",
    "script.png": "no image",
    "bomb.png": "huge",
    "deep_grey.png": "deep",
    "deep_rgb.png": "deep",
    "deep_rgb.ppm": "deep",
    "float.tif": "deep",
    "small.png": "small",
}
NOTED = {
    "film.webp": "animated",
    "cmyk.jpg": "cmyk",
    "turned.jpg": "rotated",
    "turned.png": "rotated",
    "png.jpg": "extension",
}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def turned() -> Image.Exif:
    """To be turned a quarter clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def make(folder: Path) -> None:
    """Write good.png and one file of every kind into a folder."""
    image = Image.fromarray(RGB)
    image.save(folder / "good.png")
    png = (folder / "good.png").read_bytes()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(png[: len(png) // 2])
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 1
    (folder / "flipped.png").write_bytes(damaged)
    (folder / "text.png").write_text("not an image")
    (folder / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n")
    (folder / "bomb.png").write_bytes(_png(60_000, 60_000, 8, 2, b""))
    (folder / "deep_rgb.png").write_bytes(_png(96, 80, 16, 2, b"".join(b"\0" + bytes(6 * 96) for _ in range(80))))
    (folder / "deep_rgb.ppm").write_bytes(b"P6\n96 80\n65535\n" + bytes(6 * 96 * 80))
    Image.fromarray(np.zeros((80, 96), np.uint16)).save(folder / "deep_grey.png")
    Image.fromarray(np.zeros((80, 96), np.float32)).save(folder / "float.tif")
    image.crop((0, 0, 96, 20)).save(folder / "small.png")
    image.save(folder / "film.webp", save_all=True, append_images=[image.rotate(180)], lossless=True)
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    image.save(folder / "turned.jpg", exif=turned(), quality=95)
    image.save(folder / "turned.png", exif=turned())
    (folder / "png.jpg").write_bytes(png)
