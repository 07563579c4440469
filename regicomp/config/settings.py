"""A run's settings: conf/train.yaml composed, checked, and turned once into frozen objects that the rest receives.

`resolve` makes them. Each dataclass is a part of the configuration; the parts below training receive theirs, or plain
values. Nothing here imports torch, so that a wrong setting is refused within a second or two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from regicomp.config import checks, derived, old_names, phases
from regicomp.config.class_lookup import ClassSpec
from regicomp.config.conf_files import conf_dir, label
from regicomp.config.phases import Phases
from regicomp.config.schema import (
    a_number,
    an_integer,
    anything,
    boolean,
    class_spec,
    follows,
    fraction,
    integer,
    is_integer,
    is_number,
    number,
    one_of,
    one_of_these,
    part,
    paths,
    read,
    rule,
    setting,
    string,
    strings,
)

__all__ = ["ClassSpec", "Settings", "conf_dir", "label", "resolve"]

QUALITIES = range(1, 9)


@dataclass(frozen=True)
class Objective:
    """`objective`: R + λD."""

    distortion: str = one_of("mse", "ms_ssim")
    lmbda: float = number(above=0, null=True)  # resolved: of the quality, where the setting is null
    by_quality: list[float] = setting(
        rule(
            lambda v: isinstance(v, list) and len(v) == len(QUALITIES) and all(map(a_number(above=0).holds, v)),
            "a list of 8 numbers greater than 0",
        )
    )


@dataclass(frozen=True)
class Rate:
    """`rate`: one codec for one λ, or for all of them."""

    kind: str = one_of("fixed", "variable")
    lambdas: list[float] | None = setting(  # resolved: of the levels; None where the rate is fixed
        rule(
            lambda v: _numbers_above_0(v) and len(v) >= 2 and v == sorted(set(v)),
            "at least two numbers greater than 0, in rising order",
            null=True,
            absent=None,
        )
    )
    gains: list[float] | None = setting(  # resolved: of the first and the last level before training
        rule(
            lambda v: _numbers_above_0(v) and len(v) == 2,
            "two numbers greater than 0, such as [0.35, 1.6]",
            null=True,
            absent=None,
        )
    )
    gains_lr: float = setting(a_number(above=0)._replace(absent=1.0))


def _numbers_above_0(value: Any) -> bool:
    return isinstance(value, list) and all(map(a_number(above=0).holds, value))


_LEVELS = 6  # qualities whose λ are the levels' by default
_GAINS_FROM_SCRATCH, _GAINS_OF_TRAINED = [0.35, 1.6], [1.0, 1.0]


@dataclass(frozen=True)
class Regularizer:
    """`reg`: -α H_θ(X|X̂), its schedule, and the order in which both networks learn."""

    alpha: float = setting(  # resolved: the pressure, where that is given; of a list the largest
        rule(
            lambda v: v != [] and all(map(a_number(at_least=0).holds, v if isinstance(v, list) else [v])),
            "a finite number of at least 0, or with rate=variable a list of such numbers, one a level",
        )
    )
    pressure: float | None = number(above=0, null=True)
    order: str = one_of("codec_first", "source_first")
    form: str = one_of("one_pass", "two_pass")
    source_steps: int = integer(1)
    warmup_steps: int = integer(0, null=True)  # resolved: 5 % of all updates and at most 2000, where null
    ramp_steps: int = integer(0, null=True)  # resolved: as many as the warm-up's, where null
    release_steps: int = integer(0)
    feed: str = one_of("noisy", "rounded")
    project: bool = boolean()
    per_image: bool = boolean()
    max_pressure: float = number(above=0)
    direction: str = one_of("maximize", "minimize")
    probe: bool = boolean()
    by_level: list[float] | None = follows()  # α of each level, where they are listed
    release_at: int | None = follows()  # the first update of the end with α = 0; None: there is no such end


@dataclass(frozen=True)
class Data:
    """`data`: training crops, and where named test sets lie."""

    root: str = string()
    train_dir: list[str] | None = paths()  # resolved: a list of folders; None: dead-leaves images
    test_dirs: list[str] = strings()
    testsets: list[str] = strings()
    images: int | None = integer(1, null=True)
    crop: int = integer(1)
    batch_size: int = integer(1)
    cache: bool | str = one_of("auto", True, False)
    workers: int = integer(0)
    device_crops: bool | str = one_of("auto", True, False)
    on_error: str = one_of("skip", "raise")
    retries: int = integer(0, 10)


@dataclass(frozen=True)
class Strategy:
    """`strategy`: the processes of a run and their devices."""

    accelerator: str = one_of("auto", "cpu", "gpu")
    devices: int | str = setting(
        rule(lambda v: v == "auto" or (is_integer(v) and v >= 1), "an integer of at least 1, or auto")
    )
    num_nodes: int = integer(1)
    strategy: str = one_of("auto", "ddp", "fsdp")


@dataclass(frozen=True)
class Logger:
    """`logger`: logs besides the record and metrics.csv."""

    wandb: bool = boolean()
    tensorboard: bool = boolean()
    mlflow: bool = boolean()
    project: str = string()
    tracking_uri: str | None = string(null=True)


@dataclass(frozen=True)
class Optimizer:
    """`optimizer`: the method and the learning rates of both networks."""

    name: str = one_of("adam", "soap", "muon")
    lr: float = number(at_least=0)
    betas: list[float] = setting(
        rule(
            lambda v: isinstance(v, list) and len(v) == 2 and all(is_number(b) and 0 <= b < 1 for b in v),
            "two numbers in [0, 1), such as [0.9, 0.999]",
        )
    )
    momentum: float = fraction(absent=0.95)  # not a key of every option
    every: int = integer(1, absent=10)
    source_lr: float = number(above=0)
    warmup: int = integer(0)
    schedule: str = one_of("constant", "cosine", "linear")
    decay: float = number(above=0, at_most=1)


@dataclass(frozen=True)
class Average:
    """`average`: moving averages of both networks' weights."""

    decay: float = fraction()


