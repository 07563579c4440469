"""Settings that are right alone and wrong together: backbone and its widths, source and patch, precision and device.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from regicomp.config import class_lookup

# Classes whose strided 1×1 convolutions crash in channels_last on a CPU, but in bf16 on one with AMX (precision.py).
_STRIDED_1X1 = ("MLICPlusPlus", "Attention", "Cheng2020Attention")
_LARGEST_WIDTH = 8192


def check(cfg: DictConfig, uses_source: bool) -> None:
    """Refuse combinations that could not be built or would crash.

    Args:
        cfg: conf/train.yaml, whose settings are right one by one.
        uses_source: whether a source entropy model is built.

    Raises:
        ValueError: naming the setting, its value and what was expected.
    """
    _named_class(cfg, "backbone")
    if uses_source:
        _named_class(cfg, "source")
    if "slices" in cfg.backbone and "M" in cfg.backbone:
        _slices_of_y(cfg)
    if "groups" in cfg.backbone and "M" in cfg.backbone:
        _groups_of_y(cfg)
    if uses_source and "slices" in cfg.source:
        _slices_of_x(cfg)
    _computing(cfg)
    _compiling(cfg)


def check_files(cfg: DictConfig) -> None:
    """Refuse files and training folders that are not there, before anything slow is imported.

    Raises:
        ValueError: naming the setting and the file.
    """
    for key in ("init_from", "init_source_from"):
        if cfg[key] is not None and not Path(cfg[key]).is_file():
            raise ValueError(f"`{key}` (={cfg[key]}) must be a safetensors file; there is no such file")
    if cfg.ckpt not in (None, "last") and not Path(cfg.ckpt).is_file():
        raise ValueError(f"`ckpt` (={cfg.ckpt}) must be `last` or the path of a checkpoint; there is no such file")
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    given = data["train_dir"]
    for folder in [given] if isinstance(given, str) else given or []:
        if not Path(folder).is_dir():
            raise ValueError(f"`data.train_dir` (={given}) must name folders; {folder} does not exist or is no folder")


def _named_class(cfg: DictConfig, group: str) -> None:
    target = cfg[group]._target_
    found = class_lookup.find(target)
    if found is None:
        raise ValueError(
            f"`{group}._target_` (={target}) must name a class, as module.Class; {group}=… picks one of conf/{group}/"
        )
    if found.arguments is not None:
        for key in cfg[group]:
            if key != "_target_" and key not in found.arguments:
                raise ValueError(
                    f"`{group}.{key}` (={cfg[group][key]}) must be an argument of {target}: "
                    f"{', '.join(sorted(found.arguments))}"
                )
    for key in ("N", "M", "width", "patch"):
        value = cfg[group].get(key) if key in cfg[group] else None
        if isinstance(value, int) and value > _LARGEST_WIDTH:
            raise ValueError(f"`{group}.{key}` (={value}) must be at most {_LARGEST_WIDTH}")


def _whole(cfg: DictConfig, setting: str) -> int:
    """A whole number of at least 1 that only some options of a group have."""
    value = OmegaConf.select(cfg, setting)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{setting}` (={value}) must be a whole number of at least 1")
    return value


def _divides(part: str, by: int, whole: str, of: int) -> None:
    if of % by:
        raise ValueError(f"`{part}` (={by}) must divide {whole} (={of})")


def _slices_of_y(cfg: DictConfig) -> None:
    slices, heads = _whole(cfg, "backbone.slices"), _whole(cfg, "backbone.heads")
    _divides("backbone.slices", slices, "`backbone.M`", cfg.backbone.M)
    _divides("backbone.heads", heads, "the channels of a slice, backbone.M / backbone.slices", cfg.backbone.M // slices)


def _groups_of_y(cfg: DictConfig) -> None:
    groups: Any = cfg.backbone.groups
    plain = list(groups) if isinstance(groups, ListConfig) else groups
    right: Callable[[Any], bool] = lambda g: isinstance(g, int) and not isinstance(g, bool) and g >= 1  # noqa: E731
    if not isinstance(plain, list) or not plain or not all(right(g) for g in plain):
        raise ValueError(f"`backbone.groups` (={plain}) must be a list of whole numbers of at least 1")
    if sum(plain) != cfg.backbone.M:
        raise ValueError(
            f"`backbone.groups` (={plain}) must sum to `backbone.M` (={cfg.backbone.M}); they sum to {sum(plain)}"
        )


def _slices_of_x(cfg: DictConfig) -> None:
    slices, heads = _whole(cfg, "source.slices"), _whole(cfg, "source.heads")
    samples = 3 * cfg.source.patch**2
    _divides("source.slices", slices, "the samples of a patch, 3·source.patch²", samples)
    _divides("source.heads", heads, "the samples of a slice, 3·source.patch² / source.slices", samples // slices)


def _computing(cfg: DictConfig) -> None:
    if (
        cfg.channels_last is True
        and (cfg.precision == "float32" or not _has_amx())
        and cfg.strategy.accelerator == "cpu"
        and cfg.backbone._target_.rpartition(".")[2] in _STRIDED_1X1
    ):
        raise ValueError(
            "`channels_last` (=True) must be false or auto for this backbone on this CPU in this precision: "
            "its strided 1x1 convolutions crash there"
        )


def _compiling(cfg: DictConfig) -> None:
    """torch.compile writes C++ (and, for GPUs, calls a C compiler through Triton) at the first update."""
    if not cfg.compile:
        return
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ValueError(
            f"`compile` (=True) needs a C++ compiler, and there is no {compiler} on this machine ($CXX names another); "
            "compile=false trains the same network"
        )
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").is_file():
        raise ValueError(
            f"`compile` (=True) needs Python's headers (Debian's python3-dev), and there is no Python.h in {headers}; "
            "compile=false trains the same network"
        )


def _has_amx() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()
