"""`python -m regicomp.identities`: the equalities the method rests on, checked on random finite sources.

docs/theory.md proves them. A coding chain is a `Joint` of the variables X, U and X_hat. With side information
U is the pair ("Y", "Z"): what is sent of the latent, and the hyper-latent, which is sent too.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from regicomp.theory import exhaustive
from regicomp.theory.information import Joint, Names
from regicomp.utils.files import told_in_one_line

TOLERANCE = 1e-12


class Identity(NamedTuple):
    """One equality or inequality and its two sides, in bits."""

    statement: str
    left: float
    right: float
    relation: Literal["=", "≥"] = "="

    @property
    def excess(self) -> float:
        """How far the statement is from holding; at most 0 where an inequality holds."""
        off = abs(self.left - self.right) if self.relation == "=" else self.right - self.left
        return math.inf if math.isnan(off) else off


def direct(joint: Joint, u: Names = "U") -> list[Identity]:
    """Direct coding: X -> U -> X̂, the quantizer deterministic, the dequantizer injective."""
    h = joint.entropy
    return [
        Identity("H(U|X) + H(X̂|U) + H(U|X̂) = 0", h(u, "X") + h("X_hat", u) + h(u, "X_hat"), 0.0),
        Identity("I(X;X̂) = H(U)", joint.information("X", "X_hat"), h(u)),
        Identity("H(X) = H(X|X̂) + H(U)", h("X"), h("X", "X_hat") + h(u)),
    ]


def transform(joint: Joint, u: Names = "U") -> list[Identity]:
    """Transform coding: X -> U -> X̂, both deterministic; the synthesis may map two codes to one picture."""
    h = joint.entropy
    return [
        Identity("I(X;X̂) = H(X̂)", joint.information("X", "X_hat"), h("X_hat")),
        Identity("H(U) = H(X̂) + H(U|X̂)", h(u), h("X_hat") + h(u, "X_hat")),
        Identity("H(U) = H(X) - H(X|X̂) + H(U|X̂)", h(u), h("X") - h("X", "X_hat") + h(u, "X_hat")),
    ]


def side_information(joint: Joint) -> list[Identity]:
    """What the side information costs: U = (Ŷ, Ẑ), and X̂ need not tell Ẑ."""
    h, u = joint.entropy, ("Y", "Z")
    return [
        Identity("H(U) = H(Ẑ) + H(Ŷ|Ẑ)", h(u), h("Z") + h("Y", "Z")),
        Identity("H(U|X̂) = H(Ŷ|X̂) + H(Ẑ|Ŷ,X̂)", h(u, "X_hat"), h("Y", "X_hat") + h("Z", ("Y", "X_hat"))),
    ]


def lossless(joint: Joint, latent: Tensor, source: Tensor, u: Names = "U") -> list[Identity]:
    """The bound R + H_θ ≥ H(X), what makes up the difference, and that the two streams together are a code.

    Args:
        joint: the coding chain.
        latent: float64 p(u), any distribution over the axes of `u`; R is its cross-entropy.
        source: float64 q(x|x̂), any conditional distribution, axes X_hat and X; H_θ is its cross-entropy.
        u: the variables that are transmitted.
    """
    bits = joint.cross_entropy(u, latent) + joint.cross_entropy("X", source, given="X_hat")
    waste = joint.divergence(u, latent) + joint.divergence("X", source, given="X_hat")
    lengths = joint.code_length(u, latent) + joint.code_length("X", source, given="X_hat")
    kraft = torch.exp2(-lengths).expand_as(joint.probabilities)[joint.probabilities > 0].sum()
    return [
        Identity("R + H_θ ≥ H(X)", bits, joint.entropy("X"), "≥"),
        Identity(
            "R + H_θ = H(X) + KL(p) + KL(q_θ) + H(U|X̂)",
            bits,
            joint.entropy("X") + waste + joint.entropy(u, "X_hat"),
        ),
        Identity("1 ≥ Σ 2^-(bits of x)", 1.0, float(kraft), "≥"),
    ]


def random_probabilities(symbols: int, generator: torch.Generator, zeros: float = 0.25) -> Tensor:
    """A random distribution, float64 (symbols,); about the share `zeros` of its entries is exactly zero."""
    weights = -torch.log1p(-torch.rand(symbols, dtype=torch.float64, generator=generator))
    weights = weights * (torch.rand(symbols, generator=generator) >= zeros)
    if not bool(weights.sum() > 0):
        weights = torch.ones(symbols, dtype=torch.float64)
    return weights / weights.sum()


def _random_model(given: list[int], sizes: list[int], generator: torch.Generator) -> Tensor:
    """A random conditional distribution without zeros, axes of `given` first."""
    weights = 1e-3 + torch.rand(given + sizes, dtype=torch.float64, generator=generator)
    over = tuple(range(len(given), weights.dim()))
    return weights / weights.sum(over, keepdim=True)


class Setting(NamedTuple):
    """A way to code: how to draw one, and what is to be checked."""

    name: str
    side: bool
    injective: bool
    checks: Callable[[Joint, Names], list[Identity]]

    def draw(self, symbols: int, generator: torch.Generator) -> Joint:
        """A random source of `symbols` symbols, coded by random maps."""

        def function(shape: list[int], values: int) -> Tensor:
            return torch.randint(values, shape, generator=generator)

        joint = Joint(random_probabilities(symbols, generator), "X")
        joint = joint.push("Y" if self.side else "U", function([symbols], symbols), of="X")
        if self.side:
            joint = joint.push("Z", function([symbols], max(2, symbols // 2)), of="X")
        shape = [joint.size(name) for name in self.u]
        codes = torch.Size(shape).numel()
        if self.injective:
            return joint.push("X_hat", torch.randperm(codes, generator=generator).reshape(shape), of=self.u)
        return joint.push("X_hat", function(shape[:1], max(1, shape[0] // 2)), of=self.u[0])  # Ẑ only helps to code Ŷ

    @property
    def u(self) -> tuple[str, ...]:
        """What is transmitted."""
        return ("Y", "Z") if self.side else ("U",)

    def check(self, joint: Joint, generator: torch.Generator) -> list[Identity]:
        """Every identity of this setting, the bound for random models."""
        latent = _random_model([], [joint.size(name) for name in self.u], generator)
        source = _random_model([joint.size("X_hat")], [joint.size("X")], generator)
        found = self.checks(joint, self.u) + (side_information(joint) if self.side else [])
        if self.injective:
            found.append(Identity("H(U|X̂) = 0", joint.entropy(self.u, "X_hat"), 0.0))
        return found + lossless(joint, latent, source, self.u)


SETTINGS = (
    Setting("direct coding", False, True, direct),
    Setting("transform coding, injective synthesis", False, True, transform),
    Setting("transform coding, two codes to one picture", False, False, transform),
    Setting("with side information, injective synthesis", True, True, transform),
    Setting("with side information, synthesis of Ŷ alone", True, False, transform),
)


def worst(setting: Setting, sources: int, symbols: int, generator: torch.Generator) -> list[Identity]:
    """Each identity of a setting at the source where it is furthest from holding."""
    found: list[Identity] = []
    for _ in range(sources):
        rows = setting.check(setting.draw(symbols, generator), generator)
        found = [max(pair, key=lambda row: row.excess) for pair in zip(found or rows, rows, strict=True)]
    return found


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


def _whole(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ValueError(f"`--{name}` (={value}) must be a whole number from {least} to {most}")
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
        console.print("no source was found on which the two goals part with a non-injective synthesis")
        broken += 1
    else:
        console.print(counterexample_table(found))
    console.print(f"{broken} of the checks above fail" if broken else f"all hold; equalities within {TOLERANCE:g}")
    return 1 if broken else 0


if __name__ == "__main__":
    with told_in_one_line():
        raise SystemExit(main())
