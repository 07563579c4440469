"""Shards: the same crops as from the folder they were made of, resumable, and standard tar files."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import bad_images
import numpy as np
import pytest
import quiet
import torch
from PIL import Image
from torch.utils.data import DataLoader

from regicomp import shards as command
from regicomp.config.settings import Settings
from regicomp.data import shard_reader as reading
from regicomp.data import shard_writer
from regicomp.data.crops import CropDataset, StepSampler
from regicomp.data.datamodule import CropData
from regicomp.data.image_pool import load_pool
from regicomp.data.images import BadImage
from regicomp.data.shard_reader import ShardList

pytest.importorskip("webdataset", reason="shards are written with the extra regicomp[shards]")
SETTINGS = shard_writer.Settings("original", True, True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images in two folders, PNG and JPEG."""
    folder = tmp_path_factory.mktemp("photos")
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 256, (80 + k, 100 - k, 3), dtype=np.uint8)
        path = folder / f"{k % 2}" / (f"a.b {k}.jpg" if k % 3 == 0 else f"ü{k}.PNG")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, in several shards."""
    folder = tmp_path_factory.mktemp("packed")
    outcomes = shard_writer.prepare(photos, folder, 60_000, SETTINGS, 2)
    assert len(outcomes) > 3
    return folder


def _data(resolved: Callable[..., Settings], folder: Path, steps: int, *more: str) -> CropData:
    cfg = resolved("data=shards", f"data.train_dir={folder}", "testsets=[photos]", *more)
    return CropData(cfg.data, steps, seed=3)


def test_crops_equal_the_folder_s(resolved: Callable[..., Settings], photos: Path, packed: Path) -> None:
    from_folder = _data(resolved, photos, 6).dataset
    from_shards = _data(resolved, packed, 6).dataset
    assert len(from_folder.pool) == len(from_shards.pool) == 12
    for position in range(40):
        assert torch.equal(from_folder[position], from_shards[position])


@pytest.mark.parametrize("workers", [0, 2])
def test_mid_epoch_the_same_samples_come_with_any_number_of_workers(
    resolved: Callable[..., Settings], packed: Path, workers: int
) -> None:
    dataset = _data(resolved, packed, 9).dataset

    def batches(start: int, workers: int, rank: int = 0, world: int = 1) -> list[torch.Tensor]:
        sampler = StepSampler(4, 9, start, rank, world)
        return list(DataLoader(dataset, batch_sampler=sampler, num_workers=workers))

    whole = batches(0, 0)
    rest = batches(5, workers)  # crop 20 of 12 images: in the middle of the second epoch
    assert len(rest) == 4
    assert all(torch.equal(a, b) for a, b in zip(whole[5:], rest, strict=True))
    ranks = [batches(0, workers, rank, 2) for rank in range(2)]
    for k, batch in enumerate(whole):
        assert torch.equal(batch, torch.stack([ranks[0][k], ranks[1][k]], 1).flatten(0, 1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The `srun` command is available", "ignore:You.re resuming from a checkpoint")
def test_a_run_on_shards_resumes_to_the_same_codec(
    resolved: Callable[..., Settings], packed: Path, tmp_path: Path
) -> None:
    """Straight through, and stopped in mid-epoch and gone on with: equal bits."""
    from lightning.pytorch import Trainer

    from regicomp.training import build

    def fit(data: CropData, steps: int, ckpt: Path | None) -> tuple[Trainer, dict[str, torch.Tensor]]:
        cfg = resolved("data=shards", f"data.train_dir={packed}", "testsets=[photos]", "trainer.max_steps=8")
        module = build.build_networks(cfg)
        trainer = quiet.trainer(steps, use_distributed_sampler=False, default_root_dir=tmp_path)
        trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
        return trainer, {key: value.clone() for key, value in module.state_dict().items()}

    _, straight = fit(_data(resolved, packed, 8, "data.workers=0"), 8, None)
    first, _ = fit(_data(resolved, packed, 8, "data.workers=0"), 5, None)
    first.save_checkpoint(tmp_path / "a.ckpt")
    _, resumed = fit(_data(resolved, packed, 8, "data.workers=2"), 8, tmp_path / "a.ckpt")
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the reader leaves files open
def test_any_webdataset_reader_can_stream_them(photos: Path, packed: Path) -> None:
    import webdataset

    urls = sorted(str(path) for path in packed.glob("*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    names = [name for path in sorted(packed.glob("shard-*.json")) for name in json.loads(path.read_text())["names"]]
    assert len(samples) == len(names) == 12
    for sample, name in zip(samples, names, strict=True):
        suffix = Path(name).suffix.lower()[1:]
        assert sample[suffix] == (photos / name).read_bytes()
    gc.collect()


def test_png_shards_hold_the_decoded_pixels(photos: Path, tmp_path: Path) -> None:
    shard_writer.prepare(photos, tmp_path / "png", 10**9, SETTINGS._replace(format="png"), 1)
    shard_writer.prepare(photos, tmp_path / "own", 10**9, SETTINGS, 1)
    png, own = ShardList(tmp_path / "png"), ShardList(tmp_path / "own")
    assert len(png) == len(own) == 12
    assert all(np.array_equal(a.read(), b.read()) for a, b in zip(png, own, strict=True))


def test_stopped_preparation_goes_on_and_ends_the_same(photos: Path, packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(packed, folder)
    (folder / reading.INDEX).unlink()
    (folder / "shard-000001.json").unlink()
    (folder / "shard-000002.tar").write_bytes(b"cut")
    kept = (folder / "shard-000000.tar").stat().st_mtime_ns
    with pytest.raises(ValueError, match="was not finished"):
        reading.prepared(folder)
    shard_writer.prepare(photos, folder, 60_000, SETTINGS, 1)
    assert (folder / "shard-000000.tar").stat().st_mtime_ns == kept
    for path in packed.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_other_settings_or_a_folder_in_use_are_refused(photos: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"made from other images or settings \(shard_bytes changed\)"):
        shard_writer.prepare(photos, packed, 70_000, SETTINGS, 1)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"`DST` .* must be a new or empty folder"):
        shard_writer.prepare(photos, tmp_path, 70_000, SETTINGS, 1)


def test_bad_images_are_left_out_or_stop_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad_images.make(tmp_path)
    with pytest.raises(BadImage):
        shard_writer.prepare(tmp_path, tmp_path.with_name("none"), 10**6, SETTINGS._replace(skip=False), 1)
    command.main([str(tmp_path), str(tmp_path.with_name("some")), "--jobs", "1"])
    told = capsys.readouterr().out
    refused = [name for name, kind in bad_images.REFUSED.items() if kind != "small"]
    assert all(f"{name}: " in told for name in refused)
    assert f"{len(refused)} left out" in told
    assert "2 images: EXIF rotation; turned upright" in told
    found = load_pool(ShardList(tmp_path.with_name("some")), 64, False, "skip")
    assert len(found) == 1 + len(bad_images.NOTED)  # small.png is packed, and skipped as it would be in its folder
    dataset = CropDataset(found, 64, 0)
    assert all(dataset[k].shape == (3, 64, 64) for k in range(12))


def test_a_shard_that_is_cut_or_gone_is_named(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(packed, folder)
    images = list(ShardList(folder))
    (folder / "shard-000000.tar").write_bytes(b"short")
    with pytest.raises(BadImage, match=r"shard-000000\.tar, image 0: the shard was cut off"):
        images[0].read()
    with pytest.raises(ValueError, match=r"shard-000000\.tar: has 5 bytes, expected \d+; prepare the shards again"):
        ShardList(folder)
    (folder / "shard-000000.tar").unlink()
    reading._open.cache_clear()
    with pytest.raises(BadImage, match="cannot be read from its storage") as caught:
        images[0].read()
    assert caught.value.kind == "storage"
    assert images[0].name.startswith(f"{folder / 'shard-000000.tar'}:0/")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--shard-size", "0"], "`--shard-size` (=0)"), (["--jobs", "0"], "`--jobs` (=0)"), ([], "holds no image")],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as end:
        command.main([str(tmp_path), str(tmp_path / "out"), *arguments])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
