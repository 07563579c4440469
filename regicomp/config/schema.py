"""Rules for single settings, which stand beside the fields of the settings' dataclasses, and their reader.

A dataclass's fields are the settings of one part of the configuration. The function that makes a field also states
its setting's rule, such as `alpha: float = number(at_least=0)`. Nothing here imports torch, so that a wrong setting is
refused within a second or two.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from regicomp.config.class_lookup import ClassSpec

T = TypeVar("T")
_REQUIRED: Any = object()


class Rule(NamedTuple):
    """A condition on a setting, and its description in messages."""

    holds: Callable[[Any], bool]
    expected: str
    absent: Any = _REQUIRED  # the value where the key is missing altogether; else the key must be there


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_string(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(_is_string(v) for v in value)


# --- rules ------------------------------------------------------------------------------------------------------------


def rule(holds: Callable[[Any], bool], expected: str, null: bool = False, absent: Any = _REQUIRED) -> Rule:
    """A rule; with `null`, null is allowed, too."""
    if null:
        return Rule(lambda value: value is None or holds(value), f"{expected}, or null", absent)
    return Rule(holds, expected, absent)


def a_number(
    at_least: float = -math.inf, above: float = -math.inf, at_most: float = math.inf, null: bool = False
) -> Rule:
    """A finite number in a range."""
    words = ["a finite number"]
    if at_least > -math.inf:
        words.append(f"of at least {at_least:g}")
    if above > -math.inf:
        words.append(f"greater than {above:g}")
    if at_most < math.inf:
        words.append(f"and at most {at_most:g}")
    return rule(lambda v: is_number(v) and at_least <= v <= at_most and v > above, " ".join(words), null)


def an_integer(at_least: int, at_most: int | None = None, null: bool = False) -> Rule:
    """An integer in a range."""
    span = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    return rule(
        lambda v: is_integer(v) and v >= at_least and (at_most is None or v <= at_most), f"an integer {span}", null
    )


def one_of_these(*values: Any) -> Rule:
    """One of some values."""
    expected = "one of " + ", ".join("null" if v is None else str(v).lower() for v in values)
    return rule(lambda value: any(value == v and type(value) is type(v) for v in values), expected)


_CLASS_PATH = rule(_is_string, "the path of a class, as module.Class")


# --- fields -----------------------------------------------------------------------------------------------------------


def setting(its_rule: Rule) -> Any:
    """A field whose setting must satisfy a rule."""
    return dataclasses.field(metadata={"rule": its_rule})


def number(**bounds: Any) -> Any:
    """A field that is a finite number; see `a_number`."""
    return setting(a_number(**bounds))


def fraction(absent: Any = _REQUIRED) -> Any:
    """A field that is a number in [0, 1)."""
    return setting(rule(lambda v: is_number(v) and 0 <= v < 1, "a number in [0, 1)", absent=absent))


def integer(*bounds: Any, absent: Any = _REQUIRED, **more: Any) -> Any:
    """A field that is an integer; see `an_integer`."""
    return setting(an_integer(*bounds, **more)._replace(absent=absent))


def one_of(*values: Any) -> Any:
    """A field that is one of these values."""
    return setting(one_of_these(*values))


def boolean() -> Any:
    """A field that is true or false."""
    return one_of(True, False)


def string(null: bool = False) -> Any:
    """A field that is a string, not an empty one."""
    return setting(rule(_is_string, "a string", null))


def strings() -> Any:
    """A field that is a list of strings, which may be empty."""
    return setting(rule(_are_strings, "a list of strings, such as [kodak]"))


def paths() -> Any:
    """A field that is a folder, a list of folders, or null."""
    return setting(
        rule(
            lambda v: v is None or _is_string(v) or (_are_strings(v) and len(v) > 0),
            "a folder, a list of folders, or null",
        )
    )


def anything() -> Any:
    """A field whose value is checked elsewhere."""
    return setting(Rule(lambda value: True, "there"))


def part(cls: type, key: str | None = None) -> Any:
    """A field that is a part with settings of its own, under `key` of the configuration (by default its own name)."""
    return dataclasses.field(metadata={"part": cls, "key": key})


def class_spec(**rules: Rule) -> Any:
    """A field that names a class and its arguments; `rules` are for arguments that are given."""
    return dataclasses.field(metadata={"class": rules})


def follows(default: Any = None) -> Any:
    """A field that is no setting: it follows from others."""
    return dataclasses.field(default=default)


# --- reading ----------------------------------------------------------------------------------------------------------


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`, as a whole and in its last part."""

    def likeness(candidate: str) -> float:
        pairs = ((name, candidate), (name.rpartition(".")[2], candidate.rpartition(".")[2]))
        return sum(difflib.SequenceMatcher(None, a, b).ratio() for a, b in pairs)

    return max(sorted(set(known)), key=likeness)


