"""Test sets by name: the photographs that come with regicomp, sets with a manifest, and folders of images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from regicomp.data import images, manifest, photographs
from regicomp.data.images import Pixels

log = logging.getLogger(__name__)


class TestImage(NamedTuple):
    """One image of a test set; `load` decodes it, here or, since it can be pickled, in another process."""

    __test__ = False

    name: str
    load: Callable[[], Pixels]


class TestSet(NamedTuple):
    """A named list of images."""

    __test__ = False

    name: str
    images: list[TestImage]


def _photos() -> TestSet:
    """Photographs that come with regicomp, 300 to 640 pixels a side."""
    return TestSet("photos", [TestImage(name, partial(photographs.photograph, name)) for name in photographs.TEST])


def _folder(name: str, folder: Path) -> TestSet:
    return _of(name, folder, images.find(folder))


def _of(name: str, folder: Path, paths: Iterable[Path]) -> TestSet:
    paths = list(paths)
    for path in paths:
        images.header(path)  # what would be refused is refused before a run, not after it
    return TestSet(name, [TestImage(path.relative_to(folder).as_posix(), partial(images.read, path)) for path in paths])


def _named(name: str, root: Path) -> TestSet:
    """A set that has a manifest: its files and no others, their sizes checked."""
    about = manifest.load(name)
    folder = next((root / place for place in (about.folder, name) if (root / place).is_dir()), None)
    if folder is None:
        raise ValueError(
            f"`testsets` (={name}): {root / about.folder} does not exist; "
            f"`python -m regicomp.fetch {name} --root {root}` fetches it, or `data.root` ($REGICOMP_DATA) is another "
            "folder"
        )
    paths = manifest.check_sizes(about, folder)
    known = {file.path for file in about.files} or {path.relative_to(folder).as_posix() for path in paths}
    others = [path for path in images.find(folder) if path.relative_to(folder).as_posix() not in known]
    if others:
        log.warning(
            "%s: %d images that are not part of the set are not measured, such as %s", name, len(others), others[0]
        )
    return _of(name, folder, paths)


def spread(testset: TestSet, most: int | None) -> TestSet:
    """At most so many images of a test set, evenly spread over it; None: all."""
    count = len(testset.images)
    if most is None or most >= count:
        return testset
    return testset._replace(images=[testset.images[k * count // most] for k in range(most)])


def find(names: Iterable[str], root: str, folders: Iterable[str], most: int | None = None) -> list[TestSet]:
    """The test sets a run is measured on.

    Args:
        names: `photos`, sets that have a manifest (regicomp/data/manifests), or folders of `root`.
        root: folder of named sets (`data.root`).
        folders: further folders, each a test set named after it (`data.test_dirs`).
        most: images a test set (`evaluation.images`), see `spread`; None: all.

    Raises:
        ValueError: a set is missing, incomplete or empty, a file's header is unreadable or of more than 8 bits a
            sample, or two sets have one name.
    """
    found: list[TestSet] = []
    for name in names:
        if name == "photos":
            found.append(_photos())
        elif name in manifest.names():
            found.append(_named(name, Path(root)))
        elif (Path(root) / name).is_dir():
            found.append(_folder(name, Path(root) / name))
        else:
            raise ValueError(
                f"`testsets` (={name}): {Path(root) / name} does not exist; expected `photos`, one of "
                f"{', '.join(manifest.names())}, or a folder of `data.root` (={root}), which $REGICOMP_DATA sets"
            )
    found += [_folder(Path(folder).resolve().name, Path(folder)) for folder in folders]
    labels = [testset.name for testset in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"`testsets` and `data.test_dirs` name {label!r} twice; their folders' names must differ")
    return [spread(testset, most) for testset in found]
