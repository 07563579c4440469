"""Training crops: a pure function of (seed, position), so that runs are paired and resume where they stopped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from regicomp.config import phases
from regicomp.config.phases import Phases
from regicomp.data.image_pool import ImagePool


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

    Items are uint8, (3, crop, crop); item k depends on (seed, k) alone. Where the pool's policy is to skip, the next
    image in the epoch's order replaces one that can no longer be read.

    Args:
        pool: images of at least `crop` pixels a side.
        crop: side in pixels, or the run's phases, which give it by position.
        seed: of the run.

    Raises:
        BadImage: on access, if the policy is to raise, or if more than 20 images in a row are lost.
    """

    def __init__(self, pool: ImagePool, crop: int | Phases, seed: int) -> None:
        self.pool = pool
        self.phases = crop if isinstance(crop, Phases) else phases.one(crop, 1)
        self.seed = seed

    def image_of(self, position: int) -> int:
        """Index of the image that the crop is cut from."""
        return next(iter(self._candidates(position)))

    def place_of(self, position: int, height: int, width: int) -> Place:
        """Where in its image of `height` × `width` pixels the crop lies."""
        crop = self.phases.crop_of(position)
        rng = np.random.default_rng([self.seed, 2, position])
        top, left = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
        return Place(top, left, crop, bool(rng.random() < 0.5))

    def __getitem__(self, position: int) -> Tensor:
        pixels = self.pool.readable(self._candidates(position), self.phases.crop_of(position))
        top, left, crop, flipped = self.place_of(position, *pixels.shape[:2])
        cut = pixels[top : top + crop, left : left + crop]
        if flipped:
            cut = cut[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(cut.transpose(2, 0, 1)))

    def _candidates(self, position: int) -> Iterator[int]:
        """The image of a position, then those after it in the epoch's order, to replace it."""
        epoch, slot = divmod(position, len(self.pool))
        order = _order(self.seed, epoch, len(self.pool))
        return (int(order[(slot + k) % len(order)]) for k in range(len(order)))


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
