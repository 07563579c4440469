"""R + H_θ against lossless files: sizes are those of files, the sum is the sum, the command writes its three."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch
from conftest import picture
from PIL import Image

from experiments.identities import lossless as command
from regicomp.data.testsets import TestImage
from regicomp.evaluation import round_trip
from regicomp.image_codec import model_file
from regicomp.image_codec.model_file import Spec
from regicomp.theory import lossless_bound
from regicomp.theory.lossless_bound import LosslessCodec

CODEC = Spec("compressai.models.ScaleHyperprior", {"N": 12, "M": 16})
SOURCE = Spec("regicomp.source.hyperprior.HyperpriorSource", {"width": 8})
RUN = {"backbone": "hyperprior", "source": "hyperprior", "alpha": 0.1, "lmbda": 0.01, "steps": 0, "seed": 0}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    torch.manual_seed(0)
    model_file.save_codec(folder / "codec.safetensors", model_file.build(CODEC, "backbone"), CODEC, RUN)
    model_file.save_source(folder / "source.safetensors", model_file.build(SOURCE, "source"), SOURCE, RUN)
    return folder


def test_an_image_s_bits(pair: Path) -> None:
    codec = round_trip.Codec(model_file.load_codec(pair / "codec.safetensors"))
    source = model_file.load_source(pair / "source.safetensors").network
    pixels = picture(80, 48)
    found = lossless_bound.of_image(codec, source, TestImage("a", lambda: pixels))
    expected = round_trip.evaluate_image(codec, "a", pixels, source)
    assert (found.rate_bpp, found.source_bpp) == (expected.bpp_estimated, expected.source_bpp)
    assert found.total_bpp == found.rate_bpp + found.source_bpp
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    assert found.others["PNG"] == 8 * file.tell() / (80 * 48)
    assert found.best_bpp == min(found.others.values())
    assert found.excess == pytest.approx(found.total_bpp / found.best_bpp - 1)


def test_a_codec_that_loses_is_no_lossless_codec() -> None:
    with pytest.raises(RuntimeError, match="did not give the image back"):
        LosslessCodec("JPEG", "JPEG", {}).bpp(picture(32, 32))


def test_the_command(pair: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--codec", pair / "codec.safetensors", "--source", pair / "source.safetensors"]
    arguments += ["--images", folder, "--out", tmp_path]
    command.main([str(argument) for argument in arguments])
    with (tmp_path / "lossless.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        assert float(row["total_bpp"]) == pytest.approx(float(row["rate_bpp"]) + float(row["source_bpp"]), abs=1e-3)
    assert (tmp_path / "lossless.md").read_text(encoding="utf-8").strip() == capsys.readouterr().out.strip()
    with Image.open(tmp_path / "lossless.png") as drawn:
        assert drawn.width > 500


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        command.run(tmp_path / "codec.safetensors", tmp_path / "source.safetensors", "photos", tmp_path)
