"""Averaged weights: what they are, and that they are what a run exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from regicomp.config.settings import Settings
from regicomp.image_codec import model_file
from regicomp.training import run
from regicomp.training.averaging import Average
from regicomp.training.build import build_networks
from regicomp.training.module import trainable

Resolved = Callable[..., Settings]


def test_an_average_is_of_all_updates_so_far() -> None:
    weight = nn.Parameter(torch.zeros(2))
    average = Average([weight], 0.5)
    expected = 0.0
    for step in range(30):
        weight.data.fill_(float(step))
        average.update(step)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * step
    average.use()
    assert weight.tolist() == pytest.approx([expected, expected], rel=1e-5)
    assert 27 < expected < 29


def test_without_an_update_the_weights_stay() -> None:
    weight = nn.Parameter(torch.ones(2))
    Average([weight], 0.5).use()
    assert weight.tolist() == [1.0, 1.0]


def test_a_state_goes_on() -> None:
    weight = nn.Parameter(torch.zeros(2))
    one, other = Average([weight], 0.9), Average([weight], 0.9)
    one.update(0)
    other.load_state_dict(one.state_dict())
    weight.data.fill_(1.0)
    one.update(1)
    other.update(1)
    assert torch.equal(one._means[0], other._means[0])
    assert 0 < float(one._means[0][0]) < 1


def _weights(path: Path) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainable(model_file.load_codec(path).network)])


def test_a_run_exports_averaged_weights(resolved: Resolved, tmp_path: Path) -> None:
    settings = (
        "trainer.max_steps=4",
        "trainer.log_every_n_steps=1",
        "optimizer.lr=1e-3",
        "evaluation.images=1",
        "reg.alpha=0",
    )
    record = run.train(cfg := resolved(*settings, "average.decay=0.9"), tmp_path / "averaged")
    run.train(resolved(*settings), tmp_path / "last")
    averaged, last = (_weights(tmp_path / name / "codec.safetensors") for name in ("averaged", "last"))
    start = torch.cat([p.detach().flatten() for p in build_networks(cfg).phi])
    assert float((averaged - last).abs().max()) > 1e-4
    assert float((averaged - start).norm()) < float((last - start).norm())
    how = {key: record["run"][key] for key in ("optimizer", "average", "precision")}
    assert how == {"optimizer": "adam", "average": 0.9, "precision": "32-true"}
