"""The identities of docs/theory.md, checked on finite sources."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from regicomp.theory.information import Joint, Names

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
    """The cost of side information: U = (Ŷ, Ẑ), where X̂ need not determine Ẑ."""
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
        """The names of the variables that are transmitted."""
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
