"""The container of one compressed picture (`.rgc`): what is written, byte by byte, and what is refused.

docs/format.md describes it. Nothing here allocates by what a file claims: every length is compared with the bytes read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

MAGIC = b"RGC"
VERSION = 2  # of files of a codec of fixed rate, and the oldest that is read
VERSION_WITH_QUALITY = 3  # of files that name their quality; there is no other difference
FINGERPRINT_BYTES = 4
MAX_PIXELS = 89_478_485  # Pillow's limit for images of unknown origin
MAX_SIDE = 1 << 20  # pixels
MAX_STREAMS = 64
MAX_PROFILE = 1 << 22  # bytes of an ICC profile
WHOLE_PIXELS = 1 << 22  # larger pictures are transformed in tiles
TILE_UNIT = 64  # pixels
MAX_TILE = 2048
# A file holds at least a byte for so many pixels above so many, so that a small one cannot ask for much work.
PIXELS_A_BYTE, FREE_PIXELS = 256, 1 << 20

_CRC_AT, _BODY_AT, _HEAD_AT = 4, 8, 16
_GREY, _ALPHA, _PROFILE, _TILED = 1, 2, 4, 8
QUALITY_UNIT = 1000  # parts of a level
MAX_QUALITY = 64 * QUALITY_UNIT
_THREADS_AT = 4  # bit of the flags where the threads' logarithm begins, two bits wide
_QUALITY = 64  # set in every file of the version with quality, and in no other
THREADS = (1, 2, 4, 8)


class Container(NamedTuple):
    """A compressed picture."""

    fingerprint: bytes  # first 4 bytes of the codec's fingerprint
    width: int  # pixels
    height: int
    grey: bool  # the picture has one channel; the codec saw it three times
    tile: int  # side in pixels of the tiles that the transforms ran in; 0: the whole picture at once
    threads: int  # that the codec computed with, 1, 2, 4 or 8: their number changes the last bits of sums
    alpha: bytes | None  # packed by `picture.pack_alpha`
    profile: bytes | None  # ICC, packed by `deflate`
    streams: tuple[bytes, ...]  # the codec's range coder streams in its own order
    check: int = 0  # of what the file says and of the decoded latents, see `content_check`
    quality: int | None = None  # in thousandths of a level, where the codec is of variable rate

    @property
    def version(self) -> int:
        """The format's version that the picture is written in."""
        return VERSION if self.quality is None else VERSION_WITH_QUALITY


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Takes a header apart."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            if self.at >= len(self.data):
                break
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    break  # a number has one spelling
                return value
        raise ValueError("the file is malformed: a number in its header does not end")

    def take(self, length: int) -> bytes:
        piece = self.data[self.at : self.at + length]
        self.at += length
        return piece


