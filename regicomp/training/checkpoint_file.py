"""A checkpoint's file: sealed, written whole or not at all, read without pickle."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from regicomp.utils.files import write_atomically


class _Disk:
    """A file that remembers why writing failed: torch.save reports a full disk as an internal error of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write `data`."""
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """Nothing: the caller flushes the file itself."""


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write `checkpoint` to `path`, with a checksum, whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """

    def save(file: BinaryIO) -> None:
        disk = _Disk(file)
        try:
            torch.save(checkpoint, disk)  # pyright: ignore[reportArgumentType]
        except RuntimeError as error:
            raise disk.failure or error from error
        seal(file)

    write_atomically(path, save)


class AtomicCheckpointIO(CheckpointIO):
    """Sealed checkpoints, written whole; loading allows tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path` whole or not at all."""
        write(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        """Read a checkpoint to the CPU."""
        return read(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint if it is there."""
        Path(path).unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Load a checkpoint to the CPU.

    Raises:
        ValueError: it is missing, damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise ValueError(f"`ckpt` (={path}) must be `last` or the path of a checkpoint; there is no such file")
    try:
        verify(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets in a damaged file
        raise ValueError(f"`ckpt` (={path}) cannot be read: {' '.join(str(error).split())[:200]}") from error


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
