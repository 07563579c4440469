"""`python -m regicomp.report.dashboard SWEEP`: a W&B report of a sweep: curves, BD-rate table, training, pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from regicomp.utils import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m regicomp.report.dashboard",
        description=__doc__,
        epilog="The runs must be in W&B, in one group named as the sweep's folder, as logger=wandb leaves them; "
        "offline ones are sent by `wandb sync`.",
    )
    parser.add_argument("sweep", metavar="SWEEP", type=Path, help="folder of the sweep, whose records are read")
    parser.add_argument("--project", default="regicomp", help="W&B project of the runs (default: %(default)s)")
    parser.add_argument("--entity", default="", help="its owner, a user or a team; needed with --save")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where to write the report's description (JSON)")
    parser.add_argument("--save", action="store_true", help="send it to W&B, which needs an API key")
    given = parser.parse_args(arguments)
    with cli.told_in_one_line():
        if given.save and not given.entity:
            raise ValueError("`--save` needs `--entity`, the user or team that owns the project")
        if not given.save and given.out is None:
            raise ValueError("nothing to do: give `--save`, or `--out FILE`, or both")
        cli.quiet_libraries()
        from regicomp.report import wandb_report

        report = wandb_report.describe(given.sweep, given.project, given.entity)
        if given.out is not None:
            wandb_report.write(report, given.out)
            print(given.out)
        if given.save:
            print(wandb_report.save(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
