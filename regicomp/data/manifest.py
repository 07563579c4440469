"""Manifests of the named data sets: files, SHA-256, sizes, publisher, licence; and their check against a folder.

A set whose files were not available when its manifest was written has no digests: the first fetch writes them to
`regicomp.lock.json` beside the images, and every later check compares the images with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from regicomp.data import images

LOCK = "regicomp.lock.json"
_CHUNK = 1 << 20


class File(NamedTuple):
    """One image of a set."""

    path: str  # below the set's folder
    bytes: int
    width: int
    height: int
    sha256: str
    urls: tuple[str, ...] = ()
    origin: str = ""
    licence: str = ""


class Archive(NamedTuple):
    """A zip or tar file that holds a whole set."""

    url: str
    below: str | None  # the images' folder inside; None: wherever they lie, by their names alone
    bytes: int | None
    sha256: str | None


class Manifest(NamedTuple):
    """A named set; `files` is empty where their digests are not known, and then `archives` is not."""

    name: str
    title: str
    folder: str  # below data.root
    available_at: str
    licence: str
    note: str
    images: int
    files: tuple[File, ...]
    urls: tuple[str, ...]  # with {path}
    archives: tuple[Archive, ...]
    measured: str  # where the images of the test set of this name begin

    def tested(self) -> tuple[File, ...]:
        """The files of the test set of this name."""
        return tuple(file for file in self.files if file.path.startswith(self.measured))


def names() -> list[str]:
    """Names of all sets."""
    return sorted(entry.name[:-5] for entry in _folder().iterdir() if entry.name.endswith(".json"))


def load(name: str) -> Manifest:
    """The manifest of a set.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in names():
        raise ValueError(f"`NAME` (={name}) must be one of {', '.join(names())}")
    return _load(name)


def _folder() -> Any:
    return resources.files("regicomp.data").joinpath("manifests")


@lru_cache(maxsize=32)
def _load(name: str) -> Manifest:
    plain = json.loads(_folder().joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return parse(plain)


def parse(plain: dict[str, Any]) -> Manifest:
    """A manifest from its JSON value."""
    return Manifest(
        name=plain["name"],
        title=plain["title"],
        folder=plain["folder"],
        available_at=plain["available_at"],
        licence=plain["licence"],
        note=plain.get("note", ""),
        images=plain["images"],
        files=tuple(File(**{**file, "urls": tuple(file.get("urls", ()))}) for file in plain["files"]),
        urls=tuple(plain["urls"]),
        archives=tuple(Archive(**archive) for archive in plain.get("archives", ())),
        measured=plain.get("measured", ""),
    )


def sha256_of(path: Path, seen: Callable[[int], object] = lambda _: None) -> str:
    """SHA-256 of a file in hexadecimal digits; `seen` is called with the size of every piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
            seen(len(piece))
    return digest.hexdigest()


def describe(folder: Path, path: Path) -> File:
    """The entry of an image file as it lies below `folder`.

    Raises:
        BadImage: it is no image.
    """
    width, height = images.size(path)
    return File(path.relative_to(folder).as_posix(), path.stat().st_size, width, height, sha256_of(path))


def known_files(manifest: Manifest, folder: Path) -> tuple[File, ...]:
    """The set's files by the manifest, or by the lock file that the first fetch left; empty if there is neither.

    Raises:
        ValueError: the lock file cannot be read.
    """
    if manifest.files or not (folder / LOCK).is_file():
        return manifest.tested()
    try:
        plain = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        return tuple(File(**file) for file in plain["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / LOCK}: cannot be read ({error}); remove it and fetch {manifest.name}") from error


def check_sizes(manifest: Manifest, folder: Path) -> list[Path]:
    """The test images of a set whose sizes in bytes are as recorded: quick, and enough to see what is missing.

    Raises:
        ValueError: a file is missing or of another size, with the command that repairs it.
    """
    mend = f"`python -m regicomp.fetch {manifest.name} --root {_root(manifest, folder)}` fetches and verifies it"
    files = known_files(manifest, folder)
    if not files:
        paths = images.find(folder)
        if len(paths) != manifest.images:
            raise ValueError(
                f"{folder}: holds {len(paths)} images, expected the {manifest.images} of {manifest.name}; {mend}"
            )
        return paths
    for file in files:
        path = folder / file.path
        size = path.stat().st_size if path.is_file() else None
        if size != file.bytes:
            found = "is missing" if size is None else f"has {size} bytes, expected {file.bytes}"
            raise ValueError(f"{path}: {found}; {mend}")
    return [folder / file.path for file in files]


def _root(manifest: Manifest, folder: Path) -> Path:
    depth = len(Path(manifest.folder).parts)
    return folder.parents[depth - 1] if folder.parts[-depth:] == Path(manifest.folder).parts else folder.parent


def faults(files: Sequence[File], folder: Path, seen: Callable[[int], object]) -> list[str]:
    """Files of a set that are missing or differ in SHA-256, a line each; `seen` gets the size of every piece."""
    found: list[str] = []
    for file in files:
        path = folder / file.path
        if not path.is_file():
            found.append(f"{path}: is missing")
        elif path.stat().st_size != file.bytes:
            found.append(f"{path}: has {path.stat().st_size} bytes, expected {file.bytes}")
        elif (digest := sha256_of(path, seen)) != file.sha256:
            found.append(f"{path}: SHA-256 is {digest}, expected {file.sha256}")
    return found