@dataclass(frozen=True)
class EarlyStopping:
    """`early_stopping`: the end of a run whose validations find no lower J."""

    patience: int = integer(0)
    min_delta: float = number(at_least=0)


@dataclass(frozen=True)
class Trainer:
    """`trainer`: the length of the run, and the intervals of logging and checkpoints."""

    max_steps: int = integer(1)
    log_every_n_steps: int = integer(1)
    checkpoint_every: int = integer(1)
    accumulate_grad_batches: int = integer(1)
    gradient_clip_val: float = number(above=0)
    val_every: int = integer(0)


@dataclass(frozen=True)
class Validation:
    """`validation`: the images of validations while training."""

    testset: str | None = string(null=True)
    images: int = integer(1)


@dataclass(frozen=True)
class Guard:
    """`guard`: the reaction to updates that are not finite."""

    patience: int = integer(1)
    action: str = one_of("rollback", "stop")
    lower: float = number(above=0, at_most=1)
    rollbacks: int = integer(0)
    alarm_rows: int = integer(1)


@dataclass(frozen=True)
class Evaluation:
    """`evaluation`: the measurement after training."""

    workers: int = integer(1)
    images: int | None = integer(1, null=True)


@dataclass(frozen=True)
class Settings:
    """Everything a run is made from; fields without a setting of their own follow from the others."""

    quality: int = integer(QUALITIES[0], QUALITIES[-1])
    size: str = one_of("paper", "half", "tiny")
    seed: int = integer(0, 2**63 - 1)
    variant: str | None = string(null=True)  # resolved: the unusual settings of a regularized run, where null
    quantization: str = one_of("noise", "mixed")
    backbone: ClassSpec = class_spec(N=an_integer(1), M=an_integer(1))
    source: ClassSpec | None = class_spec(  # resolved: None where no q_θ is built
        patch=an_integer(1),
        width=an_integer(1),
        density=one_of_these("gaussian", "logistic"),
        initial_scale=a_number(above=0),
    )
    objective: Objective = part(Objective)
    rate: Rate = part(Rate)
    regularizer: Regularizer = part(Regularizer, key="reg")
    optimizer: Optimizer = part(Optimizer)
    average: Average = part(Average)
    trainer: Trainer = part(Trainer)
    early_stopping: EarlyStopping = part(EarlyStopping)
    data: Data = part(Data)
    strategy: Strategy = part(Strategy)
    logger: Logger = part(Logger)
    guard: Guard = part(Guard)
    validation: Validation = part(Validation)
    evaluation: Evaluation = part(Evaluation)
    phases: Phases = anything()  # resolved: the values at each codec update; one phase where the list is empty
    testsets: list[str] = strings()
    deterministic: bool = boolean()
    precision: str = one_of("auto", "bf16", "float32", "tf32")
    channels_last: bool | str = one_of("auto", True, False)
    compile: bool = boolean()
    cuda_graph: bool = boolean()
    profile: bool = boolean()
    plan: bool = boolean()
    license: str | None = string(null=True)
    init_from: str | None = string(null=True)
    init_source_from: str | None = string(null=True)
    optimized_metric: str = one_of("j", "bpp", "psnr_db", "ms_ssim", "source_bpp")
    ckpt: str | None = string(null=True)

    backbone_label: str = follows("")  # the options' names, under which a record files the run
    source_label: str | None = follows()
    training_data: Sequence[str] = follows(())  # the training data, for the record
    config_hash: str = follows("")  # equal for settings that compute the same result
    composed: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)  # the configuration, as data

    @property
    def uses_phases(self) -> bool:
        """Whether any setting changes during the run."""
        return bool(self.composed.get("phases"))


