"""Training crops: a pure function of (seed, position), so that runs are paired and resume where they stopped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from regicomp.data.pool import ImagePool


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """A permutation of the images for one pass over them."""
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


class CropDataset(Dataset[Tensor]):
    """Crop number `position`: every image once an epoch, at a random place, flipped left to right half the time.

    Items are uint8, (3, crop, crop); item k depends on (seed, k) alone. Where the pool's policy is to skip, the next
    image in the epoch's order stands in for one that can no longer be read.

    Args:
        pool: images of at least `crop` pixels a side.
        crop: side in pixels.
        seed: of the run.

    Raises:
        BadImage: on access, if the policy is to raise, or if more than 20 images in a row are lost.
    """

    def __init__(self, pool: ImagePool, crop: int, seed: int) -> None:
        self.pool = pool
        self.crop = crop
        self.seed = seed

    def __getitem__(self, position: int) -> Tensor:
        pixels = self.pool.readable(self._candidates(position), self.crop)
        rng = np.random.default_rng([self.seed, 2, position])
        top = rng.integers(pixels.shape[0] - self.crop + 1)
        left = rng.integers(pixels.shape[1] - self.crop + 1)
        cut = pixels[top : top + self.crop, left : left + self.crop]
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(cut.transpose(2, 0, 1)))

    def _candidates(self, position: int) -> Iterator[int]:
        """The image of a position, then those after it in the epoch's order, to stand in for it."""
        epoch, slot = divmod(position, len(self.pool))
        order = _order(self.seed, epoch, len(self.pool))
        return (int(order[(slot + k) % len(order)]) for k in range(len(order)))


class StepSampler(Sampler[list[int]]):
    """Positions of each codec update's crops, from any update on; its length is that of the whole run.

    Args:
        batch_size: crops an update, over all ranks.
        steps: codec updates of the whole run.
        start: first update to yield.
        rank, world: this process's share: every `world`-th crop from `rank` on.
    """

    def __init__(self, batch_size: int, steps: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        self.batch_size, self.steps, self.start = batch_size, steps, start
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            first = step * self.batch_size
            yield list(range(first + self.rank, first + self.batch_size, self.world))
