"""The images a run trains on: kept decoded in memory, or read again and again from files or shards."""

from __future__ import annotations

import logging
import mmap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray
from tqdm import tqdm

from regicomp.data import images
from regicomp.data.images import BadImage, Header, Pixels

log = logging.getLogger(__name__)
T = TypeVar("T")

_REPLACEMENTS = 20  # consecutive images that may be lost before the storage itself counts as gone
_NAMED = 10  # skipped images whose names are told
_FIRST_WAIT = 0.1  # seconds before the first retry; doubled before each further one


class StoredImage(Protocol):
    """An image in a file or shard; both methods raise BadImage."""

    @property
    def name(self) -> str:
        """The name that messages give it."""
        ...

    def header(self) -> Header:
        """Size, and which of images.NOTED hold, without decoding the pixels."""
        ...

    def read(self) -> Pixels:
        """Decode it, (H, W, 3)."""
        ...


class FileImage(NamedTuple):
    """An image file."""

    path: Path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def header(self) -> Header:
        """From the file's first bytes."""
        return images.header(self.path)

    def read(self) -> Pixels:
        """Read and decode the file."""
        return images.read(self.path)


def _patiently(call: Callable[[], T], retries: int) -> T:
    """`call()`, repeated after 0.1, 0.2, 0.4, … seconds while the storage fails and retries are left."""
    for attempt in range(retries):
        try:
            return call()
        except BadImage as error:
            if error.kind != "storage":
                raise
            time.sleep(_FIRST_WAIT * 2**attempt)
    return call()


class _Part(Sequence[StoredImage]):
    """Some images of a sequence, without a list of them: a set of shards makes its images when asked."""

    def __init__(self, stored: Sequence[StoredImage], indices: NDArray[np.int64]) -> None:
        self._images, self._indices = stored, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> StoredImage:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._images[int(self._indices[index])]


class ImagePool:
    """Decoded images in memory, or stored ones that are read whenever a crop is cut.

    Args:
        items: 8-bit RGB images, (H, W, 3) each, or stored images.
        retries: how often a read that fails in the storage is repeated, after waits from 0.1 s on, doubling.
        on_error: "skip": another image replaces one that cannot be read; "raise": the run ends.
    """

    def __init__(
        self, items: Sequence[Pixels] | Sequence[StoredImage], retries: int = 0, on_error: str = "raise"
    ) -> None:
        self._items = items
        self._retries = retries
        self._skips = on_error == "skip"
        # Shared with the loader's workers, so that an image is named once and counted over all of them.
        # Memory of their common parent, not of /dev/shm, which may be full.
        self._lost = np.frombuffer(mmap.mmap(-1, max(1, len(items))), np.uint8)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def decoded(self) -> list[Pixels] | None:
        """The images, where they are in memory."""
        if len(self._items) == 0 or not isinstance(self._items[0], np.ndarray):
            return None
        return [item for item in self._items if isinstance(item, np.ndarray)]

    def __getitem__(self, index: int) -> Pixels:
        """Image `index`, (H, W, 3).

        Raises:
            BadImage: it cannot be read, after the retries; an image that failed before is tried once, without a wait.
        """
        item = self._items[index]
        if not hasattr(item, "read"):
            return item  # pyright: ignore[reportReturnType]
        return _patiently(item.read, 0 if self._lost[index] else self._retries)  # pyright: ignore

    def readable(self, candidates: Iterable[int], crop: int) -> Pixels:
        """The first of the candidates that can be read and is at least `crop` pixels a side, (H, W, 3).

        Raises:
            BadImage: the first cannot, with on_error="raise"; or more than 20 in a row cannot.
        """
        lost: list[BadImage] = []
        for index in candidates:
            try:
                pixels = self[index]
                height, width = pixels.shape[:2]
                if min(height, width) < crop:  # a file that was exchanged since the run began
                    raise BadImage(f"{self._name(index)}: {width}x{height} is now smaller than the crop", "small")
                return pixels
            except BadImage as error:
                if not self._skips:
                    raise
                self._count(index, error)
                lost.append(error)
            if len(lost) > _REPLACEMENTS:
                break
        raise BadImage(f"{len(lost)} training images in a row cannot be read; the last: {lost[-1]}", lost[-1].kind)

    def _count(self, index: int, error: BadImage) -> None:
        if not self._lost[index]:
            self._lost[index] = 1
            log.warning("skipped during the run: %s", error)

    def _name(self, index: int) -> str:
        return getattr(self._items[index], "name", f"image {index}")

    @property
    def lost(self) -> int:
        """Number of images that could not be read during the run, over all worker processes."""
        return int(self._lost.sum())


