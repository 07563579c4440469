"""Classes found in their sources, without importing them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from regicomp.config import class_lookup, settings


@pytest.mark.parametrize("group", ["backbone", "source"])
def test_every_option_s_class_is_found(group: str) -> None:
    for path in sorted((settings.conf_dir() / group).glob("*.yaml")):
        target = OmegaConf.select(OmegaConf.load(path), "_target_")
        assert target is None or class_lookup.find(target) is not None, path


def test_without_importing_torch() -> None:
    code = """
import sys
from regicomp.config import class_lookup
for name in ("compressai.models.ScaleHyperprior", "compressai.models.google.MeanScaleHyperprior",
             "regicomp.backbone.mlicpp.MLICPlusPlus", "regicomp.source.elic.ElicSource", "json.JSONDecoder"):
    assert class_lookup.find(name) is not None, name
for name in ("vgg", "", ".", "nowhere.Nothing", "compressai.models.Nothing", "regicomp.source.elic.Nothing"):
    assert class_lookup.find(name) is None, name
assert class_lookup.find("regicomp.source.hyperprior.HyperpriorSource").arguments >= {"patch", "width"}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
