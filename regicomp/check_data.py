"""`python -m regicomp.check_data FOLDER…`: decode every image of a training set and list the unusable ones."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from regicomp.data.check import report, scan, table, unused
from regicomp.utils import cli, files


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m regicomp.check_data", description=__doc__)
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="as in data.train_dir")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write every finding here")
    parser.add_argument("--crop", type=int, default=256, help="side of the training crops, as data.crop (256)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one a core)")
    given = parser.parse_args(arguments)
    with cli.told_in_one_line():
        if given.crop < 1:
            raise ValueError(f"`--crop` (={given.crop}) must be at least 1")
        if given.jobs < 1:
            raise ValueError(f"`--jobs` (={given.jobs}) must be at least 1")
        findings = scan(given.folders, given.crop, given.jobs)
        others = unused(given.folders)
        if given.out:
            files.write_json(given.out, report(findings, others, given.crop))
        Console().print(table(findings, others))
    refused = sum(finding.refused is not None for finding in findings)
    print(f"{len(findings) - refused} of {len(findings)} images are used in training, {refused} are refused")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
