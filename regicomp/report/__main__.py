"""Entry point: `python -m regicomp.report RUNS… --out DIR`."""

from __future__ import annotations

from collections.abc import Sequence

from regicomp.report import options
from regicomp.utils import cli


def main(command_line: Sequence[str] | None = None) -> None:
    """Entry point."""
    parsed = options.arguments().parse_args(command_line)
    with cli.told_in_one_line():
        chosen = options.checked(parsed)
        from regicomp.report import make

        make.report(parsed, chosen)


if __name__ == "__main__":
    main()
