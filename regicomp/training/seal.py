"""A checksum inside a checkpoint: its archive's comment holds the SHA-256 of everything before it.

torch.load does not notice a byte that has changed inside a tensor. A checkpoint is a ZIP archive, and a ZIP archive
may end with a comment, so that file and checksum are one file and appear together or not at all.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"regicomp sha256 "
_COMMENT = len(_MAGIC) + hashlib.sha256().digest_size
_BLOCK = 1 << 20


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of the first `size` bytes."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(_BLOCK, size))):
        digest.update(block)
        size -= len(block)
    return digest.digest()


def seal(file: BinaryIO) -> None:
    """Give the ZIP archive in `file`, open for reading and writing, the comment with its checksum."""
    file.seek(-2, 2)  # the archive's last two bytes are its comment's length
    file.write(_COMMENT.to_bytes(2, "little"))
    size = file.tell()
    digest = _digest(file, size)
    file.seek(size)
    file.write(_MAGIC + digest)


def verify(path: Path) -> None:
    """Compare a file with its checksum.

    Raises:
        ValueError: it is cut off, altered, or was written without one.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < _COMMENT:
            raise ValueError("it is cut off")
        file.seek(size - _COMMENT)
        comment = file.read()
        if not comment.startswith(_MAGIC):
            raise ValueError("it ends without a checksum: cut off, altered, or not a checkpoint of regicomp.train")
        if _digest(file, size - _COMMENT) != comment[len(_MAGIC) :]:
            raise ValueError("its bytes do not match its checksum: the file was altered after it was written")
