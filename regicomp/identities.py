"""`python -m regicomp.identities`: the equalities the method rests on, checked on random finite sources.

docs/theory.md proves them. A coding chain is a `Joint` of the variables X, U and X_hat. With side information
U is the pair ("Y", "Z"): what is sent of the latent, and the hyper-latent, which is sent too.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console

from regicomp.theory import exhaustive
from regicomp.theory.identity_checks import SETTINGS, TOLERANCE, random_probabilities, worst
from regicomp.theory.identity_tables import counterexample_table, table
from regicomp.utils.cli import told_in_one_line


def _whole(name: str, value: int, least: int, most: int) -> int:
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
    sources, symbols = _whole("sources", args.sources, 1, 10**6), _whole("symbols", args.symbols, 2, 10)
    generator = torch.Generator().manual_seed(_whole("seed", args.seed, 0, 2**63 - 1))
    console = Console(width=None if Console().is_terminal else 140, highlight=False)

    results = [(setting, worst(setting, sources, symbols, generator)) for setting in SETTINGS]
    console.print(table(results, f"{sources} random sources of {symbols} symbols a setting: the worst of them"))
    broken = sum(row.excess > TOLERANCE for _, rows in results for row in rows)

    on_a_line = [random_probabilities(exhaustive.POINTS, generator, zeros=0.1) for _ in range(min(sources, 10))]
    console.print(
        f"\nevery code of {exhaustive.POINTS} points on a line, squared error; random sources: {len(on_a_line)}"
    )
    for claim, holds, cases in exhaustive.agreements(on_a_line):
        console.print(f"  {holds} of {cases}: {claim}")
        broken += holds != cases
    found = exhaustive.counterexample(
        (exhaustive.random_percentages(generator) for _ in range(50)), exhaustive.DISTORTIONS
    )
    console.print()
    if found is None:
        console.print("no source was found on which the two goals differ with a non-injective synthesis")
        broken += 1
    else:
        console.print(counterexample_table(found))
    console.print(f"{broken} of the checks above fail" if broken else f"all hold; equalities within {TOLERANCE:g}")
    return 1 if broken else 0


if __name__ == "__main__":
    with told_in_one_line():
        raise SystemExit(main())
