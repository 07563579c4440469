"""Test sets by name: the photographs that the dependencies ship, and folders of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regicomp.data import images
from regicomp.data.images import Pixels


class TestImage(NamedTuple):
    """One image of a test set; `load` decodes it."""

    __test__ = False

    name: str
    load: Callable[[], Pixels]


class TestSet(NamedTuple):
    """A named list of images."""

    __test__ = False

    name: str
    images: list[TestImage]


def _photos() -> TestSet:
    """Photographs that scikit-image and scikit-learn ship, 300 to 640 pixels a side."""
    from skimage import data as skimage_data
    from sklearn.datasets import load_sample_image

    def shipped(load: Callable[[], object]) -> Callable[[], Pixels]:
        return lambda: np.array(load(), dtype=np.uint8)

    return TestSet(
        "photos",
        [
            TestImage("astronaut", shipped(skimage_data.astronaut)),
            TestImage("cat", shipped(skimage_data.chelsea)),
            TestImage("coffee", shipped(skimage_data.coffee)),
            TestImage("flower", shipped(lambda: load_sample_image("flower.jpg"))),
            TestImage("rocket", shipped(skimage_data.rocket)),
        ],
    )


def _reader(path: Path) -> Callable[[], Pixels]:
    return lambda: images.read(path)


def _folder(name: str, folder: Path) -> TestSet:
    paths = images.find(folder)
    for path in paths:
        images.size(path)
    return TestSet(name, [TestImage(path.relative_to(folder).as_posix(), _reader(path)) for path in paths])


def find(names: Iterable[str], root: str, folders: Iterable[str]) -> list[TestSet]:
    """The test sets a run is measured on.

    Args:
        names: `photos`, or folders of `root`.
        root: folder of named sets (`data.root`).
        folders: further folders, each a test set named after it (`data.test_dirs`).

    Raises:
        ValueError: a set is missing or empty, a file's header is unreadable, or two sets have one name.
    """
    found: list[TestSet] = []
    for name in names:
        if name == "photos":
            found.append(_photos())
        elif (Path(root) / name).is_dir():
            found.append(_folder(name, Path(root) / name))
        else:
            raise ValueError(
                f"`testsets` (={name}): {Path(root) / name} does not exist; expected `photos` or a folder of "
                f"`data.root` (={root}), which $REGICOMP_DATA sets"
            )
    found += [_folder(Path(folder).resolve().name, Path(folder)) for folder in folders]
    labels = [testset.name for testset in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"`testsets` and `data.test_dirs` name {label!r} twice; their folders' names must differ")
    return found
