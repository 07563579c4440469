"""Limits of what a codec file from a stranger may ask for: plain values in bounds, and classes of ours.

A safetensors file holds no code; its metadata name a class and arguments, and those are what must be checked. What
is trusted and what is not: SECURITY.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LARGEST_FILE_BYTES = 8 << 30
LARGEST_HEADER_BYTES = 4 << 20  # the largest codec here needs 0.2 MB
LARGEST_NUMBER = 4096  # of a network's arguments: widths, slices, heads
LONGEST_LIST = 64
LONGEST_TEXT = 64
# A file's metadata may name classes defined in these packages only; anything else would let a file run code.
TRUSTED_PACKAGES = ("compressai.models", "regicomp.backbone", "regicomp.source")


def check_header(path: Path) -> None:
    """Refuse a safetensors file whose sizes are out of bounds, before anything of it is read.

    Raises:
        ValueError: the file or its header is too large, or the header does not fit into the file.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE_BYTES:
        raise ValueError(f"{path}: has {size} bytes; a codec has at most {LARGEST_FILE_BYTES}")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, LARGEST_HEADER_BYTES):
        raise ValueError(
            f"{path}: is not a readable safetensors file (its header claims {length} bytes of {size}; at most "
            f"{LARGEST_HEADER_BYTES} are allowed)"
        )


def parse_metadata(path: Path, text: str) -> dict[str, Any]:
    """The metadata of a file of ours.

    Raises:
        ValueError: they are not a JSON mapping of the expected shape.
    """
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not a readable safetensors file (its metadata: {error})") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: its metadata must be a mapping")
    return metadata


def modules(names: Iterable[str]) -> tuple[str, ...]:
    """Modules and packages that whoever starts the process trusts beside TRUSTED_PACKAGES.

    Raises:
        ValueError: one of them is no module's name.
    """
    named = tuple(names)
    for name in named:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"`trust` (={name}) must name Python modules, such as mymodel")
    return named


def check_spec(path: Path, spec: Any, elements: int, trusted: tuple[str, ...] = ()) -> tuple[str, dict[str, Any]]:
    """Class name and arguments of a file's metadata, if they may be built.

    Args:
        path: the file, for messages.
        spec: as in its metadata.
        elements: numbers in all of the file's tensors; a network of width n has at least n² of them, so that a
            small file cannot ask for a huge network.
        trusted: the user's own `modules`.

    Raises:
        ValueError: another form, a class of another package, or an argument that is not plain or out of bounds.
    """
    if not isinstance(spec, dict) or set(spec) != {"target", "arguments"}:
        raise ValueError(f"{path}: its metadata must hold `spec` with `target` and `arguments`")
    target, arguments = spec["target"], spec["arguments"]
    if not isinstance(target, str) or not _is_trusted_name(target, trusted):
        raise ValueError(
            f"{path}: names the class {target!r:.200}, which is none of {', '.join(TRUSTED_PACKAGES)}; if its module "
            "is yours and may run, name it: `--trust MODULE`, for regicomp.evaluate `trust=[MODULE]`"
        )
    if not isinstance(arguments, dict) or len(arguments) > LONGEST_LIST:
        raise ValueError(f"{path}: the arguments of {target} must be a mapping of at most {LONGEST_LIST}")
    for name, value in arguments.items():
        _check_value(path, name, value, elements)
    return target, arguments


def _is_trusted_name(target: str, trusted: tuple[str, ...]) -> bool:
    module = target.rpartition(".")[0]
    parts = target.split(".")
    plain = all(part.isidentifier() and not part.startswith("_") for part in parts)
    return plain and any(module == p or module.startswith(f"{p}.") for p in (*TRUSTED_PACKAGES, *trusted))


def _check_value(path: Path, name: str, value: Any, elements: int, inside: bool = False) -> None:
    if isinstance(value, list) and not inside and len(value) <= LONGEST_LIST:
        for item in value:
            _check_value(path, name, item, elements, inside=True)
        return
    largest = min(LARGEST_NUMBER, math.isqrt(max(0, elements)))
    fits = (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, int) and abs(value) <= largest)
        or (isinstance(value, float) and math.isfinite(value) and abs(value) <= LARGEST_NUMBER)
        or (isinstance(value, str) and len(value) <= LONGEST_TEXT)
    )
    if not fits:
        raise ValueError(
            f"{path}: the argument `{name}` (={value!r:.100}) must be a plain value, numbers of at most {largest} "
            f"for a file of this size, strings and lists of at most {LONGEST_TEXT}"
        )


def check_class(path: Path, cls: type, trusted: tuple[str, ...] = ()) -> None:
    """Refuse a class that a trusted package has imported from elsewhere.

    Raises:
        ValueError: it is defined outside the trusted packages.
    """
    if not _is_trusted_name(f"{cls.__module__}.{cls.__qualname__}", trusted):
        raise ValueError(f"{path}: names {cls.__module__}.{cls.__qualname__}, which is no codec's class")


def check_run(path: Path, run: Any, depth: int = 3) -> dict[str, Any]:
    """The description of the run that made a file: strings, numbers and mappings of them, shown and stored, never run.

    Raises:
        ValueError: it is anything else.
    """
    if not isinstance(run, dict) or not _is_plain(run, depth):
        raise ValueError(f"{path}: its metadata's `run` must be a mapping of plain values")
    for key in ("alpha", "lmbda"):
        if not isinstance(run.get(key, 0.0), int | float):
            raise ValueError(f"{path}: its metadata's `run.{key}` (={run[key]!r:.100}) must be a number")
    return run


def _is_plain(value: Any, depth: int) -> bool:
    if isinstance(value, Mapping):
        return depth > 0 and all(isinstance(k, str) and _is_plain(v, depth - 1) for k, v in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(v, depth - 1) for v in value)
    return value is None or isinstance(value, str | int | float)
