"""The configuration: where it lies, its resolvers, and what follows from its settings.

Nothing here imports torch, so that a wrong setting is refused within a second or two.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from regicomp.config import phases

# Our files of launchers' settings bear the plugins' names, which Hydra 1.3 remarks on, also in the launchers' workers,
# where nothing of ours but this import runs before it does.
warnings.filterwarnings("ignore", message="(?s).*is validated against ConfigStore schema")


def conf_dir() -> Path:
    """Folder of the configuration: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def uses_source(cfg: DictConfig) -> bool:
    """Whether the run builds a source entropy model."""
    return cfg.reg.probe or any(phase.alpha > 0 for phase in phases_of(cfg).phases)


def phases_of(cfg: DictConfig) -> phases.Phases:
    """What holds at which codec update: the run's own settings, changed by `phases`.

    Raises:
        ValueError: `phases` is not as conf/train.yaml says.
    """
    first = phases.Phase(
        start=0,
        crop=cfg.data.crop,
        batch_size=cfg.data.batch_size,
        lr=cfg.optimizer.lr,
        source_lr=cfg.optimizer.source_lr,
        alpha=cfg.reg.alpha,
    )
    entries: Any = OmegaConf.to_container(cfg.phases, resolve=True) if OmegaConf.is_config(cfg.phases) else cfg.phases
    return phases.read(first, entries, cfg.trainer.max_steps)


def warmup_steps(cfg: DictConfig) -> int:
    """Codec updates with α = 0: `reg.warmup_steps`, or 5 % of all steps and at most 2000."""
    given = cfg.reg.warmup_steps
    return min(2000, cfg.trainer.max_steps // 20) if given is None else given


def ramp_steps(cfg: DictConfig) -> int:
    """Codec updates over which α rises: `reg.ramp_steps`, or as many as the warm-up's."""
    given = cfg.reg.ramp_steps
    return warmup_steps(cfg) if given is None else given


def release_at(cfg: DictConfig) -> int | None:
    """The first codec update of the end with α = 0, or None if there is no such end."""
    return cfg.trainer.max_steps - cfg.reg.release_steps if cfg.reg.release_steps else None


def variant(cfg: DictConfig) -> str | None:
    """What tells a run's curve from its family's, for its record: `variant`, or the settings of a regularized run that
    are unusual, `reg.*` besides α and `source.*` besides what the option of conf/source says."""
    if cfg.variant is not None:
        return str(cfg.variant)
    if not uses_source(cfg):
        return None
    usual: Any = OmegaConf.load(conf_dir() / "reg" / "default.yaml")
    of_the_result = [key for key in usual if key not in ("alpha", "probe", "form")]
    unusual = [f"{key}={cfg.reg[key]}" for key in of_the_result if cfg.reg[key] != usual[key]]
    unusual += [f"source.{key}={value}" for key, value in _unusual_of_source(cfg).items()]
    return ", ".join(unusual) or None


def _unusual_of_source(cfg: DictConfig) -> dict[str, Any]:
    """The settings of q_θ that differ from its option's in conf/source; none if its class is the user's own."""
    option = conf_dir() / "source" / f"{label('source', cfg.source._target_)}.yaml"
    if not option.is_file():
        return {}
    sizes = {"size": cfg.size, "quality": cfg.quality}  # what `${width:…}` looks up
    usual: Any = plain(OmegaConf.create({**sizes, "source": OmegaConf.load(option)}))["source"]
    return {key: value for key, value in plain(cfg.source).items() if usual.get(key) != value}


def lmbda(cfg: DictConfig) -> float:
    """λ: `objective.lmbda`, or the quality's."""
    given = cfg.objective.lmbda
    return float(cfg.objective.by_quality[cfg.quality - 1] if given is None else given)


def label(group: str, target: str) -> str:
    """Name under which a run's record files a class: the option of `conf/<group>/` that names it, or its own."""
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        node = OmegaConf.load(path)
        if isinstance(node, DictConfig) and OmegaConf.select(node, "_target_") == target:
            return path.stem
    return target.rsplit(".", 1)[-1]


# What may differ between two runs that compute the same thing.
_NOT_PART_OF_THE_RESULT = ("logger", "ckpt", "hydra", "strategy", "compile", "profile", "plan", "variant")


def plain(node: Any) -> Any:
    """A node of the configuration as plain dictionaries, lists and values."""
    return OmegaConf.to_container(node, resolve=True)


def config_hash(cfg: DictConfig) -> str:
    """Twelve hexadecimal digits that are equal for configurations that compute the same result."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    if not isinstance(plain, dict):
        raise TypeError("a run's configuration is a mapping")
    for key in _NOT_PART_OF_THE_RESULT:
        plain.pop(key, None)
    if not plain.get("phases"):
        plain.pop("phases", None)
    if plain.get("evaluation", {}).get("images") is None:
        plain.pop("evaluation", None)
    optimizer = plain.get("optimizer", {})
    if optimizer.get("name") == "adam":  # what came later than the records, where it is as it was before
        for key, usual in {"name": "adam", "betas": [0.9, 0.999], "warmup": 0}.items():
            if optimizer.get(key) == usual:
                del optimizer[key]
    if not plain.get("average", {}).get("decay"):
        plain.pop("average", None)
    for group, keys in {
        "trainer": ("log_every", "checkpoint_every"),
        "data": ("workers", "cache", "device_crops", "retries"),
        "evaluation": ("workers",),
    }.items():
        for key in keys:
            plain.get(group, {}).pop(key, None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def training_data(cfg: DictConfig) -> list[str]:
    """What a run was trained on, for its record: folders, by their path below `data.root` where they lie in it."""
    folders = cfg.data.train_dir
    if folders is None:
        return [f"dead leaves, {cfg.data.images} images"]
    root = Path(cfg.data.root).resolve()
    paths = [Path(f).resolve() for f in ([folders] if isinstance(folders, str) else folders)]
    return [(p.relative_to(root) if p.is_relative_to(root) else Path(p.name)).as_posix() for p in paths]
