"""Images out of an untrusted archive: no path leads outside, no size is unbounded, every file is whole."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from regicomp.data.images import SUFFIXES
from regicomp.utils.files import write_atomically

_MOST_FILES = 10_000
_MOST_BYTES = 200 * 2**20  # of one image
_MOST_TOTAL = 8 * 2**30
_CHUNK = 1 << 20


class _Member(NamedTuple):
    name: str
    bytes: int
    open: Callable[[], IO[bytes] | None]


def images(archive: Path, below: str | None, folder: Path) -> list[Path]:
    """Write the images of an archive into `folder`.

    Args:
        archive: a zip or tar file.
        below: the folder inside whose images are meant, wherever it lies; what follows it is the path below
            `folder`. None: all images, by their names alone.
        folder: where they go.

    Returns:
        The paths written.

    Raises:
        ValueError: no archive, damaged, no such image, a path that leads outside, or too many bytes.
        OSError: the disk is full.
    """
    written: dict[str, Path] = {}
    total = 0
    try:
        with _opened(archive) as members:
            for member in members:
                relative = _relative(member.name, below)
                if relative is None:
                    continue
                total += member.bytes
                if relative in written:
                    raise ValueError(f"{archive.name}: holds {relative} twice")
                if member.bytes > _MOST_BYTES or total > _MOST_TOTAL or len(written) >= _MOST_FILES:
                    raise ValueError(f"{archive.name}: {member.name} goes beyond what a set of test images may hold")
                source = member.open()
                if source is None:
                    raise ValueError(f"{archive.name}: {member.name} cannot be read")
                with source:
                    _copy(source, member, folder / relative, archive)
                written[relative] = folder / relative
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{archive.name}: is damaged or no zip or tar file ({error})") from error
    if not written:
        raise ValueError(f"{archive.name}: holds no image" + (f" below {below}" if below else ""))
    return sorted(written.values())


def _relative(name: str, below: str | None) -> str | None:
    """Path of a member below the target folder, or None if it is not meant."""
    if PurePosixPath(name).suffix.lower() not in SUFFIXES or "__MACOSX" in name or PurePosixPath(name).name[:1] == ".":
        return None
    if below is None:
        relative = PurePosixPath(name).name
    else:
        _, found, relative = f"/{name}".partition(f"/{below}")
        if not found:
            return None
    parts = PurePosixPath(relative).parts
    if "\\" in relative or "\0" in relative or not parts or ".." in parts or PurePosixPath(relative).is_absolute():
        raise ValueError(f"the archive's member {name!r} leads outside its folder")
    return "/".join(parts)


def _copy(source: IO[bytes], member: _Member, target: Path, archive: Path) -> None:
    def write(file: IO[bytes]) -> None:
        left = member.bytes
        while piece := source.read(min(_CHUNK, left + 1)):
            left -= len(piece)
            if left < 0:  # the header lies about the size
                raise ValueError(f"{archive.name}: {member.name} is longer than it says")
            file.write(piece)
        if left:
            raise ValueError(f"{archive.name}: {member.name} is cut off")

    write_atomically(target, write)


@contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            entries = [info for info in zipped.infolist() if not info.is_dir()]
            yield [_Member(info.filename, info.file_size, partial(zipped.open, info)) for info in entries]
    else:
        with tarfile.open(archive) as tar:
            # Links and devices are not followed: regular files alone.
            entries = [info for info in tar.getmembers() if info.isreg()]
            yield [_Member(info.name, info.size, partial(tar.extractfile, info)) for info in entries]
