"""The reference of settings, as Markdown, from the files of conf/ and the rules in regicomp/config/settings.py."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from regicomp.config.conf_files import conf_dir
from regicomp.config.measurement import Measurement
from regicomp.config.schema import rules
from regicomp.config.settings import Settings

COMMANDS = {"train": Settings, "evaluate": Measurement}
_OVERRIDES_ONLY = "experiment"  # a group whose files set nothing of their own


class Key(NamedTuple):
    """A key of a file."""

    name: str  # with the names of the mappings around it, such as `trainer.max_steps`
    value: str  # as it is written; empty for a mapping, whose keys follow
    comment: str  # beside it, then what stands above it; may be empty


class File(NamedTuple):
    """A file of conf/."""

    path: Path
    head: str  # the comment at its top
    package: str | None  # of a line `# @package`: where its keys go
    inherits: tuple[str, ...]  # options of its own group that it starts from
    keys: tuple[Key, ...]


def read(path: Path) -> File:
    """A file's keys with their comments.

    Raises:
        ValueError: the file is not a mapping.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{path} must be a mapping of settings")
    top = []
    for line in lines:
        if not line.startswith("#"):
            break
        top.append(line.lstrip("# ").rstrip())
    package = top.pop(0).removeprefix("@package ") if top and top[0].startswith("@package") else None
    listed: list[Any] = (yaml.safe_load(text) or {}).get("defaults", [])
    inherits = tuple(entry for entry in listed if isinstance(entry, str) and entry != "_self_")
    keys = () if node is None else tuple(_keys(node, text, lines, ""))
    return File(path, " ".join(top), package, inherits, keys)


def _keys(node: yaml.MappingNode, text: str, lines: list[str], prefix: str) -> Iterator[Key]:
    for key, value in node.value:
        if prefix == "" and key.value == "defaults":
            continue
        name = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if about := _comment(lines[key.start_mark.line][key.end_mark.column + 1 :]):
                yield Key(name, "", about)
            yield from _keys(value, text, lines, f"{name}.")
            continue
        end = value.end_mark
        beside = lines[end.line][end.column :] if end.line < len(lines) else ""
        apart = value.start_mark.line > key.end_mark.line
        comments = [lines[key.start_mark.line][key.end_mark.column + 1 :]] if apart else []
        comments += [beside, *([above] if (above := _above(key.start_mark, lines)) else [])]
        told = [found for part in comments if (found := _comment(part))]
        yield Key(name, text[value.start_mark.index : end.index].strip(), " ".join(told))


def _comment(text: str) -> str:
    found = re.match(r"\s*#\s?(.*)", text)
    return found[1].strip() if found else ""


def _above(mark: yaml.Mark, lines: list[str]) -> str:
    """The comment lines just above a key, unless they are the file's head."""
    found: list[str] = []
    at = mark.line - 1
    while at >= 0 and re.match(rf" {{{mark.column}}}#", lines[at]):
        found.insert(0, lines[at].strip("# ").rstrip())
        at -= 1
    return "# " + " ".join(found) if found and at >= 0 else ""


def groups() -> dict[str, list[File]]:
    """The options of each group, by the group's name, such as `reg` or `hydra/launcher`."""
    found: dict[str, list[File]] = {}
    for path in sorted(conf_dir().rglob("*.yaml")):
        group = path.parent.relative_to(conf_dir()).as_posix()
        if group != ".":
            found.setdefault(group, []).append(read(path))
    return found


def effective(file: File, options: list[File]) -> dict[str, Key]:
    """The keys of an option, those that it inherits included."""
    known = {option.path.stem: option for option in options}
    keys: dict[str, Key] = {}
    for name in file.inherits:
        if name in known:
            keys |= effective(known[name], options)
    for key in file.keys:
        before = keys.get(key.name)
        keys[key.name] = key if key.comment or before is None else key._replace(comment=before.comment)
    return keys


def chosen(command: str) -> dict[str, str]:
    """The option that a command takes of each group, unless told otherwise."""
    listed = yaml.safe_load((conf_dir() / f"{command}.yaml").read_text(encoding="utf-8"))["defaults"]
    entries = [entry for entry in listed if isinstance(entry, dict)]
    return {str(group).removeprefix("override "): str(option) for entry in entries for group, option in entry.items()}


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown() -> str:
    """The whole reference."""
    found = groups()
    parts = [_command("train"), *(_group(name, found[name]) for name in found if name != _OVERRIDES_ONLY)]
    return "\n\n".join([*parts, _experiments(found.get(_OVERRIDES_ONLY, [])), _command("evaluate")])


