"""Crops cut on the device are those that the loader would cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from regicomp.config import phases
from regicomp.data import device_crops, images
from regicomp.data.crops import CropDataset
from regicomp.data.image_pool import FileImage, ImagePool, load_pool


def test_the_same_pixels() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (70 + 9 * k, 150 - 7 * k, 3), dtype=np.uint8) for k in range(5)]
    for picture in pictures:
        picture.setflags(write=False)  # as Pillow's are
    two = phases.Phases([phases.Phase(0, 64, 3, 1, 1, 0), phases.Phase(4, 128, 2, 1, 1, 0)])
    for schedule, pool in ((phases.one(64, 1), pictures), (two, [np.resize(p, (140, 150, 3)) for p in pictures])):
        crops = CropDataset(ImagePool(pool), schedule, seed=3)
        places = device_crops.PlaceDataset(crops, [p.shape for p in pool])
        kept = device_crops.DevicePool(pool, torch.device("cpu"))
        for first in range(0, 30, 6):
            for position in range(first, first + 6):
                expected = crops[position][None]
                found = kept.cut(places[position][None], schedule.crop_of(position))
                assert torch.equal(found, expected)
                assert found.shape[1:] == (3, schedule.crop_of(position), schedule.crop_of(position))
        together = torch.stack([places[k] for k in range(6)])
        assert torch.equal(kept.cut(together, 64), torch.stack([crops[k] for k in range(6)]))


def test_when_it_is_done(folder: Path) -> None:
    cpu, kept = torch.device("cpu"), load_pool([FileImage(p) for p in images.find(folder)], 64, True, "raise").decoded
    assert kept is not None
    assert device_crops.wanted(True, kept, cpu)
    assert not device_crops.wanted("auto", kept, cpu)
    assert not device_crops.wanted(False, kept, cpu)
    uncached = load_pool([FileImage(p) for p in images.find(folder)], 64, False, "raise").decoded
    assert uncached is None
    assert not device_crops.wanted("auto", uncached, torch.device("cuda"))
    with pytest.raises(ValueError, match=r"`data.device_crops`"):
        device_crops.wanted(True, uncached, cpu)


def test_images_leave_room_for_what_training_will_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are placed before activations and the optimizers' states exist."""
    pictures = [np.zeros((100, 100, 3), np.uint8)] * 10
    for free, fits in ((1_199_999, False), (1_200_001, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2 * free))
        assert device_crops.fits(pictures, torch.device("cuda")) == fits
