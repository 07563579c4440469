"""At the paper's sizes: what is decoded is what the encoder reconstructed, on all of Kodak."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.coding import enliven, spec_of
from regicomp.data import images
from regicomp.evaluation import round_trip
from regicomp.image_codec import model_file


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["hyperprior", "autoregressive", "attention", "elic", "mlicpp"])
def test_24_kodak_images(name: str) -> None:
    folder = Path(os.environ.get("REGICOMP_DATA", "data")) / "kodak"
    if not folder.is_dir():
        pytest.skip("set REGICOMP_DATA to the folder that holds kodak/")
    pixels = [images.read(path) for path in images.find(folder)]
    assert len(pixels) == 24
    torch.manual_seed(0)
    spec = spec_of(name)
    network: Any = model_file.build(spec, "backbone").eval()
    enliven(network, name, round_trip.to_tensor(pixels[0]))
    network.update(force=True, update_quantiles=True)
    codec = round_trip.Codec(model_file.Loaded(network, spec, {}, bytes(32)))
    for x in pixels:
        coded = codec.encode(x)
        assert len(coded) > 1000
        assert torch.equal(codec.decode(coded), codec.reconstruct(x)[0])
