"""Files that are written whole or not at all, names fit for them, and the form in which a user's mistake is told."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

_SUFFIX = ".regicomp.tmp"  # of a file that is being written


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` on a temporary file beside `path`, flush it to the disk, and move it to `path`.

    Whatever interrupts this (a full disk, a kill, a power cut), `path` holds either what it held before or the new
    content. `write` may also read back what it has written.

    Raises:
        OSError: the disk is full or the folder cannot be written; the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
    handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # less the umask
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        _flush_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _flush_folder(folder: Path) -> None:
    """Make a renamed entry of `folder` survive a power cut, where the file system can flush folders."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while writing; nobody else may be writing there."""
    for path in folder.glob(f".*{_SUFFIX}"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all."""
    write_atomically(path, lambda file: file.write(data))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON to `path` whole or not at all; see `laid_out`.

    Raises:
        ValueError: `value` holds a number that JSON does not have.
    """
    write_bytes(path, f"{laid_out(value)}\n".encode())


def laid_out(value: Any, indent: str = "") -> str:
    """JSON text of `value` in which a table has a line a row: what holds no list or object is on one line.

    The neighbours in a list or object that are numbers, strings, booleans or null share a line, too.
    """
    members = value.values() if isinstance(value, dict) else value if _nests(value) else ()
    if not any(map(_nests, members)):
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    inner = indent + " "
    lines: list[str] = []
    open_line = False
    names = (f"{laid_out(str(key))}: " for key in value) if isinstance(value, dict) else repeat("")
    for name, member in zip(names, members, strict=False):
        text = name + laid_out(member, inner)
        if open_line and not _nests(member):
            lines[-1] += f", {text}"
        else:
            lines.append(inner + text)
        open_line = not _nests(member)
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n" + ",\n".join(lines) + f"\n{indent}{last}"


def _nests(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)