def _command(name: str) -> str:
    file = read(conf_dir() / f"{name}.yaml")
    wanted = dict(rules(COMMANDS[name]))
    lines = [f"## `regicomp.{name}`", file.head]
    lines.append("The groups and what they are for; the option is the one taken unless another is named:")
    lines.append("\n".join(["| group | option | |", "|---|---|---|", *_chosen_rows(name)]))
    for key in file.keys:
        again = name != "train" or key.name.startswith("hydra.")  # not indexed: Hydra's, or as in training
        lines.append(_entry(key.name, [("", key)], wanted.get(key.name), again))
    return "\n\n".join(lines)


def _chosen_rows(command: str) -> Iterator[str]:
    text = (conf_dir() / f"{command}.yaml").read_text(encoding="utf-8")
    for group, option, comment in re.findall(r"^  - (?:override /?)?([\w/]+): (\S+)(?: # (.*))?$", text, re.MULTILINE):
        yield f"| {_reference(group)} | `{option}` | {_escaped(comment)} |"


def _reference(group: str) -> str:
    return f"[`{group}`](#{anchor(group)})" if (conf_dir() / group).is_dir() else f"`{group}`"


def anchor(group: str) -> str:
    """The anchor of a group's section."""
    return f"group-{group.replace('/', '-')}"


def _group(name: str, options: list[File]) -> str:
    default = chosen("train").get(name, "")
    prefix = {option.path.stem: _prefix(name, option) for option in options}
    lines = [f"({anchor(name)})=", f"## `{name}`", "| option | |\n|---|---|"]
    for option in options:
        stem = option.path.stem
        lines[-1] += f"\n| `{name}={stem}`{' (default)' if stem == default else ''} | {_escaped(option.head)} |"
    by_name: dict[str, list[tuple[str, Key]]] = {}
    for option in sorted(options, key=lambda option: option.path.stem != default):
        for key in effective(option, options).values():
            by_name.setdefault(prefix[option.path.stem] + key.name, []).append((option.path.stem, key))
    wanted = dict(rules(Settings))
    lines += [_entry(full, found, wanted.get(full)) for full, found in by_name.items()]
    return "\n\n".join(lines)


def _prefix(group: str, option: File) -> str:
    package = group.replace("/", ".") if option.package is None else option.package
    return "" if package == "_global_" else f"{package}."


def _experiments(options: Iterable[File]) -> str:
    lines = [
        f"({anchor(_OVERRIDES_ONLY)})=",
        "## `experiment`",
        "Files that only override: `experiment=NAME`. [Experiments](../experiments/README.md) has their results.",
    ]
    for option in options:
        body = re.sub(r"\A(#.*\n)+", "", option.path.read_text(encoding="utf-8"))
        lines += [f"### `experiment={option.path.stem}`", _escaped(option.head), f"```yaml\n{body.rstrip()}\n```"]
    return "\n\n".join(lines)


def _entry(name: str, found: list[tuple[str, Key]], its_rule: Any, again: bool = False) -> str:
    """A setting: its rule, its value by option, the comments."""
    if not found[0][1].value:
        return f"**`{name}`**: {_escaped(found[0][1].comment)}"
    values: dict[str, list[str]] = {}
    for option, key in found:
        values.setdefault(key.value, []).append(option)
    first = next(iter(values))
    lines = [f"`````{{confval}} {name}", *([":no-index:"] if again else [])]
    if its_rule is not None and its_rule.expected != "there":
        lines.append(f":type: {its_rule.expected}")
    lines += [f":default: {_code(first)}", ""]
    comments = list(dict.fromkeys(key.comment for _, key in found if key.comment))
    lines += [f"{_escaped(comment)}\n" for comment in comments]
    if len(values) > 1:
        told = (f"{_code(value)} ({', '.join(f'`{option}`' for option in own)})" for value, own in values.items())
        lines.append(f"By option: {', '.join(told)}.")
    return "\n".join([*lines, "`````"])


def _code(text: str) -> str:
    flat = " ".join(text.split()) or "null"
    fence = "``" if "`" in flat else "`"
    return f"{fence}{flat}{fence}"


def _escaped(text: str) -> str:
    """A comment as Markdown that shows just its characters, code apart."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\|*_<>\[\]${}~])", r"\\\1", part) for part in parts)
