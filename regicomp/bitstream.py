"""The container of one compressed image: magic, version, checksum, codec fingerprint, size, the coder's strings.

Layout: 3 bytes `RGC`, 1 byte version, 4 bytes CRC-32 of the rest (big-endian), then one MessagePack array
[fingerprint (4 bytes), width, height, shape, strings]. `shape` and `strings` are what the codec's `compress` gives.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import msgpack

_MAGIC = b"RGC"
_VERSION = 1
_HEADER = len(_MAGIC) + 1 + 4
FINGERPRINT_BYTES = 4


class Stream(NamedTuple):
    """A compressed image before serialization."""

    fingerprint: bytes  # first 4 bytes of the codec's fingerprint
    width: int  # pixels
    height: int
    shape: Any  # of the hyper-latent, as the codec's `decompress` takes it
    strings: Any  # entropy-coded bytes, nested as the codec's `decompress` takes them


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def pack(stream: Stream) -> bytes:
    """Serialize."""
    payload: bytes = msgpack.packb(_plain(stream))  # pyright: ignore[reportAssignmentType]
    return _MAGIC + bytes([_VERSION]) + zlib.crc32(payload).to_bytes(4, "big") + payload


def unpack(data: bytes, fingerprint: bytes) -> Stream:
    """Parse and verify.

    Args:
        data: a whole container.
        fingerprint: of the codec that is to decode it; its first 4 bytes are compared.

    Raises:
        ValueError: not a container, of a newer version, altered, cut, or made by another codec.
    """
    if len(data) < _HEADER or data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not a regicomp stream: it does not begin with `RGC`")
    if data[len(_MAGIC)] != _VERSION:
        raise ValueError(f"stream version (={data[len(_MAGIC)]}) must be {_VERSION}; a newer regicomp wrote it")
    payload = data[_HEADER:]
    if zlib.crc32(payload) != int.from_bytes(data[_HEADER - 4 : _HEADER], "big"):
        raise ValueError("the stream is cut off or altered: its checksum does not match")
    try:
        stream = Stream(*msgpack.unpackb(payload, strict_map_key=False))
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"the stream is malformed: {error}") from error
    if stream.fingerprint != fingerprint[:FINGERPRINT_BYTES]:
        raise ValueError(
            f"the stream was made by codec {stream.fingerprint.hex()}, not by this one "
            f"({fingerprint[:FINGERPRINT_BYTES].hex()})"
        )
    return stream
