"""The command lines of experiments that measure codecs on Kodak's images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import regicomp
from experiments import tables
from regicomp.data import testsets
from regicomp.image_codec.codec import Codec
from regicomp.utils import files

Pixels = NDArray[np.uint8]
Rows = list[dict[str, Any]]


class Given(NamedTuple):
    """Codecs, images and folder, from a command line."""

    codecs: list[str]  # NAME=CODEC
    images: list[Pixels]  # of Kodak, (H, W, 3) each
    out: Path  # the folder of results


def parse(about: str | None, out: Path, images: int | None = None) -> Given:
    """Read `NAME=CODEC … --data ROOT [--images N] [--out FOLDER]`, and the images.

    Args:
        about: the help.
        out: the folder, unless another is given.
        images: how many, unless another number is given; None: all.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codecs", nargs="*", metavar="NAME=CODEC")
    parser.add_argument("--data", required=True, help="folder that holds kodak/")
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--out", type=Path, default=out, help="folder of the results")
    arguments = parser.parse_args()
    (testset,) = testsets.find(["kodak"], arguments.data, [], arguments.images)
    return Given(arguments.codecs, [np.asarray(image.load()) for image in testset.images], arguments.out)


def table(
    given: Given,
    name: str,
    measure: Callable[[str, Codec], Rows],
    page: Callable[[Rows], str] = tables.markdown,
) -> None:
    """Write NAME.csv, with the rows of codecs that it lacks, and NAME.md, and print the latter."""
    rows = tables.measured(
        given.out / f"{name}.csv", given.codecs, lambda codec, path: measure(codec, regicomp.load(path))
    )
    files.write_bytes(given.out / f"{name}.md", page(rows).encode())
    print(page(rows))
