"""The LightningDataModule: training crops from dead leaves or folders."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule
from omegaconf import DictConfig, ListConfig
from torch import Tensor
from torch.utils.data import DataLoader

from regicomp import phases as phases_
from regicomp.data import dead_leaves, images
from regicomp.data.crops import CropDataset, ImagePool, StepSampler, load_pool
from regicomp.phases import Phases


class CropData(LightningDataModule):
    """Crops for a run of `steps` codec updates; on resume it goes on at the trainer's update.

    Args:
        cfg: the `data` group.
        steps: codec updates of the whole run.
        seed: of the run.
        phases: crop size and batch by update, in place of the group's.

    Raises:
        ValueError: missing or empty folder, or no usable image (raised here, before any training).
    """

    def __init__(self, cfg: DictConfig, steps: int, seed: int, phases: Phases | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        self.steps = steps
        self.phases = phases or phases_.one(cfg.crop, cfg.batch_size)
        self.dataset = CropDataset(_pool(cfg, seed, self.phases.largest_crop), self.phases, seed)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches of uint8 crops, (B, 3, crop, crop)."""
        trainer = self.trainer
        start, rank, world = (trainer.global_step, trainer.global_rank, trainer.world_size) if trainer else (0, 0, 1)
        return DataLoader(
            self.dataset,
            batch_sampler=StepSampler(self.phases, self.steps, start, rank, world),
            num_workers=self.cfg.workers,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            persistent_workers=self.cfg.workers > 0,
        )


def _pool(cfg: DictConfig, seed: int, crop: int) -> ImagePool:
    if cfg.train_dir is None:
        pool = dead_leaves.make(cfg.images, seed)
        if crop > dead_leaves.SIDE:
            raise ValueError(
                f"`data.crop` (={crop}) must be at most {dead_leaves.SIDE}, the side of the dead-leaves images"
            )
        return ImagePool(pool)
    folders = list(cfg.train_dir) if isinstance(cfg.train_dir, ListConfig) else cfg.train_dir
    return load_pool(images.find(folders), crop, cfg.cache, cfg.on_error)
