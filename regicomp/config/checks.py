"""Settings that contradict each other, and files that are missing.

Nothing here imports torch.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regicomp.config import class_lookup, phases
from regicomp.config.class_lookup import ClassSpec
from regicomp.config.schema import is_integer, nearest

if TYPE_CHECKING:
    from regicomp.config.settings import Settings

_LARGEST_WIDTH = 8192
_LEAST_CROP = 128  # pixels
_LOGGERS = ("wandb", "tensorboard", "mlflow")  # settings, packages and extras of one name


def check(settings: Settings) -> None:
    """Refuse settings of `regicomp.train` that contradict each other, could not be built, or would crash.

    Raises:
        ValueError: naming the setting, its value and what was expected.
    """
    for phase in settings.phases.phases:
        _check_phase(settings, phase)
    _check_strategy(settings)
    _check_regularizer(settings)
    _check_fixed_codec(settings)
    _check_classes(settings)
    _check_compiling(settings)
    _check_cuda_graph(settings)
    _check_early_stopping(settings)
    check_testsets(settings.testsets, settings.data.test_dirs)
    if settings.data.train_dir is None and settings.data.images is None:
        raise ValueError("`data.images` (=None) must be an integer of at least 1 where `data.train_dir` is null")


def check_testsets(testsets: list[str], test_dirs: list[str]) -> None:
    """Refuse a run without a test set.

    Raises:
        ValueError: there is no test set.
    """
    if not testsets and not test_dirs:
        raise ValueError("`testsets` (=[]) and `data.test_dirs` are both empty: name at least one test set")


def check_files(settings: Settings) -> None:
    """Refuse files and training folders that are not there, before anything slow is imported.

    Raises:
        ValueError: naming the setting and the file.
    """
    for key in ("init_from", "init_source_from"):
        value = getattr(settings, key)
        if value is not None and not Path(value).is_file():
            kinds = "a codec.safetensors or a checkpoint" if key == "init_from" else "a source.safetensors"
            raise ValueError(f"`{key}` (={value}) must be {kinds}; there is no such file")
    ckpt, folders = settings.ckpt, settings.data.train_dir
    if ckpt not in (None, "last") and not Path(ckpt).is_file():
        raise ValueError(f"`ckpt` (={ckpt}) must be `last` or the path of a checkpoint; there is no such file")
    for folder in folders or []:
        if not Path(folder).is_dir():
            raise ValueError(
                f"`data.train_dir` (={folders}) must name folders; {folder} does not exist or is no folder"
            )


def check_loggers(settings: Settings) -> None:
    """Refuse loggers whose package is not installed.

    Raises:
        ValueError: naming the setting and what installs the package.
    """
    for name in _LOGGERS:
        if getattr(settings.logger, name) and importlib.util.find_spec(name) is None:
            raise ValueError(
                f"`logger.{name}` (=True) needs the package {name}, which is not installed: "
                f"pip install 'regicomp[{name}]'"
            )


def doubts(settings: Settings) -> list[str]:
    """Warnings about settings that are allowed but seldom intended, a line each."""
    found: list[str] = []
    if (crop := settings.phases.phases[-1].crop) < _LEAST_CROP:
        found.append(
            f"`data.crop` (={crop}) leaves the hyper-latent a single position, so the outer weights of its transforms' "
            "kernels stay untrained and whole images cost up to twice the bits of crops; take "
            f"{_LEAST_CROP} or more for results, in the last phase at least (experiments/LOG.md)"
        )
    if patience := settings.early_stopping.patience:
        ends = [f"`optimizer.schedule` (={settings.optimizer.schedule})"] * (settings.optimizer.schedule != "constant")
        ends += [f"`reg.release_steps` (={settings.regularizer.release_steps})"] * bool(settings.regularizer.release_at)
        if ends:
            found.append(
                f"`early_stopping.patience` (={patience}) may end the run before the last of "
                f"`trainer.max_steps` (={settings.trainer.max_steps}) updates, and {' and '.join(ends)} would be cut "
                "off; optimizer.schedule=constant with average.decay=0.999 has no end to miss"
            )
    return found


# --- schedules and processes ------------------------------------------------------------------------------------------


def _check_phase(settings: Settings, phase: phases.Phase) -> None:
    """Rules for what may change from phase to phase, of `data` and `optimizer` where there is but one."""
    crop, batch, source = phase.crop, phase.batch_size, settings.source
    inside = "" if phase.start == 0 else f" of the phase from update {phase.start}"
    if crop % 64:
        raise ValueError(f"`data.crop` (={crop}){inside} must be a multiple of 64, the codec's downsampling")
    if source is not None and crop % (patch := source.arguments.get("patch", 1)):
        raise ValueError(f"`source.patch` (={patch}) must divide `data.crop` (={crop}){inside}")
    if settings.objective.distortion == "ms_ssim" and crop <= 160:
        raise ValueError(f"`data.crop` (={crop}){inside} must be larger than 160 with objective=ms_ssim")
    if source is not None and phase.source_lr < phase.lr:
        raise ValueError(
            f"`optimizer.source_lr` (={phase.source_lr}){inside} must be at least "
            f"`optimizer.lr` (={phase.lr}): q_θ must keep up with the codec"
        )
    strategy = settings.strategy
    devices: Any = strategy.devices if is_integer(strategy.devices) else 1
    parts = devices * strategy.num_nodes * settings.trainer.accumulate_grad_batches
    if batch % parts:
        raise ValueError(
            f"`data.batch_size` (={batch}){inside} must be a multiple of {parts} = `strategy.devices` × "
            "`strategy.num_nodes` × `trainer.accumulate_grad_batches`: it is the batch of all processes together"
        )


def _check_strategy(settings: Settings) -> None:
    chosen, reg, accumulate = settings.strategy, settings.regularizer, settings.trainer.accumulate_grad_batches
    if chosen.strategy == "auto" and (chosen.devices != 1 or chosen.num_nodes != 1):
        raise ValueError(
            f"`strategy.devices` (={chosen.devices}) × `strategy.num_nodes` (={chosen.num_nodes}) must be 1 with one "
            "process; strategy=ddp (GPUs) or strategy=ddp_cpu trains with several"
        )
    if chosen.devices == "auto" and chosen.accelerator != "gpu":
        raise ValueError("`strategy.devices` (=auto) must be an integer of at least 1 unless on GPUs")
    if chosen.strategy == "fsdp":
        raise ValueError(
            "`strategy` (=fsdp) must be ddp: the parameters, gradients and Adam's states of the largest codec take "
            "1.3 GB, so dividing them saves little; trainer.accumulate_grad_batches lowers the memory of a step"
        )
    if chosen.strategy == "ddp" and settings.optimizer.lr == 0:
        raise ValueError("`optimizer.lr` (=0) needs one process: strategy=cpu or strategy=gpu, not ddp")
    if accumulate > 1 and not (reg.order == "codec_first" and reg.form == "one_pass"):
        raise ValueError(
            f"`trainer.accumulate_grad_batches` (={accumulate}) must be 1 with reg.order=source_first or "
            "reg.form=two_pass: their networks step between backward passes"
        )


def _check_early_stopping(settings: Settings) -> None:
    patience, min_delta = settings.early_stopping.patience, settings.early_stopping.min_delta
    if patience and not settings.trainer.val_every:
        raise ValueError(
            f"`early_stopping.patience` (={patience}) counts validations, and `trainer.val_every` (=0) makes none; "
            "it must be at least 1"
        )
    if min_delta and not patience:
        raise ValueError(f"`early_stopping.min_delta` (={min_delta}) must be 0 where `early_stopping.patience` is 0")


# --- the regularizer --------------------------------------------------------------------------------------------------


def _check_regularizer(settings: Settings) -> None:
    reg, steps = settings.regularizer, settings.trainer.max_steps
    if reg.order == "codec_first" and reg.source_steps != 1:
        raise ValueError(
            f"`reg.source_steps` (={reg.source_steps}) must be 1 with reg.order=codec_first; "
            "reg.order=source_first takes several"
        )
    if any(phase.alpha > 0 for phase in settings.phases.phases) and reg.warmup_steps >= steps:
        raise ValueError(
            f"`reg.warmup_steps` (={reg.warmup_steps}) must be less than `trainer.max_steps` (={steps}), "
            "or the regularizer would never act"
        )
    if reg.release_steps and reg.warmup_steps + reg.release_steps >= steps:
        raise ValueError(
            f"`reg.release_steps` (={reg.release_steps}) and `reg.warmup_steps` (={reg.warmup_steps}) must "
            f"together be less than `trainer.max_steps` (={steps}), or the regularizer would never act"
        )
    if reg.feed == "rounded" and settings.compile:
        raise ValueError("`reg.feed` (=rounded) must be noisy with compile=true: a compiled codec hides its latents")
    if reg.feed == "rounded" and settings.quantization == "mixed":
        raise ValueError(
            "`reg.feed` (=rounded) must be noisy with quantization=mixed: q_θ sees what g_s decodes anyway"
        )


def _check_fixed_codec(settings: Settings) -> None:
    reg = settings.regularizer
    if settings.optimizer.lr == 0 and (reg.alpha > 0 or not reg.probe or settings.init_from is None):
        raise ValueError(
            "`optimizer.lr` (=0) keeps the codec fixed, which needs reg.alpha=0, reg.probe=true and init_from; "
            "it must be greater than 0 otherwise"
        )


# --- classes and their arguments --------------------------------------------------------------------------------------


def _check_classes(settings: Settings) -> None:
    """Refuse classes that do not exist and arguments that they do not take or that do not fit together."""
    _check_class("backbone", settings.backbone)
    if settings.source is not None:
        _check_class("source", settings.source)
    of_y = settings.backbone.arguments
    if "slices" in of_y and "M" in of_y:
        slices, heads = (_count("backbone", of_y, name) for name in ("slices", "heads"))
        _divides("backbone.slices", slices, "`backbone.M`", of_y["M"])
        _divides("backbone.heads", heads, "the channels of a slice, backbone.M / backbone.slices", of_y["M"] // slices)
    if "groups" in of_y and "M" in of_y:
        _check_groups(of_y["groups"], of_y["M"])
    of_x = {} if settings.source is None else settings.source.arguments
    if "slices" in of_x:
        slices, heads, patch = (_count("source", of_x, name) for name in ("slices", "heads", "patch"))
        _divides("source.slices", slices, "the samples of a patch, 3·source.patch²", 3 * patch**2)
        samples = 3 * patch**2 // slices
        _divides("source.heads", heads, "the samples of a slice, 3·source.patch² / source.slices", samples)


def _check_class(group: str, spec: ClassSpec) -> None:
    found = class_lookup.find(spec.target)
    if found is None:
        raise ValueError(
            f"`{group}._target_` (={spec.target}) must name a class, as module.Class; "
            f"{group}=… picks one of conf/{group}/"
        )
    for key, value in spec.arguments.items():
        if found.arguments is not None and key not in found.arguments:
            raise ValueError(
                f"`{group}.{key}` (={value}) must be an argument of {spec.target}: "
                f"{', '.join(sorted(found.arguments))}; the nearest is `{nearest(key, found.arguments)}`"
            )
        if key in ("N", "M", "width", "patch") and isinstance(value, int) and value > _LARGEST_WIDTH:
            raise ValueError(f"`{group}.{key}` (={value}) must be at most {_LARGEST_WIDTH}")


def _count(group: str, arguments: dict[str, Any], key: str) -> int:
    """An integer of at least 1 that only some options of a group have."""
    value = arguments.get(key)
    if value is None or not is_integer(value) or value < 1:
        raise ValueError(f"`{group}.{key}` (={value}) must be an integer of at least 1")
    return value


def _divides(part: str, by: int, whole: str, of: int) -> None:
    if of % by:
        raise ValueError(f"`{part}` (={by}) must divide {whole} (={of})")


def _check_groups(groups: Any, channels: int) -> None:
    if not isinstance(groups, list) or not groups or not all(is_integer(g) and g >= 1 for g in groups):
        raise ValueError(f"`backbone.groups` (={groups}) must be a list of integers of at least 1")
    if sum(groups) != channels:
        raise ValueError(
            f"`backbone.groups` (={groups}) must sum to `backbone.M` (={channels}); they sum to {sum(groups)}"
        )


# --- computing --------------------------------------------------------------------------------------------------------


def _check_compiling(settings: Settings) -> None:
    """torch.compile writes C++ (and, for GPUs, calls a C compiler through Triton) at the first update."""
    if not settings.compile:
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


def _check_cuda_graph(settings: Settings) -> None:
    """A graph has no place for what an update does in several parts, or copies from the processor's memory."""
    if not settings.cuda_graph:
        return
    reg, strategy = settings.regularizer, settings.strategy
    for name, value, wanted in (
        ("strategy.strategy", strategy.strategy, "auto"),
        ("trainer.accumulate_grad_batches", settings.trainer.accumulate_grad_batches, 1),
        ("reg.order", reg.order, "codec_first"),
        ("objective.distortion", settings.objective.distortion, "mse"),
        ("compile", settings.compile, False),
    ):
        if value != wanted:
            raise ValueError(f"`{name}` (={value}) must be {wanted} with cuda_graph=true")
    if strategy.accelerator == "cpu":
        raise ValueError("`strategy` (=cpu) must be one with a CUDA GPU for cuda_graph=true")
