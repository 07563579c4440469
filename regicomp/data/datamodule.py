"""The LightningDataModule: training crops from dead leaves, folders or shards."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from regicomp.config import phases as phases_
from regicomp.config.phases import Phases
from regicomp.config.settings import Data
from regicomp.data import dead_leaves, device_crops, images, shard_reader
from regicomp.data.crops import CropDataset, StepSampler
from regicomp.data.image_pool import FileImage, ImagePool, StoredImage, load_pool
from regicomp.launch import signals

log = logging.getLogger(__name__)


class CropData(LightningDataModule):
    """Crops for a run of `steps` codec updates; on resume it goes on at the trainer's update.

    Args:
        settings: the `data` part.
        steps: codec updates of the whole run.
        seed: of the run.
        phases: crop size and batch by update, in place of the group's.

    Raises:
        ValueError: missing or empty folder, or no usable image (raised here, before any training).
    """

    def __init__(self, settings: Data, steps: int, seed: int, phases: Phases | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.steps = steps
        self.phases = phases or phases_.one(settings.crop, settings.batch_size)
        self._pool: device_crops.DevicePool | None = None
        self.dataset = CropDataset(_pool(settings, seed, self.phases.largest_crop), self.phases, seed)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches of uint8 crops, (B, 3, crop, crop)."""
        trainer = self.trainer
        start, rank, world = (trainer.global_step, trainer.global_rank, trainer.world_size) if trainer else (0, 0, 1)
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        _check_shared_memory(self.settings.workers)
        decoded = self.dataset.pool.decoded
        dataset: Dataset[Tensor] = self.dataset
        self._pool = None
        if device_crops.wanted(self.settings.device_crops, decoded, device) and decoded is not None:
            self._pool = device_crops.DevicePool(decoded, device)
            dataset = device_crops.PlaceDataset(self.dataset, [image.shape for image in decoded])
        return DataLoader(
            dataset,
            batch_sampler=StepSampler(self.phases, self.steps, start, rank, world),
            num_workers=self.settings.workers,
            worker_init_fn=signals.left_alone,
            pin_memory=device.type == "cuda",
            persistent_workers=self.settings.workers > 0,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Cut the crops here where the batch says only where they lie."""
        if self._pool is None or not device_crops.is_places(batch):
            return batch
        return self._pool.cut(
            batch, self.phases.at(self.trainer.global_step).crop if self.trainer else self.settings.crop
        )

    def teardown(self, stage: str) -> None:
        """Report how many images could not be read during the run."""
        if self.dataset.pool.lost:
            log.warning(
                "%d of %d training images could not be read during the run and were replaced by others",
                self.dataset.pool.lost,
                len(self.dataset.pool),
            )


_OF_WORKERS = ("DataLoader worker", "shared memory(shm)", "torch_shm")  # in PyTorch's messages
_SHM, _LITTLE = Path("/dev/shm"), 48 << 10  # where locks and batches lie, and bytes too few for the locks alone
_SHORT = (
    "memory or /dev/shm may be short: fewer `data.workers`, or data.workers=0, need less; ckpt=last goes on from the "
    "last checkpoint"
)


def _check_shared_memory(workers: int) -> None:
    """Refuse to start processes whose locks would not find room: PyTorch fails there with tracebacks of its own.

    Raises:
        ChildProcessError: /dev/shm is full.
    """
    if workers and _SHM.is_dir() and shutil.disk_usage(_SHM).free < _LITTLE:
        raise ChildProcessError(f"processes that load data cannot start: {_SHM} is full ({_SHORT})")


@contextlib.contextmanager
def worker_failures() -> Iterator[None]:
    """Within, the death of a process that loads data, or its want of shared memory, is an error that says so.

    Raises:
        ChildProcessError: in place of PyTorch's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _OF_WORKERS):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines[0].startswith("Caught") else lines[0]
        raise ChildProcessError(f"a process that loads data failed, so the run ends: {reason} ({_SHORT})") from error


def _pool(settings: Data, seed: int, crop: int) -> ImagePool:
    if settings.train_dir is None:
        pool = dead_leaves.make(settings.images or 0, seed)
        if crop > dead_leaves.SIDE:
            raise ValueError(
                f"`data.crop` (={crop}) must be at most {dead_leaves.SIDE}, the side of the dead-leaves images"
            )
        return ImagePool(pool)
    return load_pool(_stored_images(settings.train_dir), crop, settings.cache, settings.on_error, settings.retries)


def _stored_images(folders: list[str]) -> Sequence[StoredImage]:
    """Images of folders, of prepared shards, or of both, in the order given."""
    parts: list[Sequence[StoredImage]] = [
        shard_reader.ShardList(Path(folder))
        if shard_reader.prepared(folder)
        else [FileImage(p) for p in images.find(folder)]
        for folder in folders
    ]
    return parts[0] if len(parts) == 1 else [image for part in parts for image in part]
