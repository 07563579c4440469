"""The commands' --help: what they do, examples, groups and settings, from the comments in conf/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from regicomp.config.conf_files import conf_dir

_GROUPS_ELSEWHERE = ("hydra",)
# What options inherit from.
_NO_OPTIONS = (("source", "default"), ("experiment", "lambda_sweep"), ("logger", "base"))


class Command(NamedTuple):
    """A command with a configuration."""

    config: str  # file of conf/ without its ending
    does: str
    examples: tuple[tuple[str, str], ...]  # arguments, and what they do


TRAIN = Command(
    "train",
    "Train a neural image codec with the information-theoretic regularizer, measure it in bytes, write its record.",
    (
        ("experiment=demo", "a small codec on images that need no download, in minutes"),
        ("backbone=elic quality=4 data=bsds500", "ELIC on BSDS500, measured on Kodak"),
        ("data=folder data.train_dir=PHOTOS data.test_dirs=[HOLIDAYS]", "your own images"),
        ("hydra.run.dir=RUN ckpt=last", "go on with a run that was interrupted"),
        ("-m quality=1,3,5 reg.alpha=0,0.03 hydra.sweep.dir=SWEEP", "a sweep; `regicomp report SWEEP` compares"),
    ),
)
EVALUATE = Command(
    "evaluate",
    "Measure a trained codec: every image is coded to bytes and back.",
    (
        ("checkpoint=RUN/codec.safetensors", "on the embedded photographs"),
        ("checkpoint=RUN/codec.safetensors testsets=[kodak]", "on Kodak"),
        ("checkpoint=RUN/codec.safetensors data=folder data.test_dirs=[PHOTOS]", "on your own images"),
        ("checkpoint=RUN/codec.safetensors source_checkpoint=RUN/source.safetensors", "H_θ(X|X̂) too"),
        ("checkpoint=RUN/codec.safetensors testsets=[kodak] workers=4 threads=1", "four images at a time"),
    ),
)


class Setting(NamedTuple):
    """A line of the list."""

    name: str
    value: str  # the default
    meaning: str


def asked(arguments: list[str]) -> bool:
    """Whether a command line asks for help."""
    return any(argument in ("-h", "--help") for argument in arguments)


def text(command: Command) -> str:
    """The text of the command's --help."""
    program = f"python -m regicomp.{command.config}"
    lines = [command.does, "", f"usage: {program} [group=option …] [setting=value …]", "", "Examples:"]
    for arguments, does in command.examples:
        lines += [f"  {program} {arguments}", f"      {does}"]
    lines += ["", "Groups, and the options of each (group=option; the files of conf/):"]
    chosen = dict(_defaults(conf_dir() / f"{command.config}.yaml"))
    names = list(chosen) if command.config != "train" else [*chosen, "experiment"]
    for group in dict.fromkeys(names):
        found = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
        options = [option for option in found if (group, option) not in _NO_OPTIONS]
        default = chosen.get(group, "none")
        lines.append(f"  {group + ' (' + default + ')':<24}{', '.join(options)}")
    lines += ["", "Settings, their defaults and meanings (setting=value):"]
    for found in _settings(command, chosen):
        lines += [f"  {found.name}={found.value}", *([f"      {found.meaning}"] if found.meaning else [])]
    lines += ["", "--cfg job prints the composed configuration; --hydra-help tells of Hydra's own flags."]
    return "\n".join(lines)


def _defaults(path: Path) -> Iterator[tuple[str, str]]:
    """Group and option of each entry of a file's defaults list."""
    for group, option in re.findall(r"^  - (\w+): (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE):
        if group != "experiment":
            yield group, "the backbone's" if option.startswith("${") else option


def _settings(command: Command, chosen: dict[str, str]) -> Iterator[Setting]:
    yield from _of_file(conf_dir() / f"{command.config}.yaml", "")
    for group, option in chosen.items():
        if group in ("backbone", "source"):  # whose settings differ from class to class
            option = "hyperprior"
        yield from _of_group(group, option)


def _of_group(group: str, option: str) -> Iterator[Setting]:
    """The settings of an option and of those it inherits from, its own first."""
    path = conf_dir() / group / f"{option}.yaml"
    seen: set[str] = set()
    listed = re.search(r"^defaults: \[(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    inherited = [path.with_stem(listed[1])] if listed else []
    base = path.with_stem("base")  # of a group of which several options can be chosen
    for part in (path, *inherited, *([base] if base.is_file() else [])):
        for found in _of_file(part, f"{group}."):
            if found.name not in seen:
                seen.add(found.name)
                yield found


def _of_file(path: Path, prefix: str) -> Iterator[Setting]:
    """`key: value # meaning` of a file, two levels deep."""
    above = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.fullmatch(r"( *)(\w+):(?: +([^#]*?))?(?: +# (.*))?", line)
        if found is None or found[2] in ("defaults", "_target_"):
            continue
        indent, key, value, meaning = len(found[1]), found[2], found[3], found[4] or ""
        if indent == 0:
            above = key
            if key in _GROUPS_ELSEWHERE or not value:
                continue
        elif above in _GROUPS_ELSEWHERE or indent > 2:
            continue
        name = key if indent == 0 else f"{above}.{key}"
        yield Setting(prefix + name, _plain(value or ""), meaning)


def _plain(value: str) -> str:
    """A default as a user thinks of it, not as conf/ computes it."""
    if value.startswith("${oc.env:REGICOMP_DATA"):
        return "$REGICOMP_DATA, or data"
    if re.match(r"\[?\"?\$\{(width|by_size):", value):
        return "by backbone, quality and size"
    if found := re.fullmatch(r"\$\{\.?([\w.]+)\}", value):
        return f"as {found[1]}"
    return "must be given" if value == "???" else value
