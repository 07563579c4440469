"""Pictures of every mode become what the table in `regicomp.image_codec.picture` says, or are refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import picture as draw
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms

from regicomp.image_codec import picture

PIXELS = draw(17, 33)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file by hand, since Pillow writes no 16-bit RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_are_kept(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=PROFILE)
    read = picture.read(tmp_path / "a.png")
    assert np.array_equal(read.pixels, PIXELS)
    assert (read.grey, read.alpha, read.profile) == (False, None, PROFILE)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg", "bmp"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(PIXELS).save(tmp_path / f"a.{suffix}", lossless=True, quality=95)
    read = picture.read(tmp_path / f"a.{suffix}")
    assert read.pixels.shape == (33, 17, 3)
    assert np.abs(read.pixels.astype(int) - PIXELS).mean() < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_is_grey(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    taken = picture.from_pillow(image)
    assert taken.grey
    assert np.array_equal(taken.pixels[..., 0], np.asarray(image.convert("L")))
    assert np.array_equal(taken.pixels[..., 0], taken.pixels[..., 2])
    assert picture.to_pillow(taken).mode == ("LA" if mode == "LA" else "L")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_kept_and_colours_under_it_too(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("L" if mode == "LA" else "RGB").convert(mode)
    image.putalpha(Image.fromarray(PIXELS[..., 1]))
    taken = picture.from_pillow(image)
    assert taken.alpha is not None
    assert np.array_equal(taken.alpha, PIXELS[..., 1])
    assert np.array_equal(taken.pixels, np.asarray(image.convert("RGBA"))[..., :3])


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(PIXELS).quantize(16)
    palette.save(tmp_path / "opaque.png")
    palette.save(tmp_path / "clear.png", transparency=3)
    opaque, clear = picture.read(tmp_path / "opaque.png"), picture.read(tmp_path / "clear.png")
    assert opaque.alpha is None
    assert not opaque.grey
    assert np.array_equal(opaque.pixels, np.asarray(palette.convert("RGB")))
    assert clear.alpha is not None
    assert np.array_equal(clear.alpha == 0, np.asarray(palette) == 3)


def test_cmyk_is_converted_and_its_profile_left_out(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS).convert("CMYK")
    image.save(tmp_path / "a.tif", icc_profile=PROFILE)
    read = picture.read(tmp_path / "a.tif")
    assert np.array_equal(read.pixels, np.asarray(image.convert("RGB")))
    assert read.profile is None


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(picture.read(tmp_path / "a.png").pixels, np.rot90(PIXELS, -1))


def test_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rgb.png").write_bytes(png(2, 1, 16, 2, b"\0" + bytes(12)))
    (tmp_path / "grey.png").write_bytes(png(2, 1, 16, 0, b"\0" + bytes(4)))
    tifffile.imwrite(tmp_path / "grey.tif", np.zeros((4, 5), np.uint16))
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((4, 5), np.float32))
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((4, 5, 3), np.uint16), photometric="rgb")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(
            ValueError, match=rf"{path.name}: has more than 8 bits a sample \(mode [A-Z;0-9]+\); convert"
        ):
            picture.read(path)
    with pytest.raises(ValueError, match=r"has a colour mode \(LAB\) that cannot become RGB"):
        picture.from_pillow(Image.new("LAB", (3, 3)))


def test_of_several_frames_the_first_is_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.fromarray(draw(20, 20, k)) for k in range(3)]
    for name, settings in (("a.webp", {"lossless": True}), ("a.png", {}), ("a.tif", {})):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **settings)
        assert np.array_equal(picture.read(tmp_path / name).pixels, np.asarray(frames[0]))
        assert caplog.messages.pop() == f"{tmp_path / name}: has 3 frames; the first is taken"
        caplog.clear()


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((picture.file_bytes(Image.fromarray(draw(20, 20)), tmp_path / "a.png"))[:200])
    with pytest.raises(ValueError, match=r"cut\.png: "):
        picture.read(tmp_path / "cut.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.png: "):
        picture.read(tmp_path / "text.png")


def test_size_is_bounded_before_pixels_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(100_000, 1000, 8, 2, b""))
    with pytest.raises(ValueError, match=r"bomb\.png: has 100000x1000 pixels, more than `max_pixels`"):
        picture.read(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"more than `max_pixels` \(=500\)"):
        picture.from_array(PIXELS, max_pixels=500)


@pytest.mark.parametrize(
    "array",
    [PIXELS.astype(np.float32), PIXELS[..., :2], PIXELS[None], np.zeros((0, 5, 3), np.uint8), PIXELS.astype(bool)],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an array"):
        picture.from_array(array)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_alpha_packs_without_loss(alpha: np.ndarray) -> None:
    height, width = alpha.shape
    packed = picture.pack_alpha(alpha)
    assert np.array_equal(picture.unpack_alpha(packed, width, height), alpha)
    with pytest.raises(ValueError, match="its alpha has not the length"):
        picture.unpack_alpha(packed, width, height + 1)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_files_are_written_without_loss(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))
    image.info["icc_profile"] = PROFILE
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(picture.file_bytes(image, path))
    with Image.open(path) as back:
        assert np.array_equal(np.asarray(back), np.asarray(image))
        assert back.info["icc_profile"] == PROFILE


def test_lossy_and_opaque_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="without further loss"):
        picture.image_format(Path("a.jpg"))
    with pytest.raises(ValueError, match="BMP cannot hold the picture's alpha"):
        picture.file_bytes(Image.new("RGBA", (3, 3)), Path("a.bmp"))
