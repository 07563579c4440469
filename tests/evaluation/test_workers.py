"""Images measured in several processes: the rows of one, and failures that are named."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from regicomp.data import images, testsets
from regicomp.data.testsets import TestImage
from regicomp.evaluation import round_trip, workers
from regicomp.image_codec import model_file
from regicomp.image_codec.model_file import Spec

SPEC = Spec("regicomp.backbone.hyperprior.Hyperprior", {"N": 8, "M": 12})
SOURCE = Spec("regicomp.source.hyperprior.HyperpriorSource", {"width": 8})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> workers.Files:
    """A codec whose latents are not all zero, and a q_θ."""
    folder = tmp_path_factory.mktemp("codec")
    torch.manual_seed(0)
    codec: Any = model_file.build(SPEC, "backbone")
    with torch.no_grad():
        codec.g_a[-1].weight.mul_(30)
    found = workers.Files(folder / "codec.safetensors", folder / "source.safetensors")
    model_file.save_codec(found.codec, codec, SPEC, {})
    model_file.save_source(folder / "source.safetensors", model_file.build(SOURCE, "source"), SOURCE, {})
    return found


def _rows(entry: dict[str, Any]) -> dict[str, Any]:
    rows = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in entry["images"]]
    return {**entry, "images": rows}


def test_two_processes_give_the_rows_of_one_and_name_failures(
    trained: workers.Files, folder: Path, tmp_path: Path
) -> None:
    testset = testsets.find([], "", [str(folder)])[0]
    codec = round_trip.Codec(model_file.load_codec(trained.codec))
    assert trained.source is not None
    source = model_file.load_source(trained.source).network
    expected = round_trip.evaluate(codec, testset, source)
    with workers.processes(1, trained) as none:
        assert none is None
    with workers.processes(2, trained) as helpers:
        assert helpers is not None
        assert _rows(round_trip.evaluate(codec, testset, source, helpers=helpers)) == _rows(expected)
        (tmp_path / "text.png").write_text("no picture")
        bad = TestImage("text.png", partial(images.read, tmp_path / "text.png"))
        with pytest.raises(ValueError, match=r"text\.png: is no image"):
            list(helpers.measure([bad]))
        with pytest.raises(RuntimeError, match="large: the process that measured it ended with status 3"):
            list(helpers.measure([TestImage("large", partial(os._exit, 3)), *testset.images]))


@pytest.mark.slow
def test_a_codec_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    made = workers.Processes(1, workers.Files(tmp_path / "codec.safetensors", None))
    try:
        with pytest.raises(ValueError, match="no such file"):
            list(made.measure([TestImage("a", partial(os._exit, 3))]))
    finally:
        made.close()


def test_other_failures_name_the_image_too(trained: workers.Files) -> None:
    codec = round_trip.Codec(model_file.load_codec(trained.codec))
    with pytest.raises(RuntimeError, match=r"a\.png: integer division"):
        round_trip.measure(codec, TestImage("a.png", partial(divmod, 1, 0)))