def _head(container: Container) -> bytes:
    """Flags, sizes and lengths: all between the content check and the data."""
    pieces = [p for p in (container.alpha, container.profile) if p is not None]
    flags = (
        _GREY * container.grey
        | _ALPHA * (container.alpha is not None)
        | _PROFILE * (container.profile is not None)
        | _TILED * bool(container.tile)
        | THREADS.index(container.threads) << _THREADS_AT
        | _QUALITY * (container.quality is not None)
    )
    numbers = [container.width, container.height]
    if container.tile:
        numbers.append(container.tile // TILE_UNIT)
    if container.quality is not None:
        numbers.append(container.quality)
    numbers += [len(container.streams), *(len(s) for s in container.streams), *(len(p) for p in pieces)]
    return bytes([flags]) + b"".join(map(_varint, numbers)) + b"".join(pieces)


def content_check(container: Container, symbols: Iterable[int]) -> int:
    """CRC-32 of what the file says of the picture and of its decoded latents.

    Args:
        container: the picture; `check` is not read.
        symbols: CRC-32 of the symbols of each stream, in any order.
    """
    return zlib.crc32(b"".join(crc.to_bytes(4, "big") for crc in sorted(symbols)), zlib.crc32(_head(container)))


def padded_area(width: int, height: int) -> int:
    """Pixels that a codec works on: sides are padded to multiples of 64, of which a thin picture has many."""
    return (-(-width // TILE_UNIT)) * (-(-height // TILE_UNIT)) * TILE_UNIT**2


def _least_length(width: int, height: int) -> int:
    return max(0, padded_area(width, height) - FREE_PIXELS) // PIXELS_A_BYTE


def long_enough(container: Container) -> Container:
    """The container with zeros behind its last stream where it would be too short for its size.

    The range decoder does not read them as symbols.
    """
    lacking = _least_length(container.width, container.height) - len(pack(container))
    if lacking <= 0:
        return container
    *before, last = container.streams
    return container._replace(streams=(*before, last + bytes(lacking)))


def pack(container: Container) -> bytes:
    """Serialize."""
    body = container.fingerprint + container.check.to_bytes(4, "big") + _head(container) + b"".join(container.streams)
    return MAGIC + bytes([container.version]) + zlib.crc32(body).to_bytes(4, "big") + body


def as_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """The content of a file, whichever of Python's types holds it.

    Raises:
        TypeError: it is of another type, such as a file's path.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(
            f"`data` (of type {type(data).__name__}) must be the content of an .rgc file: bytes, bytearray or "
            "memoryview; pathlib.Path(…).read_bytes() reads a file"
        )
    return bytes(data)


def unpack(data: bytes | bytearray | memoryview, max_pixels: int = MAX_PIXELS) -> Container:
    """Parse and verify.

    Args:
        data: a whole file.
        max_pixels: a larger picture is refused.

    Raises:
        ValueError: not a container, of another version, altered, cut, or larger than allowed.
        TypeError: `data` holds no bytes.
    """
    data = as_bytes(data)
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("not a regicomp file: it does not begin with `RGC`")
    version = data[len(MAGIC)] if len(data) > len(MAGIC) else VERSION
    if not VERSION <= version <= VERSION_WITH_QUALITY:
        newer = "a newer regicomp wrote it" if version > VERSION_WITH_QUALITY else "it was never released"
        raise ValueError(f"the file's version (={version}) must be {VERSION} or {VERSION_WITH_QUALITY}; {newer}")
    if len(data) <= _HEAD_AT or zlib.crc32(data[_BODY_AT:]) != int.from_bytes(data[_CRC_AT:_BODY_AT], "big"):
        raise ValueError("the file is cut off or altered: its checksum does not match")
    check_at = _BODY_AT + FINGERPRINT_BYTES
    fingerprint, check = data[_BODY_AT:check_at], int.from_bytes(data[check_at:_HEAD_AT], "big")
    flags, reader = data[_HEAD_AT], _Reader(data, _HEAD_AT + 1)
    if flags & ~63 != (_QUALITY if version == VERSION_WITH_QUALITY else 0):
        raise ValueError("the file is malformed: it sets flags of no known meaning")
    width, height = reader.varint(), reader.varint()
    tile = TILE_UNIT * reader.varint() if flags & _TILED else 0
    _check_size(width, height, tile, bool(flags & _TILED), len(data), max_pixels)
    quality = reader.varint() if flags & _QUALITY else None
    if quality is not None and not QUALITY_UNIT <= quality <= MAX_QUALITY:
        raise ValueError(f"the file is malformed: its quality (={quality / QUALITY_UNIT:g}) is that of no codec")
    count = reader.varint()
    if not 1 <= count <= MAX_STREAMS:
        raise ValueError(f"the file is malformed: it claims {count} streams; 1 to {MAX_STREAMS} are possible")
    lengths = [reader.varint() for _ in range(count)]
    beside = [reader.varint() if flags & flag else None for flag in (_ALPHA, _PROFILE)]
    if reader.at + sum(lengths) + sum(length or 0 for length in beside) != len(data):
        raise ValueError("the file is malformed: the lengths in its header do not sum to its own")
    alpha, profile = (None if length is None else reader.take(length) for length in beside)
    streams = tuple(reader.take(length) for length in lengths)
    threads = THREADS[flags >> _THREADS_AT & 3]
    grey = bool(flags & _GREY)
    return Container(fingerprint, width, height, grey, tile, threads, alpha, profile, streams, check, quality)


def _check_size(width: int, height: int, tile: int, tiled: bool, length: int, max_pixels: int) -> None:
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"the file is malformed: {width}x{height} is not the size of a picture")
    if width * height > max_pixels:
        raise ValueError(f"the picture has {width}x{height} pixels, more than `max_pixels` (={max_pixels})")
    if length < _least_length(width, height):
        raise ValueError(f"the file is malformed: {length} bytes are too few for a picture of {width}x{height}")
    if not tiled and padded_area(width, height) > WHOLE_PIXELS:
        raise ValueError(f"the file is malformed: a picture of {width}x{height} must be in tiles")
    if tiled and not TILE_UNIT <= tile <= MAX_TILE:
        raise ValueError(f"the file is malformed: its tiles (of {tile} pixels) must have {TILE_UNIT} to {MAX_TILE}")


def check_codec(container: Container, fingerprint: bytes) -> None:
    """Refuse a file that another codec made.

    Args:
        container: the file.
        fingerprint: of the codec at hand; its first 4 bytes are compared.

    Raises:
        ValueError: the fingerprints differ.
    """
    if container.fingerprint != fingerprint[:FINGERPRINT_BYTES]:
        raise ValueError(
            f"the file was made by codec {container.fingerprint.hex()}, not by this one "
            f"({fingerprint[:FINGERPRINT_BYTES].hex()})"
        )


def deflate(data: bytes) -> bytes:
    """zlib at its best level."""
    return zlib.compress(data, 9)


def inflate(packed: bytes, most: int, what: str) -> bytes:
    """Undo zlib, giving at most `most` bytes.

    Raises:
        ValueError: malformed, or longer; `what` names it.
    """
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, most + 1)
    except zlib.error as error:
        raise ValueError(f"the file is malformed: its {what} cannot be unpacked ({error})") from error
    if len(data) > most or not inflater.eof or inflater.unused_data:
        raise ValueError(f"the file is malformed: its {what} has not the length it must have")
    return data
