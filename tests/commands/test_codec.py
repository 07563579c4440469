"""`python -m regicomp.codec`, called as people call it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import picture as draw
from PIL import Image

from regicomp import codec
from regicomp.data import images
from regicomp.image_codec import picture

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = ("--model", str(GOLDEN / "codec.safetensors"))


def run(*args: object) -> int:
    """The command's exit status."""
    try:
        codec.main([str(a) for a in args])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    inside = tmp_path / "photos"
    (inside / "deep").mkdir(parents=True)
    Image.fromarray(draw(50, 40, 0)).save(inside / "a.png")
    Image.fromarray(draw(30, 20, 1)).convert("L").save(inside / "b.tif")
    Image.fromarray(draw(20, 30, 2)).save(inside / "deep" / "c.jpg")
    (inside / "notes.txt").write_text("no picture")
    return inside


def test_a_file_there_and_back(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("encode", photos / "a.png", tmp_path / "a.rgc", *MODEL, "--report") == 0
    report = capsys.readouterr().out
    size = (tmp_path / "a.rgc").stat().st_size
    assert f"{8 * size / 2000:.4f}" in report
    assert run("decode", tmp_path / "a.rgc", tmp_path / "back.png", *MODEL) == 0
    back, source = picture.read(tmp_path / "back.png").pixels, picture.read(photos / "a.png").pixels
    psnr = 10 * np.log10(255**2 / np.mean((back.astype(float) - source) ** 2))
    assert f"{psnr:.3f}" in report


def test_a_folder_there_and_back(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("encode", photos, tmp_path / "small", *MODEL, "--report") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("mean")
    made = sorted(p.relative_to(tmp_path / "small").as_posix() for p in (tmp_path / "small").rglob("*.*"))
    assert made == ["a.rgc", "b.rgc", "deep/c.rgc"]
    assert run("decode", tmp_path / "small", tmp_path / "back", *MODEL, "--report") == 0
    with Image.open(tmp_path / "back" / "b.png") as grey, Image.open(tmp_path / "back" / "deep" / "c.png") as deep:
        assert (grey.mode, deep.size) == ("L", (20, 30))


def test_info_tells_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", GOLDEN / "rgba_icc.rgc", GOLDEN / "tiles.rgc") == 0
    told = capsys.readouterr().out
    for expected in ("33x17 RGB with alpha", "stream 2", "alpha", "ICC profile", "header", "in tiles of 256"):
        assert expected in told
    size = (GOLDEN / "tiles.rgc").stat().st_size
    assert f"{size} bytes{8 * size / (600 * 300):>9.4f} bpp" in told


def test_files_are_replaced_by_force_only(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.rgc"
    out.write_text("mine")
    assert run("encode", photos / "a.png", out, *MODEL) == 2
    assert capsys.readouterr().err == f"error: {out}: exists; --force replaces it\n"
    assert out.read_text() == "mine"
    assert run("encode", photos / "a.png", out, *MODEL, "--force") == 0
    assert out.read_bytes()[:3] == b"RGC"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_a_bad_file_among_good_ones_is_told_and_the_others_are_done(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:99])
    assert run("encode", photos, tmp_path / "small", *MODEL) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"error: {photos / 'broken.png'}: ")
    assert len(list((tmp_path / "small").rglob("*.rgc"))) == 3


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("codec", "was made by codec"),
        ("version", "a newer regicomp wrote it"),
        ("cut", "cut off or altered"),
        ("flipped", "cut off or altered"),
        ("text", "not a regicomp file"),
        ("empty", "not a regicomp file"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, told: str) -> None:
    data = bytearray((GOLDEN / "rgb.rgc").read_bytes())
    if damage == "codec":
        from regicomp.image_codec import container

        data = bytearray(container.pack(container.unpack(bytes(data))._replace(fingerprint=b"abcd")))
    elif damage == "version":
        data[3] = 4  # after 3, which has a quality
    elif damage == "flipped":
        data[60] ^= 1
    data = {"cut": data[:70], "text": bytearray(b"hello"), "empty": bytearray()}.get(damage, data)
    path = tmp_path / "x.rgc"
    path.write_bytes(data)
    assert run("decode", path, tmp_path / "x.png", *MODEL) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {path}: ")
    assert told in lines[0]
    assert not (tmp_path / "x.png").exists()


def test_mistakes_are_told_before_work_begins(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(draw(9, 9)).save(photos / "a.jpg")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    wrong = [
        (("encode", photos, tmp_path / "o"), "would both become"),
        (("encode", tmp_path / "none.png", tmp_path / "o"), "no such file or folder"),
        (("encode", tmp_path / "empty", tmp_path / "o"), "holds no file to read"),
        (("encode", photos / "a.png", photos / "b.tif", tmp_path / "file"), "must be a folder"),
        (("encode", photos / "a.png", photos / "b.tif", tmp_path / "out.rgc"), "out.rgc: must be a folder"),
        (("encode", photos / "deep", tmp_path / "out.rgc"), "out.rgc: must be a folder"),
        (("encode", photos / "a.png", photos / "b.tif", "-"), "-: must be a folder"),
        (("encode", "-", tmp_path), "-: a stream's picture needs a file name"),
        (("decode", GOLDEN / "rgb.rgc", tmp_path / "o.jpg"), "without further loss"),
        (("decode", GOLDEN / "rgb.rgc", GOLDEN / "rgb.rgc", "--force"), "would replace its own source"),
        (("encode", photos / "a.png", tmp_path / "o.rgc", "--tile", 100), "`tile` (=100)"),
    ]
    for args, told in wrong:
        assert run(*args, *MODEL) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert told in error
    assert run("decode", GOLDEN / "rgb.rgc", tmp_path / "o.png", "--model", tmp_path / "no.safetensors") == 2
    assert "no.safetensors: no such file" in capsys.readouterr().err


def test_streams_there_and_back(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`-` is standard input and output; /dev/stdin, pipes and /dev/null are read and written as they are."""

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    unbuffered = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)  # pyright: ignore
    monkeypatch.setattr(sys, "stdout", unbuffered)
    give((photos / "a.png").read_bytes())
    assert run("encode", "-", "-", *MODEL, "--report") == 0
    coded, report = capfdbinary.readouterr()
    assert run("encode", photos / "a.png", tmp_path / "a.rgc", *MODEL) == 0
    assert coded == (tmp_path / "a.rgc").read_bytes()
    assert b"PSNR dB" in report
    give(coded)
    assert run("info", "-") == 0
    assert b"50x40 RGB" in capfdbinary.readouterr().out
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(coded,))
    writer.start()
    assert run("decode", fifo, "-", *MODEL) == 0
    writer.join()
    with Image.open(io.BytesIO(capfdbinary.readouterr().out)) as back:
        assert (back.format, back.size) == ("PNG", (50, 40))
    before = Path("/dev/null").stat().st_ino
    assert run("encode", photos / "a.png", "/dev/null", *MODEL, "--force") == 0
    assert Path("/dev/null").stat().st_ino == before  # not replaced by a file
    give(b"hello")
    assert run("encode", "-", tmp_path / "b.rgc", *MODEL) == 2
    assert capfdbinary.readouterr().err.startswith(b"error: -: is no image of a known format")


def test_the_folder_of_a_run_stands_for_its_codec(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("encode", photos / "a.png", tmp_path / "a.rgc", "--model", GOLDEN) == 0
    assert run("encode", photos / "a.png", tmp_path / "b.rgc", "--model", photos) == 2
    assert f"{photos / 'codec.safetensors'}: no such file" in capsys.readouterr().err


def test_of_several_frames_the_first_is_taken_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As in training and evaluation (docs/data.md)."""
    frames = [Image.fromarray(draw(40, 30, k)) for k in range(3)]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert run("encode", tmp_path / "film.webp", tmp_path / "film.rgc", *MODEL) == 0
    frames[0].save(tmp_path / "still.png")
    assert run("encode", tmp_path / "still.png", tmp_path / "still.rgc", *MODEL) == 0
    assert (tmp_path / "film.rgc").read_bytes() == (tmp_path / "still.rgc").read_bytes()
    assert np.array_equal(images.read(tmp_path / "film.webp"), draw(40, 30, 0))


def test_the_module_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "regicomp.codec", "info", str(GOLDEN / "one.rgc")]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "1x1 RGB" in told.stdout
    assert told.stderr == ""