def resolve(cfg: DictConfig | Mapping[str, Any]) -> Settings:
    """The settings of `regicomp.train`.

    Args:
        cfg: conf/train.yaml, composed; or `Settings.composed` of another process.

    Raises:
        ValueError: a setting is unknown, of the wrong type, out of range, or contradicts another; the message names it,
            its value and what was expected.
    """
    cfg = old_names.understood(cfg if isinstance(cfg, DictConfig) else OmegaConf.create(dict(cfg)))
    raw = read(Settings, cfg)
    composed: Any = OmegaConf.to_container(cfg, resolve=True)
    steps, reg, data = raw.trainer.max_steps, raw.regularizer, raw.data
    rate = _rate(raw, raw.objective.lmbda)
    if isinstance(reg.alpha, list):
        reg = _alpha_by_level(reg, rate, composed["phases"])
    elif reg.pressure is not None:
        reg = dataclasses.replace(reg, alpha=reg.pressure)
    first = phases.Phase(0, data.crop, data.batch_size, raw.optimizer.lr, raw.optimizer.source_lr, reg.alpha)
    schedule = phases.read(first, composed["phases"], steps)
    warmup = derived.warmup(steps) if reg.warmup_steps is None else reg.warmup_steps
    source = raw.source if reg.probe or any(phase.alpha > 0 for phase in schedule.phases) else None
    lmbda = raw.objective.lmbda
    given: Any = data.train_dir
    folders = [given] if isinstance(given, str) else given
    settings = dataclasses.replace(
        raw,
        variant=derived.variant(composed, source is not None),
        source=source,
        objective=dataclasses.replace(
            raw.objective, lmbda=float(raw.objective.by_quality[raw.quality - 1] if lmbda is None else lmbda)
        ),
        rate=rate,
        regularizer=dataclasses.replace(
            reg,
            warmup_steps=warmup,
            ramp_steps=warmup if reg.ramp_steps is None else reg.ramp_steps,
            release_at=steps - reg.release_steps if reg.release_steps else None,
        ),
        data=dataclasses.replace(data, train_dir=folders),
        phases=schedule,
        backbone_label=label("backbone", raw.backbone.target),
        source_label=None if source is None else label("source", source.target),
        training_data=derived.training_data(folders, data.images, data.root),
        config_hash=derived.config_hash(composed),
        composed=composed,
    )
    checks.check(settings)
    return settings


def _rate(raw: Settings, lmbda: float | None) -> Rate:
    """`rate`, resolved."""
    if raw.rate.kind == "fixed":
        return raw.rate
    if lmbda is not None:
        raise ValueError(
            f"`objective.lmbda` (={lmbda}) must be null with rate=variable, whose levels have the λ of rate.lambdas"
        )
    before = _GAINS_FROM_SCRATCH if raw.init_from is None else _GAINS_OF_TRAINED
    lambdas, gains = raw.rate.lambdas, raw.rate.gains
    return dataclasses.replace(
        raw.rate,
        lambdas=[float(v) for v in (raw.objective.by_quality[:_LEVELS] if lambdas is None else lambdas)],
        gains=[float(v) for v in (before if gains is None else gains)],
    )


def _alpha_by_level(reg: Regularizer, rate: Rate, entries: Any) -> Regularizer:
    """`reg` with a list of α, one a level, resolved."""
    listed: Any = reg.alpha
    levels = len(rate.lambdas or ())
    if len(listed) != levels:
        expected = f"a number, or a list of {levels}, one a level" if levels else "a number where rate=fixed"
        raise ValueError(f"`reg.alpha` (={listed}) must be {expected}")
    if reg.pressure is not None:
        raise ValueError(f"`reg.pressure` (={reg.pressure}) must be null where `reg.alpha` (={listed}) is a list")
    if any("alpha" in entry for entry in entries or ()):
        raise ValueError(f"`reg.alpha` (={listed}) must be a number where `phases` changes alpha")
    by_level = [float(v) for v in listed]
    return dataclasses.replace(reg, alpha=max(by_level), by_level=by_level)


def as_yaml(settings: Settings) -> str:
    """The composed configuration, every value resolved, as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(settings.composed)))


def differing(settings: Settings, path: Path) -> list[str]:
    """Names of the settings whose values differ from those in the config.yaml of another run."""
    other: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    ours, theirs = dict(derived.flat(settings.composed)), dict(derived.flat(other))
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
