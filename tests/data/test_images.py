"""Image files of every kind become 8-bit RGB or are refused by name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import bad_images
import numpy as np
import pytest
from PIL import Image

from regicomp.data import dead_leaves, images, testsets

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_png_is_read_exactly(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert np.array_equal(images.read(tmp_path / "a.png"), RGB)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.tif")
    assert np.array_equal(images.read(tmp_path / "a.tif"), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("RGBA").save(tmp_path / "opaque.png")
    assert np.array_equal(images.read(tmp_path / "opaque.png"), RGB)
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert (images.read(tmp_path / "clear.png") == 255).all()


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(images.read(tmp_path / "a.png"), np.rot90(RGB, -1))


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: has more than 8 bits"):
        images.read(tmp_path / "deep.png")


@pytest.mark.parametrize(("name", "kind"), bad_images.REFUSED.items())
def test_bad_files_are_refused_by_kind(tmp_path: Path, name: str, kind: str) -> None:
    bad_images.make(tmp_path)
    if kind == "small":  # a matter of the crop, not of the file
        assert images.read(tmp_path / name).shape == (20, 96, 3)
        return
    with pytest.raises(images.BadImage, match=re.escape(f"{name}: {images.REFUSED[kind]}")) as caught:
        images.read(tmp_path / name)
    assert caught.value.kind == kind
    if kind != "truncated":  # the header tells all others before a run
        with pytest.raises(images.BadImage) as caught:
            images.header(tmp_path / name)
        assert caught.value.kind == kind


@pytest.mark.parametrize(("name", "kind"), bad_images.NOTED.items())
def test_unusual_files_are_used_and_noted(tmp_path: Path, name: str, kind: str) -> None:
    bad_images.make(tmp_path)
    assert images.header(tmp_path / name).noted == (kind,)
    pixels = images.read(tmp_path / name)
    expected = np.rot90(bad_images.RGB, -1) if kind == "rotated" else bad_images.RGB
    assert pixels.shape == expected.shape
    if name.endswith((".png", ".webp")) or kind == "extension":  # lossless: the first frame, upright
        assert np.array_equal(pixels, expected)


def test_a_good_file_is_not_noted(tmp_path: Path) -> None:
    bad_images.make(tmp_path)
    assert images.header(tmp_path / "good.png") == (96, 80, ())
    assert images.read(tmp_path / "good.png").shape == (80, 96, 3)


def test_a_missing_file_is_the_storage_s_fault(tmp_path: Path) -> None:
    for read in (images.read, images.header):
        with pytest.raises(images.BadImage, match=r"a\.png: cannot be read from its storage \(No such file") as caught:
            read(tmp_path / "a.png")
        assert caught.value.kind == "storage"


def test_a_worker_s_traceback_becomes_one_line() -> None:
    """The exception that torch raises in the main process: the class called with the worker's whole traceback."""
    text = "Caught BadImage in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File …\n"
    error = images.BadImage(text + "regicomp.data.images.BadImage: a.png: is empty (0 bytes)\n")
    assert str(error) == "a.png: is empty (0 bytes)"


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (images.read, images.size):
        with pytest.raises(ValueError, match=r"a\.png"):
            read(tmp_path / "a.png")


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        images.find(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no image"):
        images.find(tmp_path)


def test_dead_leaves_are_a_pure_function_of_seed_and_index() -> None:
    first, again, other = dead_leaves.make(2, 0), dead_leaves.make(3, 0), dead_leaves.make(1, 1)
    assert first[0].shape == (dead_leaves.SIDE, dead_leaves.SIDE, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=False))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_dead_leaves_have_a_natural_spectrum() -> None:
    """Power falls about as 1/f², the second-order statistics of photographs."""
    grey = np.mean([image.mean(-1) for image in dead_leaves.make(1, 3)], axis=0)
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(dead_leaves.SIDE)] * 2))
    band = (frequency > 0.01) & (frequency < 0.2)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band] + 1), 1)[0]
    assert -3.5 < slope < -1.5


def test_embedded_photographs_and_folders_are_test_sets(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "mine.png")
    photos, named, given = testsets.find(["photos", folder.name], str(folder.parent), [str(tmp_path)])
    assert (photos.name, named.name, given.name) == ("photos", folder.name, tmp_path.name)
    assert [image.name for image in given.images] == ["mine.png"]
    assert len(photos.images) == 5
    assert len(named.images) == 6
    for image in (photos.images[0], named.images[0]):
        pixels = image.load()
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


def test_unknown_and_doubled_test_sets_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`testsets` \(=kodka\).*data\.root"):
        testsets.find(["kodka"], "nowhere", [])
    with pytest.raises(ValueError, match="twice"):
        testsets.find([], "nowhere", [str(folder), str(folder)])


def test_a_part_of_a_test_set_is_spread_over_it(folder: Path) -> None:
    def names(most: int | None) -> list[str]:
        return [image.name for image in testsets.find([], "nowhere", [str(folder)], most)[0].images]

    assert names(None) == names(6) == names(9) == [f"{k}.png" for k in range(6)]
    assert names(3) == ["0.png", "2.png", "4.png"]
    assert names(1) == ["0.png"]


@pytest.mark.skipif(
    "CI" not in os.environ and "REGICOMP_DATA" not in os.environ,
    reason="the Kodak images are not part of the project: set REGICOMP_DATA to the folder that holds kodak/",
)
def test_kodak_is_whole() -> None:
    (kodak,) = testsets.find(["kodak"], os.environ["REGICOMP_DATA"], [])
    assert len(kodak.images) == 24
    shapes = [image.load().shape for image in kodak.images]
    assert shapes.count((512, 768, 3)) == 18
    assert shapes.count((768, 512, 3)) == 6
