"""The rules that every run's settings must satisfy.

Nothing here imports torch, so that a wrong setting is refused within a second or two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

QUALITIES = range(1, 9)


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
    _one_of("optimizer.name", "adam", "soap", "muon"),
    Rule(
        "optimizer.betas",
        lambda v: isinstance(v, ListConfig | list) and len(v) == 2 and all(_is_number(b) and 0 <= b < 1 for b in v),
        "two numbers in [0, 1), such as [0.9, 0.999]",
    ),
    Rule("optimizer.momentum", lambda v: _is_number(v) and 0 <= v < 1, "a number in [0, 1)", absent=True),
    _whole("optimizer.every", 1, absent=True),
    _whole("optimizer.warmup", 0),
    _one_of("optimizer.schedule", "constant", "cosine", "linear"),
    _number("optimizer.decay", above=0, most=1),
    _number("optimizer.clip", above=0),
    Rule("average.decay", lambda v: _is_number(v) and 0 <= v < 1, "a number in [0, 1)"),
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
