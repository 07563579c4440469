"""`python -m regicomp.identities`: the equalities the method rests on, checked on random finite sources.

docs/theory.md proves them. A coding chain is a `Joint` of the variables X, U and X_hat. With side information
U is the pair ("Y", "Z"): what is sent of the latent, and the hyper-latent, which is sent too.
"""

from __future__ import annotations

import argparse

from regicomp.utils.cli import told_in_one_line


def _integer(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ValueError(f"`--{name}` (={value}) must be an integer from {least} to {most}")
    return value


def main(argv: list[str] | None = None) -> int:
    """Print every check; 0 if all hold, 1 if one does not.

    Raises:
        ValueError: an argument is out of range.
    """
    parser = argparse.ArgumentParser(
        prog="python -m regicomp.identities",
        description="Check the identities behind the regularizer exactly, on random finite sources.",
    )
    parser.add_argument("--sources", type=int, default=100, metavar="N", help="random sources a setting (100)")
    parser.add_argument("--symbols", type=int, default=6, metavar="K", help="symbols a source (6)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random sources and maps (0)")
    args = parser.parse_args(argv)
    from regicomp.theory import identity_tables  # loads torch, which --help should not wait for

    broken = identity_tables.print_all(
        _integer("sources", args.sources, 1, 10**6),
        _integer("symbols", args.symbols, 2, 10),
        _integer("seed", args.seed, 0, 2**63 - 1),
    )
    return 1 if broken else 0


if __name__ == "__main__":
    with told_in_one_line():
        raise SystemExit(main())
