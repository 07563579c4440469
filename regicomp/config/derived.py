"""Values derived from the composed configuration: its hash, its variant, its training data."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from regicomp.config import old_names
from regicomp.config.conf_files import conf_dir, label

# Settings that may differ between two runs with the same result.
_NOT_PART_OF_THE_RESULT = (
    *("logger", "ckpt", "hydra", "strategy", "compile", "cuda_graph", "profile", "plan", "variant", "license"),
    *("validation", "optimized_metric"),
)
_NOT_PART_OF_THE_RESULT_IN = {
    "trainer": ("log_every", "checkpoint_every", "val_every"),
    "data": ("workers", "cache", "device_crops", "retries"),
    "evaluation": ("workers",),
}


def config_hash(composed: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that are equal for configurations that compute the same result."""
    known = old_names.of_records(composed)
    plain = {key: copy.copy(value) for key, value in known.items() if key not in _NOT_PART_OF_THE_RESULT}
    if plain.get("early_stopping", {}).get("patience"):  # then the result depends on what is validated, and when
        plain["early_stopping"] |= {"val_every": known["trainer"]["val_every"], "validation": known["validation"]}
    else:
        plain.pop("early_stopping", None)
    if not plain.get("phases"):
        plain.pop("phases", None)
    if plain.get("evaluation", {}).get("images") is None:
        plain.pop("evaluation", None)
    if plain.get("rate") == {"kind": "fixed"}:  # what came later than the records, where it is as it was before
        plain.pop("rate")
    if plain.get("rate", {}).get("gains_lr") == 1:
        plain["rate"] = {key: value for key, value in plain["rate"].items() if key != "gains_lr"}
    if plain.get("reg", {}).get("pressure", 0) is None:
        del plain["reg"]["pressure"]
    if plain.get("reg", {}).get("direction") == "maximize":
        del plain["reg"]["direction"]
    optimizer = plain.get("optimizer", {})
    if optimizer.get("name") == "adam":  # the same
        for key, usual in {"name": "adam", "betas": [0.9, 0.999], "warmup": 0}.items():
            if optimizer.get(key) == usual:
                del optimizer[key]
    if plain.get("quantization") == "noise":
        plain.pop("quantization")
    if not plain.get("average", {}).get("decay"):
        plain.pop("average", None)
    for group, keys in _NOT_PART_OF_THE_RESULT_IN.items():
        for key in keys:
            plain.get(group, {}).pop(key, None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def warmup(steps: int) -> int:
    """Updates of the warm-up where `reg.warmup_steps` is null: 5 % of all, at most 2000."""
    return min(2000, steps // 20)


def variant(composed: Mapping[str, Any], uses_source: bool) -> str | None:
    """The name that distinguishes a run's curve from its family's, for its record.

    `variant`, or the unusual settings of a regularized run: `reg.*` besides α and the pressure, and `source.*` that
    differ from the option of conf/source.
    """
    if composed["variant"] is not None:
        return str(composed["variant"])
    if not uses_source:
        return None
    usual: Any = OmegaConf.load(conf_dir() / "reg" / "default.yaml")
    reg = composed["reg"]
    told = ("alpha", "pressure", "probe", "form")  # by the record, or without an effect
    unusual = [f"{key}={reg[key]}" for key in usual if key not in told and reg[key] != usual[key]]
    unusual += [f"alpha={reg['alpha']}"] if isinstance(reg["alpha"], list) else []
    unusual += [f"source.{key}={value}" for key, value in _unusual_of_source(composed).items()]
    return ", ".join(unusual) or None


def _unusual_of_source(composed: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of q_θ that differ from its option's in conf/source; none if its class is the user's own."""
    source = composed["source"]
    option = conf_dir() / "source" / f"{label('source', source['_target_'])}.yaml"
    if not option.is_file():
        return {}
    sizes = {"size": composed["size"], "quality": composed["quality"]}  # what `${width:…}` looks up
    node = OmegaConf.create({**sizes, "source": _with_inherited(option)})
    usual: Any = OmegaConf.to_container(node.source, resolve=True)
    return {key: value for key, value in source.items() if usual.get(key) != value}


def _with_inherited(option: Path) -> dict[str, Any]:
    """The settings of a group's file and of those that its defaults name, its own before theirs."""
    own: Any = OmegaConf.to_container(OmegaConf.load(option))
    found: dict[str, Any] = {}
    for name in own.pop("defaults", []):
        if name != "_self_":
            found |= _with_inherited(option.with_stem(name))
    return found | own


def training_data(folders: list[str] | None, images: int | None, root: str) -> list[str]:
    """A run's training data, for its record: folders, by their path below `data.root` where they lie in it."""
    if folders is None:
        return [f"dead leaves, {images} images"]
    above = Path(root).resolve()
    paths = [Path(f).resolve() for f in folders]
    return [(p.relative_to(above) if p.is_relative_to(above) else Path(p.name)).as_posix() for p in paths]


def flat(composed: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of every setting, such as `reg.alpha`."""
    for name, value in composed.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
