"""The command line of a tiny run, for the tests that start the command itself."""

from __future__ import annotations

import sys
from pathlib import Path


def command(folder: Path, *overrides: str) -> list[str]:
    """`python -m regicomp.train` at tiny size in float32, trained and measured on the images of a folder."""
    return [
        *(sys.executable, "-m", "regicomp.train", "size=tiny", "data=folder", f"data.train_dir={folder}"),
        *(f"data.test_dirs=[{folder}]", "data.crop=64", "data.batch_size=2", "precision=float32", "logger=csv"),
        *overrides,
    ]
