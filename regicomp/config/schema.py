"""The rules that every run's settings must satisfy.

Nothing here imports torch, so that a wrong setting is refused within a second or two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from regicomp.config import checks, phases
from regicomp.config.settings import phases_of, uses_source, warmup_steps

QUALITIES = range(1, 9)
_LEAST_CROP = 128  # pixels


class Rule(NamedTuple):
    """What a setting must satisfy, and how to say so."""

    setting: str
    holds: Callable[[Any], bool]
    expected: str
    absent: bool = False  # whether the key may be missing altogether


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(
    setting: str,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    null: bool = False,
) -> Rule:
    def holds(value: Any) -> bool:
        return (null and value is None) or (_is_number(value) and least <= value <= most and value > above)

    words = ["a finite number"]
    if least > -math.inf:
        words.append(f"of at least {least:g}")
    if above > -math.inf:
        words.append(f"greater than {above:g}")
    if most < math.inf:
        words.append(f"and at most {most:g}")
    return Rule(setting, holds, " ".join(words) + (", or null" if null else ""))


def _whole(setting: str, least: int, most: int | None = None, null: bool = False, absent: bool = False) -> Rule:
    def holds(value: Any) -> bool:
        in_range = _is_whole(value) and value >= least and (most is None or value <= most)
        return in_range or (null and value is None)

    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Rule(setting, holds, f"a whole number {span}" + (", or null" if null else ""), absent)


def _one_of(setting: str, *values: Any) -> Rule:
    def holds(value: Any) -> bool:
        return any(value == v and type(value) is type(v) for v in values)

    return Rule(setting, holds, "one of " + ", ".join("null" if v is None else str(v).lower() for v in values))


def _text(setting: str, null: bool = False) -> Rule:
    return Rule(
        setting,
        lambda value: (isinstance(value, str) and bool(value)) or (null and value is None),
        "a text" + (", or null" if null else ""),
    )


def _texts(setting: str) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, ListConfig | list) and all(isinstance(v, str) and v for v in value)

    return Rule(setting, holds, "a list of texts, such as [kodak]")


DATA_RULES = (
    _text("data.root"),
    Rule(
        "data.train_dir",
        lambda v: v is None or (isinstance(v, str) and bool(v)) or (_texts("").holds(v) and len(v) > 0),
        "a folder, a list of folders, or null",
    ),
    _texts("data.test_dirs"),
    _texts("testsets"),
    _whole("data.images", 1, null=True),
    _whole("data.crop", 1),
    _whole("data.batch_size", 1),
    _one_of("data.cache", "auto", True, False),
    _whole("data.workers", 0),
    _one_of("data.device_crops", "auto", True, False),
    _one_of("data.on_error", "skip", "raise"),
    _whole("data.retries", 0, 10),
)

TRAIN_RULES = (
    _whole("quality", QUALITIES[0], QUALITIES[-1]),
    _one_of("size", "paper", "tiny"),
    _whole("seed", 0, 2**63 - 1),
    _text("variant", null=True),
    _text("backbone._target_"),
    _whole("backbone.N", 1),
    _whole("backbone.M", 1, absent=True),  # not every codec has it
    _text("source._target_"),
    _whole("source.patch", 1),
    _whole("source.width", 1),
    _one_of("source.density", "gaussian", "logistic"),
    _number("source.initial_scale", above=0),
    _one_of("objective.distortion", "mse", "ms_ssim"),
    _number("objective.lmbda", above=0, null=True),
    _number("reg.alpha", least=0),
    _one_of("reg.order", "codec_first", "source_first"),
    _one_of("reg.form", "one_pass", "two_pass"),
    _whole("reg.source_steps", 1),
    _whole("reg.warmup_steps", 0, null=True),
    _whole("reg.ramp_steps", 0, null=True),
    _whole("reg.release_steps", 0),
    _one_of("reg.feed", "noisy", "rounded"),
    _one_of("reg.project", True, False),
    _one_of("reg.per_image", True, False),
    _number("reg.max_pressure", above=0),
    _one_of("reg.probe", True, False),
    _one_of("strategy.accelerator", "auto", "cpu", "gpu"),
    _one_of("strategy.strategy", "auto", "ddp", "fsdp"),
    Rule(
        "strategy.devices",
        lambda v: v == "auto" or (_is_whole(v) and v >= 1),
        "a whole number of at least 1, or auto",
    ),
    _whole("strategy.num_nodes", 1),
    _number("optimizer.lr", least=0),
    _number("optimizer.source_lr", above=0),
    _one_of("optimizer.schedule", "constant", "cosine"),
    _number("optimizer.decay", above=0, most=1),
    _number("optimizer.clip", above=0),
    _whole("trainer.max_steps", 1),
    _whole("trainer.log_every", 1),
    _whole("trainer.checkpoint_every", 1),
    _whole("trainer.accumulate", 1),
    _one_of("compile", True, False),
    _one_of("profile", True, False),
    _one_of("plan", True, False),
    _whole("guard.patience", 1),
    _one_of("guard.action", "rollback", "stop"),
    _number("guard.lower", above=0, most=1),
    _whole("guard.rollbacks", 0),
    _whole("guard.alarm_rows", 1),
    _one_of("deterministic", True, False),
    _whole("evaluation.workers", 1),
    _whole("evaluation.images", 1, null=True),
    _one_of("precision", "auto", "bf16", "float32"),
    _one_of("channels_last", "auto", True, False),
    _one_of("logger.wandb", True, False),
    _text("logger.project"),
    _text("init_from", null=True),
    _text("init_source_from", null=True),
    _text("ckpt", null=True),
)


def _apply(rules: tuple[Rule, ...], cfg: DictConfig) -> None:
    for rule in rules:
        parent, _, key = rule.setting.rpartition(".")
        if rule.absent and key not in tuple(OmegaConf.select(cfg, parent)):  # `in` alone overlooks ???
            continue
        try:
            value = OmegaConf.select(cfg, rule.setting, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ValueError(f"`{rule.setting}` must be {rule.expected}: {str(error).splitlines()[0]}") from error
        if not rule.holds(value):
            raise ValueError(f"`{rule.setting}` (={value}) must be {rule.expected}")


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
    checks.check(cfg, uses_source(cfg))
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
