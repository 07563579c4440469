"""The tables that `python -m regicomp.identities` prints."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from regicomp.theory import exhaustive
from regicomp.theory.identity_checks import SETTINGS, TOLERANCE, Identity, Setting, random_probabilities, worst


def _number(value: float) -> str:
    return f"{round(value, 6) + 0.0:.6f}"  # no minus sign before a zero


def table(results: Iterable[tuple[Setting, list[Identity]]], title: str) -> Table:
    """The identities as a table."""
    shown = Table("setting", "identity", title=title, title_justify="left")
    for column in ("left [bits]", "right [bits]", "off by"):
        shown.add_column(column, justify="right")
    for setting, rows in results:
        for index, row in enumerate(rows):
            sides = (_number(side) for side in (row.left, row.right))
            name = setting.name if index == 0 else ""
            shown.add_row(
                name, row.statement, *sides, f"{max(0.0, row.excess):.1e}", end_section=index == len(rows) - 1
            )
    return shown


def _parts(u: Tensor) -> str:
    """Each point's index as a letter, in order of appearance."""
    letters = {int(value): chr(ord("a") + order) for order, value in enumerate(dict.fromkeys(u.tolist()))}
    return " ".join(letters[int(value)] for value in u)


def counterexample_table(found: exhaustive.Counterexample) -> Table:
    """The codes of least H(U) and of greatest H(X|X̂), side by side."""
    source = ", ".join(f"{p:.2f}" for p in found.source.tolist())
    title = (
        "transform coding whose synthesis maps two codes in use to one picture: no optimum in common\n"
        f"for p = ({source}), D ≤ {found.distortion:g}"
    )
    shown = Table("code with", "u of each x", "x̂ of each x", title=title, title_justify="left", min_width=110)
    for column in ("H(U)", "H(X|X̂)", "H(U|X̂)", "D"):
        shown.add_column(column, justify="right")
    for goal, codes in {"least H(U)": found.least_rate, "greatest H(X|X̂)": found.greatest_source}.items():
        numbers = (codes.rate, codes.source, codes.price, codes.distortion)
        x_hat = " ".join(str(value) for value in codes.x_hat[0].tolist())
        shown.add_row(goal, _parts(codes.u[0]), x_hat, *(_number(float(n)) for n in numbers))
    return shown


def print_all(sources: int, symbols: int, seed: int) -> int:
    """Run every check and print its table; the number of checks that fail.

    Args:
        sources: random sources a setting.
        symbols: of each source.
        seed: of the random sources and maps.
    """
    generator = torch.Generator().manual_seed(seed)
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
    return broken