def load_pool(
    stored: Sequence[StoredImage], crop: int, cache: bool | str, on_error: str, retries: int = 0
) -> ImagePool:
    """The usable ones of the training images, decoded if they are to be cached.

    Args:
        stored: the images.
        crop: side of the crops in pixels; smaller images are not usable.
        cache: True, False, or "auto": if all fit into half of the memory that is free.
        on_error: "skip" names and counts bad images; "raise" stops at the first.
        retries: as in ImagePool.

    Raises:
        ValueError: a bad image with on_error="raise", or no usable image at all.
    """
    headers = _each(lambda image: _patiently(lambda: _fitting(image, crop), retries), stored, "reading headers")
    if cache == "auto":
        sizes = [3 * h.width * h.height for h in headers if not isinstance(h, BadImage)]
        cache = sum(sizes) < psutil.virtual_memory().available / 2
    loaded: Sequence[Pixels | StoredImage | BadImage] = stored
    if cache:
        good = [s for s, h in zip(stored, headers, strict=True) if not isinstance(h, BadImage)]
        decoded = iter(_each(lambda image: _patiently(image.read, retries), good, "reading images"))
        loaded = [h if isinstance(h, BadImage) else next(decoded) for h in headers]
    outcomes = [h if isinstance(h, BadImage) else item for h, item in zip(headers, loaded, strict=True)]
    _tell_bad([o for o in outcomes if isinstance(o, BadImage)], len(stored), on_error)
    _tell_noted(stored, headers)
    if cache:
        return ImagePool([o for o in outcomes if isinstance(o, np.ndarray)], retries, on_error)
    kept = np.flatnonzero([not isinstance(o, BadImage) for o in outcomes])
    return ImagePool(_Part(stored, kept), retries, on_error)


def _fitting(image: StoredImage, crop: int) -> Header:
    header = image.header()
    if min(header.width, header.height) < crop:
        raise BadImage(f"{image.name}: {header.width}x{header.height} is smaller than `data.crop` (={crop})", "small")
    return header


def _each(call: Callable[[StoredImage], T], stored: Sequence[StoredImage], label: str) -> list[T | BadImage]:
    """`call` on every image, in threads (decoders release the interpreter lock); failures take their place."""

    def attempt(image: StoredImage) -> T | BadImage:
        try:
            return call(image)
        except BadImage as error:
            return error

    def attempt_all(start: int) -> list[T | BadImage]:
        return [attempt(stored[k]) for k in range(start, min(start + group, len(stored)))]

    # Images in groups: a million tasks of their own would cost more than what they do.
    group = max(1, min(256, len(stored) // 64))
    starts = range(0, len(stored), group)
    found: list[T | BadImage] = []
    with (
        ThreadPoolExecutor() as threads,
        tqdm(total=len(stored), desc=label, unit="image", leave=False, delay=1) as bar,
    ):
        for part in threads.map(attempt_all, starts):
            found += part
            bar.update(len(part))
    return found


def _tell_bad(bad: list[BadImage], total: int, on_error: str) -> None:
    if bad and on_error == "raise":
        raise bad[0]
    seen: Counter[str] = Counter()
    turns = {error: seen[error.kind] for error in bad if seen.update([error.kind]) is None}
    for error in sorted(bad, key=turns.__getitem__)[:_NAMED]:  # some of every kind
        log.warning("skipped: %s", error)
    if len(bad) > _NAMED:
        log.warning("skipped: %d more, which python -m regicomp.check_data names", len(bad) - _NAMED)
    if len(bad) == total:
        raise ValueError(f"none of the {total} training images is usable; the first: {bad[0]}")
    if bad:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(error.kind for error in bad).most_common())
        log.warning("%d of %d training images were skipped (%s)", len(bad), total, kinds)


def _tell_noted(stored: Sequence[StoredImage], headers: Sequence[Header | BadImage]) -> None:
    for kind, change in images.NOTED.items():
        found = [k for k, header in enumerate(headers) if isinstance(header, Header) and kind in header.noted]
        if found:
            log.warning("%d training images: %s; the first: %s", len(found), change, stored[found[0]].name)
