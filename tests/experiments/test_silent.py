"""Silent units of trained codecs, by transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import regicomp
from experiments import tables
from experiments.recipe import silent
from regicomp.training.silent_units import Layer

RECIPE = Path(silent.__file__).parent


def _silence(module: torch.nn.Module, args: Any, out: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(out)


def test_layers_are_counted_with_their_transform() -> None:
    layers = [
        Layer("g_a.1.relu1", 1, 4),
        Layer("latent_codec.hyper.h_a.3", 2, 2),
        Layer("latent_codec.y.channel_context.y1.1", 0, 2),
    ]
    expected = {"g_a": "25.0", "h_a": "100.0", "h_s": "–", "g_s": "–", "contexts": "0.0", "all": "37.5"}
    assert silent.shares(layers) == expected


def test_a_codec_whose_hyper_analysis_is_silent_spends_nothing_on_it() -> None:
    codec = regicomp.load()
    images = torch.rand(1, 3, 64, 64)
    before = silent.measure("as it is", codec, images)
    last = next(m for m in reversed(list(codec.network.h_a)) if isinstance(m, torch.nn.ReLU))  # pyright: ignore
    last.register_forward_hook(_silence)
    after = silent.measure("silent", codec, images)
    assert float(after["z, bpp"]) < float(before["z, bpp"])


def test_the_page_is_what_was_measured_and_the_readme_shows_it_whole() -> None:
    page = tables.markdown(tables.read_csv(RECIPE / "silent.csv"))
    assert page == (RECIPE / "silent.md").read_text()
    assert page in (RECIPE / "README.md").read_text()
