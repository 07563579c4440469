"""`python -m regicomp.fetch NAME…`: download the named data sets, go on where a download stopped, and verify them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from regicomp.data import manifest
from regicomp.data.named_sets import fetch
from regicomp.utils import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m regicomp.fetch", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(manifest.names())}")
    parser.add_argument("--root", type=Path, help="folder of named sets, as data.root ($REGICOMP_DATA, else ./data)")
    parser.add_argument("--verify-only", action="store_true", help="download nothing; exit 1 if a file is wrong")
    parser.add_argument("--mirror", metavar="URL", help="fetch from here alone; laid out as data.root")
    parser.add_argument("--jobs", type=int, default=4, help="downloads side by side (4)")
    given = parser.parse_args(arguments)
    with cli.told_in_one_line("what arrived is kept, and the same command goes on with it"):
        if not given.names:
            raise ValueError(f"`NAME` must be one or several of {', '.join(manifest.names())}")
        if given.jobs < 1:
            raise ValueError(f"`--jobs` (={given.jobs}) must be at least 1")
        if given.mirror and not given.mirror.startswith(("http://", "https://")):
            raise ValueError(f"`--mirror` (={given.mirror}) must begin with http:// or https://")
        for name in given.names:
            manifest.load(name)
        root = given.root or Path(os.environ.get("REGICOMP_DATA") or "data")
        whole = [fetch(name, root, given.mirror, given.verify_only, given.jobs) for name in given.names]
    return 0 if all(whole) else 1


if __name__ == "__main__":
    sys.exit(main())
