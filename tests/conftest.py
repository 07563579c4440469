"""Shared fixtures: a tiny configuration, tiny networks, and a folder of small images."""

from __future__ import annotations

import os

# One thread a test process: the suite runs several side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from regicomp.config import resolvers, settings
from regicomp.utils import cli

resolvers.register_resolvers()
cli.quiet_libraries()

TINY = ("size=tiny", "data.crop=64", "data.batch_size=2", "data.images=2", "logger=csv", "precision=float32")


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """`composed("reg.alpha=0", …)`: conf/train.yaml at tiny size with overrides."""

    def make(*overrides: str, name: str = "train", tiny: bool = True) -> DictConfig:
        usual = TINY if tiny else ()
        if usual and not any(o.startswith(("optimizer=", "experiment=")) for o in overrides):
            usual += ("optimizer=adam",)  # its updates are the same to rounding however they are computed
        with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
            return compose(name, overrides=[*usual, *overrides])

    return make


@pytest.fixture(scope="session")
def resolved(composed: Callable[..., DictConfig]) -> Callable[..., settings.Settings]:
    """`resolved("reg.alpha=0", …)`: the settings of conf/train.yaml at tiny size with overrides."""
    return lambda *overrides, **options: settings.resolve(composed(*overrides, **options))


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth colourful 8-bit picture, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        127 + 100 * np.sin(rng.uniform(0.02, 0.2) * x + rng.uniform(0.02, 0.2) * y + rng.uniform(0, 6))
        for _ in range(3)
    ]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 5, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six PNG photographs of 96×80 pixels."""
    path = tmp_path_factory.mktemp("images")
    for k in range(6):
        Image.fromarray(picture(96, 80, k)).save(path / f"{k}.png")
    return path
