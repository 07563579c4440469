"""Pairs of input and output: single files, folders, and streams, of which `-` is standard input or output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from regicomp.data.images import MAX_FILE_BYTES
from regicomp.image_codec import picture
from regicomp.utils import files

SUFFIX = ".rgc"
_MODELS = (".safetensors", ".pth", ".pt", ".pth.tar", ".tar")


class Job(NamedTuple):
    """One file to make of another."""

    source: Path
    target: Path


def is_stream(path: Path) -> bool:
    """Whether `path` is `-`, /dev/stdin, a pipe or another thing that is read or written once, from front to back."""
    special = str(path) == "-" or path.parts[:2] in (("/", "dev"), ("/", "proc"))
    return special or (path.exists() and not path.is_file() and not path.is_dir())


def read_bytes(path: Path) -> bytes:
    """The content of a file or stream.

    Raises:
        ValueError: a stream holds more than an image file may.
        OSError: it cannot be read.
    """
    if not is_stream(path):
        return path.read_bytes()
    if str(path) == "-":
        data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    else:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: holds more than {MAX_FILE_BYTES} bytes")
    return data


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, or to a stream."""
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    elif is_stream(path):
        path.write_bytes(data)
    else:
        files.write_bytes(path, data)


def models(sources: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Which of these are codecs, files or folders of runs, by their names; and the others."""
    found = [p for p in sources if p.name.endswith(_MODELS) or (p / "codec.safetensors").is_file()]
    return found, [path for path in sources if path not in found]


def find(sources: Sequence[Path], reads: frozenset[str]) -> list[tuple[Path, Path]]:
    """The files that are meant, each with its path below the folder it was found in.

    Args:
        sources: files and folders; folders are searched through.
        reads: suffixes of what is taken from folders.

    Raises:
        ValueError: a source is missing, or a folder holds nothing to read.
    """
    found: list[tuple[Path, Path]] = []
    for source in sources:
        if source.is_dir():
            inside = sorted(p for p in source.rglob("*") if p.suffix.lower() in reads and p.is_file())
            if not inside:
                raise ValueError(f"{source}: holds no file to read ({', '.join(sorted(reads))})")
            found += [(p, p.relative_to(source)) for p in inside]
        elif source.is_file() or is_stream(source):
            found.append((source, Path(source.name)))
        else:
            raise ValueError(f"{source}: no such file or folder")
    return found


def plan(sources: Sequence[Path], out: Path, reads: frozenset[str], writes: str, force: bool) -> list[Job]:
    """Which file becomes which.

    Args:
        sources: see `find`.
        out: a stream, or a file if there is one source file and `out` has a suffix, else a folder.
        reads: see `find`.
        writes: suffix of what is made in a folder.
        force: whether files may be replaced.

    Raises:
        ValueError: see `find`; or two sources would make one file, or a file would be replaced.
    """
    found = find(sources, reads)
    single = len(found) == 1 and not sources[0].is_dir()
    if single and is_stream(out):
        return [Job(found[0][0], out)]
    if single and out.suffix and not out.is_dir():
        jobs = [Job(found[0][0], out)]
    else:
        a_file = out.suffix.lower() in {SUFFIX, *picture.INPUTS, *picture.OUTPUTS}
        if not out.is_dir() and (out.exists() or a_file or is_stream(out)):
            raise ValueError(f"{out}: must be a folder, since there are several pictures")
        if streams := [source for source, _ in found if is_stream(source)]:
            raise ValueError(f"{streams[0]}: a stream's picture needs a file name to be written to, not a folder's")
        jobs = [Job(source, out / below.with_suffix(writes)) for source, below in found]
    made: dict[Path, Path] = {}
    for job in jobs:
        if (other := made.setdefault(job.target, job.source)) != job.source:
            raise ValueError(f"{job.source} and {other} would both become {job.target}")
        if job.target.exists() and job.target.samefile(job.source):
            raise ValueError(f"{job.target}: would replace its own source")
        if job.target.exists() and not force:
            raise ValueError(f"{job.target}: exists; --force replaces it")
    return jobs
