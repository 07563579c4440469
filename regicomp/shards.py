"""`python -m regicomp.shards SRC DST`: pack a folder of images into shards for training sets larger than memory."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from regicomp.data import images
from regicomp.data.shard_writer import Outcome, Settings, prepare
from regicomp.utils import cli


def _tell(outcomes: Sequence[Outcome], folder: Path) -> None:
    bad = [item for outcome in outcomes for item in outcome.bad]
    noted = sum((Counter(outcome.noted) for outcome in outcomes), Counter())
    for _, message in bad:
        print(f"left out: {message}")
    for kind, count in noted.most_common():
        print(f"{count} images: {images.NOTED[kind]}")
    stored, size = sum(o.images for o in outcomes), sum(o.bytes for o in outcomes)
    print(f"{folder}: {stored} images in {len(outcomes)} shards, {size / 2**20:.1f} MB; {len(bad)} left out")
    print(f"train on them: python -m regicomp.train data=shards data.train_dir={folder}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m regicomp.shards", description=__doc__)
    parser.add_argument("src", metavar="SRC", type=Path, help="folder of images, searched with its subfolders")
    parser.add_argument("folder", metavar="DST", type=Path, help="folder for the shards")
    parser.add_argument("--shard-size", type=float, default=256, metavar="MB", help="about the size of a shard (256)")
    parser.add_argument(
        "--format",
        choices=("original", "png"),
        default="original",
        help="store the files' bytes, or decoded RGB as PNG",
    )
    parser.add_argument("--on-error", choices=("skip", "raise"), default="skip", help="leave bad images out, or stop")
    parser.add_argument("--no-verify", action="store_true", help="look at headers only; do not decode every image")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    given = parser.parse_args(arguments)
    with cli.told_in_one_line("finished shards are kept, and the same command makes the others"):
        if given.shard_size <= 0:
            raise ValueError(f"`--shard-size` (={given.shard_size:g}) must be greater than 0")
        if given.jobs < 1:
            raise ValueError(f"`--jobs` (={given.jobs}) must be at least 1")
        try:
            import webdataset  # noqa: F401  # pyright: ignore
        except ImportError as error:
            raise ValueError("shards are written with webdataset: pip install 'regicomp[shards]'") from error
        settings = Settings(given.format, given.on_error == "skip", not given.no_verify)
        _tell(prepare(given.src, given.folder, int(given.shard_size * 2**20), settings, given.jobs), given.folder)


if __name__ == "__main__":
    sys.exit(main())
