"""Images that go bad at the start or during the run: counted, named once, retried, replaced or raised."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import bad_images
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from regicomp.data import image_pool, images
from regicomp.data.crops import CropDataset, StepSampler
from regicomp.data.image_pool import FileImage, ImagePool, load_pool
from regicomp.data.images import BadImage, Header, Pixels


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_pool, "_FIRST_WAIT", 0.001)


class Flaky:
    """A source whose storage fails some times before it gives in."""

    def __init__(self, value: int, failures: int = 0, kind: str = "storage") -> None:
        self.name, self.value, self.failures, self.kind = f"image {value}", value, failures, kind
        self.reads = 0

    def header(self) -> Header:
        """Always there."""
        return Header(64, 64)

    def read(self) -> Pixels:
        """Fail, or a flat image."""
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise BadImage(f"{self.name}: fails", self.kind)
        return np.full((64, 64, 3), self.value, np.uint8)


def test_every_bad_kind_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad_images.make(tmp_path)
    stored = [FileImage(path) for path in images.find(tmp_path)]
    for cache, lost in ((True, set()), (False, {"cut.png", "cut.jpg", "flipped.png"})):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = load_pool(stored, 64, cache, "skip")
        refused = {name: kind for name, kind in bad_images.REFUSED.items() if name not in lost}
        assert len(found) == len(stored) - len(refused)
        summary = next(r.getMessage() for r in caplog.records if "training images were skipped" in r.getMessage())
        assert summary.startswith(f"{len(refused)} of {len(stored)} ")
        for kind, count in Counter(refused.values()).items():
            assert f"{count} {kind}" in summary
        named = [name for name in refused for r in caplog.records if f"{name}:" in r.getMessage()]
        assert len(named) == len(set(named)) == min(10, len(refused))
        assert {refused[name] for name in named} == set(refused.values())
        assert (f"{len(refused) - 10} more" in caplog.text) == (len(refused) > 10)
        for kind, count in Counter(bad_images.NOTED.values()).items():
            assert f"{count} training images: {images.NOTED[kind]}; the first: " in caplog.text
        # Damage that only decoding shows is met, and replaced, during the run.
        dataset = CropDataset(found, 64, 0)
        assert all(dataset[k].shape == (3, 64, 64) for k in range(2 * len(found)))
        assert found.lost == len(lost)
        for name in lost:
            assert caplog.text.count(f"{name}: {images.REFUSED['truncated']}") == 1


def test_failing_storage_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    source = Flaky(7, failures=3)
    found = load_pool([source], 64, True, "raise", retries=3)
    assert (found[0] == 7).all()
    assert source.reads == 4
    source = Flaky(7, failures=3)
    with pytest.raises(BadImage, match="image 7: fails"):
        load_pool([source], 64, True, "raise", retries=2)
    damaged = Flaky(7, failures=1, kind="truncated")
    with pytest.raises(BadImage):
        load_pool([damaged], 64, True, "raise", retries=5)
    assert damaged.reads == 1  # what is damaged stays damaged


def test_waits_double(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(image_pool, "_FIRST_WAIT", 0.1)
    monkeypatch.setattr(image_pool.time, "sleep", waits.append)
    with pytest.raises(BadImage):
        ImagePool([Flaky(0, 99)], retries=3)[0]
    assert waits == pytest.approx([0.1, 0.2, 0.4])


def test_a_lost_image_is_replaced_by_the_next_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    stored = [Flaky(k, 10**9 if k == 2 else 0) for k in range(5)]
    dataset = CropDataset(ImagePool(stored, 2, "skip"), 64, 0)
    whole = CropDataset(ImagePool([Flaky(k) for k in range(5)]), 64, 0)
    for position in range(40):
        crop, expected = int(dataset[position][0, 0, 0]), int(whole[position][0, 0, 0])
        if expected == 2:
            order = [int(whole[5 * (position // 5) + slot][0, 0, 0]) for slot in range(5)]
            assert crop == order[(order.index(2) + 1) % 5]
        else:
            assert crop == expected
    assert dataset.pool.lost == 1
    assert caplog.text.count("image 2: fails") == 1
    assert stored[2].reads == 3 + 7  # retried the first time alone, then looked for once an epoch


def test_an_image_that_comes_back_is_used_again() -> None:
    source = Flaky(1, failures=2)
    dataset = CropDataset(ImagePool([Flaky(0), source], 0, "skip"), 64, 0)
    drawn = [int(dataset[k][0, 0, 0]) for k in range(8)]
    assert 1 not in drawn[:4]
    assert drawn.count(1) == 2


def test_raise_stops_at_the_first_and_so_does_a_storage_that_is_gone() -> None:
    with pytest.raises(BadImage, match="image 0: fails"):
        CropDataset(ImagePool([Flaky(0, 9)], 0, "raise"), 64, 0)[0]
    many = CropDataset(ImagePool([Flaky(k, 10**9) for k in range(100)], 0, "skip"), 64, 0)
    with pytest.raises(BadImage, match=r"21 training images in a row cannot be read; the last: image \d+: fails"):
        many[0]
    few = CropDataset(ImagePool([Flaky(k, 10**9) for k in range(3)], 0, "skip"), 64, 0)
    with pytest.raises(BadImage, match="3 training images in a row"):
        few[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_tenth_of_the_files_vanish_in_mid_epoch(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    for k in range(20):
        Image.fromarray(np.full((64, 64, 3), k, np.uint8)).save(tmp_path / f"{k:02d}.png")
    found = load_pool([FileImage(path) for path in images.find(tmp_path)], 64, False, "skip", retries=1)
    dataset = CropDataset(found, 64, 0)
    batches = iter(DataLoader(dataset, batch_sampler=StepSampler(4, 20), num_workers=workers, prefetch_factor=None))
    seen = [next(batches) for _ in range(5)]
    for name in ("03.png", "11.png"):
        (tmp_path / name).unlink()
    seen += list(batches)
    assert len(seen) == 20
    late = torch.cat(seen[10:])[:, 0, 0, 0].tolist()
    assert not {3, 11} & set(late)
    assert found.lost == 2  # counted over all workers


def test_a_worker_s_refusal_reaches_the_user_in_one_line(tmp_path: Path) -> None:
    for k in range(4):
        Image.fromarray(np.full((64, 64, 3), k, np.uint8)).save(tmp_path / f"{k}.png")
    found = load_pool([FileImage(path) for path in images.find(tmp_path)], 64, False, "raise")
    (tmp_path / "1.png").unlink()
    with pytest.raises(BadImage) as caught:
        list(DataLoader(CropDataset(found, 64, 0), batch_sampler=StepSampler(4, 2), num_workers=1))
    assert str(caught.value) == f"{tmp_path / '1.png'}: cannot be read from its storage (No such file or directory)"


def test_an_image_exchanged_for_a_smaller_one_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    found = load_pool([FileImage(tmp_path / "a.png")], 64, False, "raise")
    Image.new("RGB", (63, 64)).save(tmp_path / "a.png")
    with pytest.raises(BadImage, match=r"a\.png: 63x64 is now smaller than the crop"):
        CropDataset(found, 64, 0)[0]
