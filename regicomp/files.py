"""Files that are written whole or not at all, and the form in which a user's mistake is told."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` on a temporary file beside `path`, flush it to the disk, and move it to `path`.

    Whatever interrupts this (a full disk, a kill), `path` holds either what it held before or the new content.

    Raises:
        OSError: the disk is full or the folder cannot be written; the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all."""
    write_atomically(path, lambda file: file.write(data))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn a user's mistake (ValueError) or a failing disk (OSError) into one line and exit status 2.

    HYDRA_FULL_ERROR=1 shows the traceback instead.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        raise SystemExit(2) from error
