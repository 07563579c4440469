"""Crops are a pure function of (seed, position)."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from regicomp.data import images
from regicomp.data.crops import CropDataset, StepSampler
from regicomp.data.image_pool import FileImage, ImagePool, load_pool


def _sources(folder: Path) -> list[FileImage]:
    return [FileImage(path) for path in images.find(folder)]


def _pool(count: int = 3) -> ImagePool:
    rng = np.random.default_rng(0)
    return ImagePool([rng.integers(0, 256, (70 + k, 90 - k, 3), dtype=np.uint8) for k in range(count)])


@given(st.integers(0, 2**31), st.integers(0, 10_000))
@settings(deadline=None, max_examples=50)
def test_a_crop_is_a_piece_of_its_image(seed: int, position: int) -> None:
    pool = _pool()
    crop = CropDataset(pool, 64, seed)[position]
    assert crop.shape == (3, 64, 64)
    assert crop.dtype == torch.uint8
    assert torch.equal(crop, CropDataset(_pool(), 64, seed)[position])
    pixels = crop.permute(1, 2, 0).numpy()
    rows = [np.lib.stride_tricks.sliding_window_view(pool[k], (64, 64, 3))[..., 0, :, :, :] for k in range(3)]
    assert any((r == p).all(axis=(-1, -2, -3)).any() for r in rows for p in (pixels, pixels[:, ::-1]))


def test_seeds_and_positions_differ() -> None:
    dataset, other = CropDataset(_pool(), 64, 1), CropDataset(_pool(), 64, 2)
    assert not torch.equal(dataset[0], other[0])
    assert not torch.equal(dataset[0], dataset[3])


def test_every_image_comes_once_an_epoch() -> None:
    solid = ImagePool([np.full((64, 64, 3), k, dtype=np.uint8) for k in range(7)])
    dataset = CropDataset(solid, 64, 3)
    epochs = [[int(dataset[7 * epoch + slot][0, 0, 0]) for slot in range(7)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_with_any_number_of_workers_the_batches_go_on(workers: int) -> None:
    dataset = CropDataset(_pool(), 64, 4)

    def batches(start: int, workers: int) -> list[torch.Tensor]:
        sampler = StepSampler(4, steps=6, start=start)
        assert len(sampler) == 6
        return list(DataLoader(dataset, batch_sampler=sampler, num_workers=workers))

    whole = batches(0, 0)
    assert len(whole) == 6
    rest = batches(2, workers)
    assert len(rest) == 4
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_ranks_share_each_batch_out() -> None:
    shares = [list(StepSampler(6, 2, rank=r, world=3)) for r in range(3)]
    for step in range(2):
        assert sorted(k for share in shares for k in share[step]) == list(range(6 * step, 6 * step + 6))


@pytest.mark.parametrize("cache", [True, False, "auto"])
def test_cached_or_not_the_crops_are_the_same(folder: Path, cache: bool | str) -> None:
    paths = _sources(folder)
    expected = CropDataset(load_pool(paths, 64, True, "raise"), 64, 0)
    found = CropDataset(load_pool(paths, 64, cache, "raise"), 64, 0)
    assert all(torch.equal(expected[k], found[k]) for k in range(12))


def _bad_folder(tmp_path: Path) -> Path:
    good = Image.fromarray(np.zeros((80, 80, 3), np.uint8))
    good.save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    good.crop((0, 0, 80, 20)).save(tmp_path / "small.png")
    return tmp_path


def test_bad_images_are_named_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pool = load_pool(_sources(_bad_folder(tmp_path)), 64, True, "skip")
    assert len(pool) == 1
    for name in ("cut.png", "empty.jpg", "text.png", "small.png"):
        assert name in caplog.text
    assert "4 of 5 training images were skipped" in caplog.text


def test_bad_images_can_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cut\.png"):
        load_pool(_sources(_bad_folder(tmp_path)), 64, True, "raise")


def test_a_folder_of_bad_images_alone_is_refused(tmp_path: Path) -> None:
    _bad_folder(tmp_path)
    (tmp_path / "good.png").unlink()
    with pytest.raises(ValueError, match="none of the 4 training images is usable"):
        load_pool(_sources(tmp_path), 64, True, "skip")
