"""Images measured in several processes: the rows of one, and failures that are named."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from regicomp import evaluation, export, parallel
from regicomp.data import images, testsets
from regicomp.data.testsets import TestImage
from regicomp.export import Spec

SPEC = Spec("regicomp.backbone.hyperprior.Hyperprior", {"N": 8, "M": 12})
SOURCE = Spec("regicomp.source.hyperprior.HyperpriorSource", {"width": 8})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> parallel.Files:
    """A codec whose latents are not all zero, and a q_θ."""
    folder = tmp_path_factory.mktemp("codec")
    torch.manual_seed(0)
    codec: Any = export.build(SPEC, "backbone")
    with torch.no_grad():
        codec.g_a[-1].weight.mul_(30)
    found = parallel.Files(folder / "codec.safetensors", folder / "source.safetensors")
    export.save_codec(found.codec, codec, SPEC, {})
    export.save_source(folder / "source.safetensors", export.build(SOURCE, "source"), SOURCE, {})
    return found


def _rows(entry: dict[str, Any]) -> dict[str, Any]:
    rows = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in entry["images"]]
    return {**entry, "images": rows}


def test_two_processes_give_the_rows_of_one_and_name_failures(
    trained: parallel.Files, folder: Path, tmp_path: Path
) -> None:
    testset = testsets.find([], "", [str(folder)])[0]
    codec = evaluation.Codec(export.load_codec(trained.codec))
    assert trained.source is not None
    source = export.load_source(trained.source).network
    expected = evaluation.evaluate(codec, testset, source)
    with parallel.processes(1, trained) as none:
        assert none is None
    with parallel.processes(2, trained) as helpers:
        assert helpers is not None
        assert _rows(evaluation.evaluate(codec, testset, source, helpers=helpers)) == _rows(expected)
        (tmp_path / "text.png").write_text("no picture")
        bad = TestImage("text.png", partial(images.read, tmp_path / "text.png"))
        with pytest.raises(ValueError, match=r"text\.png: is no image"):
            list(helpers.measure([bad]))
        with pytest.raises(RuntimeError, match="large: the process that measured it ended with status 3"):
            list(helpers.measure([TestImage("large", partial(os._exit, 3)), *testset.images]))


@pytest.mark.slow
def test_a_codec_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    made = parallel.Processes(1, parallel.Files(tmp_path / "codec.safetensors", None))
    try:
        with pytest.raises(ValueError, match="no such file"):
            list(made.measure([TestImage("a", partial(os._exit, 3))]))
    finally:
        made.close()


def test_other_failures_name_the_image_too(trained: parallel.Files) -> None:
    codec = evaluation.Codec(export.load_codec(trained.codec))
    with pytest.raises(RuntimeError, match=r"a\.png: integer division"):
        evaluation.measure(codec, TestImage("a.png", partial(divmod, 1, 0)))
