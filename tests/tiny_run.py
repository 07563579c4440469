"""The command line of a tiny run, for the tests that start the command itself."""

from __future__ import annotations

import sys
from pathlib import Path


def command(folder: Path, *overrides: str) -> list[str]:
    """`python -m regicomp.train` at tiny size in float32, trained and measured on the images of a folder.

    Hydra takes flags such as `-m` before all overrides.
    """
    flags = [override for override in overrides if override.startswith("-")]
    return [
        *(sys.executable, "-m", "regicomp.train", *flags, "size=tiny", "data=folder", f"data.train_dir={folder}"),
        *(f"data.test_dirs=[{folder}]", "data.crop=64", "data.batch_size=2", "precision=float32", "logger=csv"),
        *(override for override in overrides if not override.startswith("-")),
    ]
