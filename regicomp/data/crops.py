"""Training crops: a pure function of (seed, position), so that runs are paired and resume where they stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from regicomp import phases
from regicomp.data import images
from regicomp.data.images import Pixels
from regicomp.phases import Phases

log = logging.getLogger(__name__)


class ImagePool:
    """Decoded images in memory, or paths that are decoded whenever a crop is cut.

    Args:
        items: 8-bit RGB images, (H, W, 3) each, or paths.
    """

    def __init__(self, items: Sequence[Pixels] | Sequence[Path]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    @property
    def decoded(self) -> list[Pixels] | None:
        """The images, where all are in memory."""
        kept = [item for item in self._items if not isinstance(item, Path)]
        return kept if len(kept) == len(self._items) else None

    def __getitem__(self, index: int) -> Pixels:
        item = self._items[index]
        return images.read(item) if isinstance(item, Path) else item


def _usable(path: Path, crop: int, decode: bool) -> Pixels | Path:
    if decode:
        pixels = images.read(path)
        height, width = pixels.shape[:2]
    else:
        width, height = images.size(path)
        pixels = path
    if min(height, width) < crop:
        raise ValueError(f"{path}: {width}x{height} is smaller than `data.crop` (={crop})")
    return pixels


def load_pool(paths: Sequence[Path], crop: int, cache: bool | str, on_error: str) -> ImagePool:
    """The usable ones of the training images, decoded if they are to be cached.

    Args:
        paths: image files.
        crop: side of the crops in pixels; smaller images are not usable.
        cache: True, False, or "auto": if all fit into half of the memory that is free.
        on_error: "skip" names and counts bad images; "raise" stops at the first.

    Raises:
        ValueError: a bad image with on_error="raise", or no usable image at all.
    """
    if cache == "auto":
        cache = _decoded_bytes(paths) < psutil.virtual_memory().available / 2

    def attempt(path: Path) -> Pixels | Path | ValueError:
        try:
            return _usable(path, crop, bool(cache))
        except ValueError as error:
            return error

    with ThreadPoolExecutor() as threads:
        outcomes = list(
            tqdm(
                threads.map(attempt, paths),
                total=len(paths),
                desc="reading images",
                unit="image",
                leave=False,
            )
        )
    bad = [outcome for outcome in outcomes if isinstance(outcome, ValueError)]
    if bad and on_error == "raise":
        raise bad[0]
    for error in bad:
        log.warning("skipped: %s", error)
    if len(bad) == len(outcomes):
        raise ValueError(f"none of the {len(outcomes)} training images is usable; the first: {bad[0]}")
    if bad:
        log.warning("%d of %d training images were skipped", len(bad), len(outcomes))
    return ImagePool([outcome for outcome in outcomes if not isinstance(outcome, ValueError)])  # pyright: ignore


def _decoded_bytes(paths: Sequence[Path]) -> int:
    total = 0
    for path in paths:
        try:
            width, height = images.size(path)
        except ValueError:
            continue
        total += 3 * width * height
    return total


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """A permutation of the images for one pass over them."""
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


class Place(NamedTuple):
    """Where a crop lies in its image, in pixels, and whether it is flipped left to right."""

    top: int
    left: int
    crop: int
    flipped: bool


class CropDataset(Dataset[Tensor]):
    """Crop number `position`: every image once an epoch, at a random place, flipped left to right half the time.

    Items are uint8, (3, crop, crop); item k depends on (seed, k) alone.

    Args:
        pool: images of at least `crop` pixels a side.
        crop: side in pixels, or the run's phases, which give it by position.
        seed: of the run.
    """

    def __init__(self, pool: ImagePool, crop: int | Phases, seed: int) -> None:
        self.pool = pool
        self.phases = crop if isinstance(crop, Phases) else phases.one(crop, 1)
        self.seed = seed

    def image_of(self, position: int) -> int:
        """Index of the image that the crop is cut from."""
        epoch, slot = divmod(position, len(self.pool))
        return int(_order(self.seed, epoch, len(self.pool))[slot])

    def place_of(self, position: int, height: int, width: int) -> Place:
        """Where in its image of `height` × `width` pixels the crop lies."""
        crop = self.phases.crop_of(position)
        rng = np.random.default_rng([self.seed, 2, position])
        top, left = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
        return Place(top, left, crop, bool(rng.random() < 0.5))

    def __getitem__(self, position: int) -> Tensor:
        pixels = self.pool[self.image_of(position)]
        top, left, crop, flipped = self.place_of(position, *pixels.shape[:2])
        cut = pixels[top : top + crop, left : left + crop]
        if flipped:
            cut = cut[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(cut.transpose(2, 0, 1)))


class StepSampler(Sampler[list[int]]):
    """Positions of each codec update's crops, from any update on; its length is that of the whole run.

    Args:
        batch_size: crops an update, over all ranks, or the run's phases, which give it by update.
        steps: codec updates of the whole run.
        start: first update to yield.
        rank, world: this process's share: every `world`-th crop from `rank` on.
    """

    def __init__(self, batch_size: int | Phases, steps: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        self.phases = batch_size if isinstance(batch_size, Phases) else phases.one(1, batch_size)
        self.steps, self.start = steps, start
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            first = self.phases.first_position(step)
            yield list(range(first + self.rank, first + self.phases.at(step).batch_size, self.world))
