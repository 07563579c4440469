"""Rows of figures as the files that experiments commit."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regicomp.utils import files


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of the same columns, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_bytes(path, buffer.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of such a file; none where there is no file."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def measured(path: Path, named: list[str], measure: Callable[[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of such a file with those of more codecs, written after each; one that it has is not measured again.

    Args:
        path: of the file; its column `codec` has the names.
        named: NAME=CODEC, as given on a command line.
        measure: the rows of a codec, given its name and its file.
    """
    rows = read_csv(path)
    for name, _, codec in (pair.partition("=") for pair in named):
        if not any(row["codec"] == name for row in rows):
            rows += measure(name, codec)
            write_csv(path, rows)
            print(f"{name} measured", flush=True)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The same as a Markdown table; integers with commas."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    for row in rows:
        lines.append("| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()) + " |")
    return "\n".join(lines) + "\n"
