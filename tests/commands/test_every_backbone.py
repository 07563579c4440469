"""Every backbone in conf/backbone/ learns, its bytes agree with its estimated rate, and no trace of q_θ is left."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import quiet
import torch
from conftest import picture
from torch.utils.flop_counter import FlopCounterMode

from regicomp.config import settings as config
from regicomp.config.settings import Settings
from regicomp.evaluation.round_trip import Codec, evaluate_image
from regicomp.image_codec import model_file
from regicomp.training.build import build_networks
from regicomp.training.module import RegularizedCodec

Resolved = Callable[..., Settings]
BACKBONES = sorted(path.stem for path in (config.conf_dir() / "backbone").glob("*.yaml"))
FAMILIES = ["hyperprior", "autoregressive", "elic", "mlicpp"]
# What no estimate counts: the container's 28, and of each of the two streams the coder's last state, at most 8 and
# four for its rounding to words.
_HEADER_BYTES = 28 + 2 * 12


class _Watched(RegularizedCodec):
    """Keeps each update's loss and checks each gradient before it is applied."""

    losses: list[float]

    def manual_backward(self, loss: torch.Tensor, *args: object, **kwargs: object) -> None:
        super().manual_backward(loss, *args, **kwargs)
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        assert all(bool(g.isfinite().all()) for g in gradients)

    def _log(self, step: int, terms: object, source_bpp: object) -> None:
        self.losses.append(float(terms.loss.detach()))  # pyright: ignore


def _trained(cfg: Settings) -> tuple[_Watched, model_file.Spec]:
    module = build_networks(cfg)
    module.__class__ = _Watched
    module.losses = []  # pyright: ignore
    quiet.fit(module, cfg)
    return module, cfg.backbone  # pyright: ignore


@pytest.mark.slow
@pytest.mark.timeout(1200)  # MLIC++ takes minutes
@pytest.mark.parametrize("backbone", BACKBONES)
def test_three_hundred_steps_lower_the_loss_and_bytes_are_the_estimate(
    resolved: Resolved, backbone: str, tmp_path: Path
) -> None:
    settings = ("trainer.max_steps=300", "optimizer.lr=1e-3", "data.images=16", "data.batch_size=4", "quality=5")
    module, spec = _trained(resolved(f"backbone={backbone}", *settings))
    first, last = sum(module.losses[:20]) / 20, sum(module.losses[-20:]) / 20
    assert last < 0.7 * first, (first, last)
    model_file.save_codec(tmp_path / "codec.safetensors", module.codec, spec, {})
    codec = Codec(model_file.load_codec(tmp_path / "codec.safetensors"))
    row = evaluate_image(codec, "picture", picture(320, 256))
    assert row.bpp_estimated is not None
    estimated = row.bpp_estimated * 320 * 256 / 8
    assert estimated > 500  # enough to compare
    assert abs(row.bytes - estimated) < 0.02 * estimated + _HEADER_BYTES, (row.bytes, estimated)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_bytes_are_the_estimate_at_every_quality(resolved: Resolved, backbone: str, tmp_path: Path) -> None:
    """At variable rate, once the entropy model fits: at levels and between them."""
    settings = ("trainer.max_steps=300", "optimizer.lr=1e-3", "data.images=16", "data.batch_size=6", "reg.alpha=0")
    module, spec = _trained(resolved(f"backbone={backbone}", "rate=variable", *settings))
    model_file.save_codec(tmp_path / "codec.safetensors", module.codec, spec, {})
    codec = Codec(model_file.load_codec(tmp_path / "codec.safetensors"))
    for quality in (1, 2.5, 6):
        row = evaluate_image(codec, "picture", picture(320, 256), quality=quality)
        assert row.bpp_estimated is not None
        estimated = row.bpp_estimated * 320 * 256 / 8
        assert abs(row.bytes - estimated) < 0.02 * estimated + _HEADER_BYTES, (quality, row.bytes, estimated)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_alignment_matrix(resolved: Resolved, backbone: str, family: str) -> None:
    """Every source entropy model beside every backbone: fifty steps, all numbers finite, both networks moved."""
    settings = ("trainer.max_steps=50", "reg.warmup_steps=5", "reg.ramp_steps=5", "optimizer.lr=1e-3")
    cfg = resolved(f"backbone={backbone}", f"source={family}", *settings)
    before = [p.detach().clone() for p in build_networks(cfg).theta]
    module, _ = _trained(cfg)
    assert len(module.losses) == 50
    assert all(math.isfinite(loss) for loss in module.losses)
    assert all(bool(p.isfinite().all()) for p in (*module.phi, *module.theta))
    assert any(not torch.equal(a, b) for a, b in zip(before, module.theta, strict=True))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_regularizer_leaves_no_trace_in_the_codec(resolved: Resolved, backbone: str, tmp_path: Path) -> None:
    """Trained with α > 0 or without: the same names and shapes, a file of the same size, the same operations."""
    files, shapes, operations = [], [], []
    for alpha in (0, 0.1):
        settings = ("trainer.max_steps=2", "reg.warmup_steps=0", "reg.ramp_steps=0", "logger=csv")
        module, spec = _trained(resolved(f"backbone={backbone}", f"reg.alpha={alpha}", *settings))
        path = tmp_path / f"{alpha}.safetensors"
        model_file.save_codec(path, module.codec, spec, {})
        files.append(path.stat().st_size)
        network = model_file.load_codec(path).network
        # Entropy tables are as long as the learned densities are wide, which differs between any two trainings.
        tables = ("_quantized_cdf", "_offset", "_cdf_length")
        state = network.state_dict().items()
        shapes.append({name: tuple(t.shape) for name, t in state if not name.endswith(tables)})
        network.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            network(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        operations.append(counter.get_total_flops())
    assert shapes[0] == shapes[1]
    assert operations[0] == operations[1] > 0
    assert abs(files[0] - files[1]) < 0.02 * files[0]