def rules(cls: Any, prefix: str = "") -> Iterator[tuple[str, Rule]]:
    """The settings of a dataclass and its parts by name, such as `reg.alpha`, each with its rule."""
    for field in dataclasses.fields(cls):
        key = field.metadata.get("key") or field.name
        if "part" in field.metadata:
            yield from rules(field.metadata["part"], f"{prefix}{key}.")
        elif "class" in field.metadata:
            yield f"{prefix}{key}._target_", _CLASS_PATH
            yield from ((f"{prefix}{key}.{argument}", its) for argument, its in field.metadata["class"].items())
        elif field.metadata:
            yield f"{prefix}{key}", field.metadata["rule"]


def names(cls: Any) -> Iterator[str]:
    """The settings' names of a dataclass and its parts, such as `reg.alpha`."""
    return (name for name, _ in rules(cls))


def read(cls: type[T], cfg: DictConfig, unread: Collection[str] = ()) -> T:
    """The settings of `cls` in a composed configuration; what is derived still has its defaults.

    Args:
        cls: a dataclass of fields made by the functions above.
        cfg: the whole configuration.
        unread: settings that are not looked at, and None.

    Raises:
        ValueError: a setting is unknown, missing, or not what its rule says.
    """
    known = list(names(cls))
    return _read(cls, cfg, "", known, unread)


def _read(cls: Any, cfg: DictConfig, where: str, known: list[str], unread: Collection[str]) -> Any:
    node = OmegaConf.select(cfg, where) if where else cfg
    if not isinstance(node, DictConfig):
        raise ValueError(f"`{where}` (={node}) must be a mapping of settings")
    prefix = f"{where}." if where else ""
    fields = {field.metadata.get("key") or field.name: field for field in dataclasses.fields(cls) if field.metadata}
    for key in map(str, node):
        if key not in fields:
            name, value = f"{prefix}{key}", node._get_node(key)
            near = nearest(name, known)
            raise ValueError(f"`{name}` (={value}) must be a setting that exists; the nearest is `{near}`")
    values: dict[str, Any] = {}
    for key, field in fields.items():
        name = f"{prefix}{key}"
        if "part" in field.metadata:
            values[field.name] = _read(field.metadata["part"], cfg, name, known, unread)
        elif "class" in field.metadata:
            values[field.name] = _class_spec(cfg, name, field.metadata["class"])
        else:
            values[field.name] = None if name in unread else _value(cfg, name, field.metadata["rule"])
    return cls(**values)


def _value(cfg: DictConfig, name: str, its_rule: Rule) -> Any:
    parent, _, key = name.rpartition(".")
    if its_rule.absent is not _REQUIRED and key not in tuple(OmegaConf.select(cfg, parent) if parent else cfg):
        return its_rule.absent
    try:
        value = OmegaConf.select(cfg, name, throw_on_missing=True)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"`{name}` must be {its_rule.expected}: {str(error).splitlines()[0]}") from error
    if not its_rule.holds(value):
        raise ValueError(f"`{name}` (={value}) must be {its_rule.expected}")
    return value


def _class_spec(cfg: DictConfig, where: str, rules: dict[str, Rule]) -> ClassSpec:
    target = _value(cfg, f"{where}._target_", _CLASS_PATH)
    free = Rule(lambda value: True, "there")
    keys = [str(key) for key in OmegaConf.select(cfg, where)]
    return ClassSpec(
        target, {key: _value(cfg, f"{where}.{key}", rules.get(key, free)) for key in keys if key != "_target_"}
    )
