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

from regicomp.config import class_lookup, phases
from regicomp.config.schema import DATA_RULES, TRAIN_RULES, _apply, _is_whole, _one_of, _text, _whole
from regicomp.config.settings import phases_of, uses_source, warmup_steps

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


def _whole_number(cfg: DictConfig, setting: str) -> int:
    """A whole number of at least 1 that only some options of a group have."""
    value = OmegaConf.select(cfg, setting)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{setting}` (={value}) must be a whole number of at least 1")
    return value


def _divides(part: str, by: int, whole: str, of: int) -> None:
    if of % by:
        raise ValueError(f"`{part}` (={by}) must divide {whole} (={of})")


def _slices_of_y(cfg: DictConfig) -> None:
    slices, heads = _whole_number(cfg, "backbone.slices"), _whole_number(cfg, "backbone.heads")
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
    slices, heads = _whole_number(cfg, "source.slices"), _whole_number(cfg, "source.heads")
    samples = 3 * cfg.source.patch**2
    _divides("source.slices", slices, "the samples of a patch, 3·source.patch²", samples)
    _divides("source.heads", heads, "the samples of a slice, 3·source.patch² / source.slices", samples // slices)


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


_LEAST_CROP = 128  # pixels


def check_train(cfg: DictConfig) -> None:
    """Refuse settings of `regicomp.train` that are of the wrong type, out of range, or contradict each other.

    Raises:
        ValueError: naming the setting, its value and what was expected.
    """
    _apply(TRAIN_RULES + DATA_RULES, cfg)
    steps = cfg.trainer.max_steps
    for phase in phases_of(cfg).phases:
        _check_phase(cfg, phase)
    _check_strategy(cfg)
    if cfg.reg.order == "codec_first" and cfg.reg.source_steps != 1:
        raise ValueError(
            f"`reg.source_steps` (={cfg.reg.source_steps}) must be 1 with reg.order=codec_first; "
            "reg.order=source_first takes several"
        )
    if any(phase.alpha > 0 for phase in phases_of(cfg).phases) and warmup_steps(cfg) >= steps:
        raise ValueError(
            f"`reg.warmup_steps` (={cfg.reg.warmup_steps}) must be less than `trainer.max_steps` (={steps}), "
            "or the regularizer would never act"
        )
    if cfg.reg.release_steps and warmup_steps(cfg) + cfg.reg.release_steps >= steps:
        raise ValueError(
            f"`reg.release_steps` (={cfg.reg.release_steps}) and `reg.warmup_steps` (={warmup_steps(cfg)}) must "
            f"together be less than `trainer.max_steps` (={steps}), or the regularizer would never act"
        )
    _check_feed(cfg)
    if cfg.optimizer.lr == 0 and (cfg.reg.alpha > 0 or not cfg.reg.probe or cfg.init_from is None):
        raise ValueError(
            "`optimizer.lr` (=0) keeps the codec fixed, which needs reg.alpha=0, reg.probe=true and init_from; "
            "it must be greater than 0 otherwise"
        )
    check(cfg, uses_source(cfg))
    if not len(cfg.testsets) and not len(cfg.data.test_dirs):
        raise ValueError(
            f"`testsets` (={list(cfg.testsets)}) and `data.test_dirs` are both empty: name at least one test set"
        )


def _check_feed(cfg: DictConfig) -> None:
    if cfg.reg.feed == "rounded" and cfg.compile:
        raise ValueError("`reg.feed` (=rounded) must be noisy with compile=true: a compiled codec hides its latents")


def doubts(cfg: DictConfig) -> list[str]:
    """What is allowed but seldom meant, a line each."""
    found: list[str] = []
    if (crop := phases_of(cfg).phases[-1].crop) < _LEAST_CROP:
        found.append(
            f"`data.crop` (={crop}) leaves the hyper-latent a single position, so its transforms' outer taps stay "
            f"untrained and whole images cost up to twice the bits of crops; take {_LEAST_CROP} or more for results, "
            "in the last phase at least (experiments/LOG.md)"
        )
    return found


def _check_phase(cfg: DictConfig, phase: phases.Phase) -> None:
    """Rules for what may change from phase to phase, of `data` and `optimizer` where there is but one."""
    crop, batch, patch = phase.crop, phase.batch_size, cfg.source.patch
    inside = "" if phase.start == 0 else f" of the phase from update {phase.start}"
    if crop % 64:
        raise ValueError(f"`data.crop` (={crop}){inside} must be a multiple of 64, the codec's downsampling")
    if uses_source(cfg) and crop % patch:
        raise ValueError(f"`source.patch` (={patch}) must divide `data.crop` (={crop}){inside}")
    if cfg.objective.distortion == "ms_ssim" and crop <= 160:
        raise ValueError(f"`data.crop` (={crop}){inside} must be larger than 160 with objective=ms_ssim")
    if uses_source(cfg) and phase.source_lr < phase.lr:
        raise ValueError(
            f"`optimizer.source_lr` (={phase.source_lr}){inside} must be at least "
            f"`optimizer.lr` (={phase.lr}): q_θ must keep up with the codec"
        )
    devices = cfg.strategy.devices if _is_whole(cfg.strategy.devices) else 1
    parts = devices * cfg.strategy.num_nodes * cfg.trainer.accumulate
    if batch % parts:
        raise ValueError(
            f"`data.batch_size` (={batch}){inside} must be a multiple of {parts} = `strategy.devices` × "
            "`strategy.num_nodes` × `trainer.accumulate`: it is the batch of all processes together"
        )


def _check_strategy(cfg: DictConfig) -> None:
    chosen = cfg.strategy
    if chosen.strategy == "auto" and (chosen.devices != 1 or chosen.num_nodes != 1):
        raise ValueError(
            f"`strategy.devices` (={chosen.devices}) × `strategy.num_nodes` (={chosen.num_nodes}) must be 1 with one "
            "process; strategy=ddp (GPUs) or strategy=ddp_cpu trains with several"
        )
    if chosen.devices == "auto" and chosen.accelerator != "gpu":
        raise ValueError("`strategy.devices` (=auto) must be a whole number of at least 1 unless on GPUs")
    if chosen.strategy == "fsdp":
        raise ValueError(
            "`strategy` (=fsdp) must be ddp: the parameters, gradients and Adam's states of the largest codec take "
            "1.3 GB, so sharing them out saves nothing that counts; trainer.accumulate lowers the memory of a step"
        )
    if chosen.strategy == "ddp" and cfg.optimizer.lr == 0:
        raise ValueError("`optimizer.lr` (=0) needs one process: strategy=cpu or strategy=gpu, not ddp")
    if cfg.trainer.accumulate > 1 and not (cfg.reg.order == "codec_first" and cfg.reg.form == "one_pass"):
        raise ValueError(
            f"`trainer.accumulate` (={cfg.trainer.accumulate}) must be 1 with reg.order=source_first or "
            "reg.form=two_pass: their networks step between backward passes"
        )


def check_evaluate(cfg: DictConfig) -> None:
    """Refuse settings of `regicomp.evaluate`; see `check_train`."""
    rules = (
        _text("checkpoint"),
        _text("source_checkpoint", null=True),
        _whole("workers", 1),
        _whole("images", 1, null=True),
        _one_of("threads", 1, 2, 4, 8, None),
        _one_of("precision", "auto", "bf16", "float32"),
        *DATA_RULES,
    )
    _apply(tuple(r for r in rules if r.setting != "data.train_dir"), cfg)
    if not len(cfg.testsets) and not len(cfg.data.test_dirs):
        raise ValueError("`testsets` (=[]) and `data.test_dirs` are both empty: name at least one test set")
