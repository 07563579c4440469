"""Crops and flips made where training happens, from decoded images kept there; the same pixels as `CropDataset`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from regicomp.data.crops import CropDataset
from regicomp.data.images import Pixels

_SHARE = 1 / 4  # of the free memory; activations, gradients and the optimizers' states come later


class PlaceDataset(Dataset[Tensor]):
    """In place of each crop where it lies: image, top, left, crop, flipped; int64, (5,)."""

    def __init__(self, crops: CropDataset, sizes: Sequence[tuple[int, ...]]) -> None:
        self.crops = crops
        self.sizes = sizes

    def __getitem__(self, position: int) -> Tensor:
        image = self.crops.image_of(position)
        height, width = self.sizes[image][:2]
        return torch.tensor([image, *self.crops.place_of(position, height, width)])


class DevicePool:
    """Decoded images one after another in the device's memory.

    Args:
        images: 8-bit RGB, (H, W, 3) each.
        device: where they are kept.
    """

    def __init__(self, images: Sequence[Pixels], device: torch.device) -> None:
        sizes = [image.size for image in images]
        self.pixels = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        starts = [0]
        for image, size in zip(images, sizes, strict=True):
            writable = image.reshape(-1).copy()  # PyTorch warns of arrays that are not, as Pillow's
            self.pixels[starts[-1] : starts[-1] + size].copy_(torch.from_numpy(writable))
            starts.append(starts[-1] + size)
        self.starts = torch.tensor(starts[:-1], device=device)
        self.widths = torch.tensor([image.shape[1] for image in images], device=device)

    def cut(self, places: Tensor, crop: int) -> Tensor:
        """The crops at places (b, 5) on the device, uint8, (b, 3, crop, crop), laid out channels_last."""
        image, top, left, _, flipped = (column[:, None, None] for column in places.unbind(1))
        along = torch.arange(crop, device=places.device)
        columns = torch.where(flipped.bool(), crop - 1 - along, along) + left
        corner = self.starts[image] + 3 * ((top + along[:, None]) * self.widths[image] + columns)
        return self.pixels[corner[..., None] + torch.arange(3, device=places.device)].permute(0, 3, 1, 2)


def fits(images: Sequence[Pixels], device: torch.device) -> bool:
    """Whether the images take at most a part of the GPU's free memory, before training has taken its own."""
    free, _ = torch.cuda.mem_get_info(device)
    return sum(image.size for image in images) < free * _SHARE


def wanted(setting: bool | str, images: Sequence[Pixels] | None, device: torch.device) -> bool:
    """Whether crops are to be cut on `device`.

    Args:
        setting: `data.device_crops`: "auto", True or False.
        images: the decoded training images, None where they are not kept in memory.
        device: where training happens.

    Raises:
        ValueError: they are to be, but the images are not kept in memory.
    """
    if setting is True and images is None:
        raise ValueError("`data.device_crops` (=true) must be auto or false unless `data.cache` keeps images in memory")
    if setting == "auto":
        return images is not None and device.type == "cuda" and fits(images, device)
    return bool(setting)


def is_places(batch: Any) -> bool:
    """Whether a batch holds places, not crops."""
    return isinstance(batch, Tensor) and batch.dtype == torch.int64
