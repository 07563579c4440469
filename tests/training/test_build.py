"""A built network has every setting in its own place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from regicomp.config.settings import Settings
from regicomp.objective.regularizer import NO_SHAPE
from regicomp.training.build import build_networks
from regicomp.training.quantization import Rows

Resolved = Callable[..., Settings]
REGULARIZED = ("size=tiny", "reg.alpha=0.1")


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("reg.project=true", "project"),
        ("reg.per_image=true", "per_image"),
        ("rate=variable", "apart"),
        ("reg.pressure=0.05", "constant"),
        ("reg.direction=minimize", "minimize"),
        ("objective=ms_ssim", "by_scale"),
    ],
)
def test_each_setting_of_the_regularizer_reaches_its_own_part(resolved: Resolved, setting: str, field: str) -> None:
    regularizer = build_networks(resolved(*REGULARIZED, "data.crop=192", setting)).regularizer
    assert regularizer is not None
    assert regularizer.shape == NO_SHAPE._replace(**{field: True})


@pytest.mark.parametrize("rate", ["fixed", "variable"])
def test_reg_pressure_is_the_pressure_that_is_measured(resolved: Resolved, rate: str) -> None:
    settings = resolved(*REGULARIZED, "reg.pressure=0.05", f"rate={rate}")
    settings = dataclasses.replace(settings, regularizer=dataclasses.replace(settings.regularizer, warmup_steps=0))
    module = build_networks(settings)
    regularizer = module.regularizer
    assert regularizer is not None
    for parameter in regularizer.source.parameters():  # its last layer starts at zero
        torch.nn.init.normal_(parameter, std=0.05)
    if module.levels is not None:
        module.levels.begin(0, Rows(2, here=2), torch.device("cpu"))
    x = torch.rand(2, 3, 64, 64)
    x_hat = (x + 0.1 * torch.rand_like(x)).requires_grad_()
    regularizer(x, x_hat, 10**6).backward()
    assert x_hat.grad is not None
    along = torch.linalg.vector_norm(module.objective.distortion_gradient(x, x_hat))
    assert float(torch.linalg.vector_norm(x_hat.grad) / along) == pytest.approx(0.05, rel=1e-4)
