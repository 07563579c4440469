"""Every deterministic code of a small source on a line, and which are optimal for which goal.

A source draws one of K points 0, 1, …, K-1; a code sends each point x to an index u, a synthesis sends each
index to a reconstruction x̂ among the same points; squared error is the distortion. All of them can be tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from regicomp.theory.information import Joint

POINTS = 5  # of the sources that the command draws: 3125 direct codes, 12880 with every synthesis
DISTORTIONS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
WEIGHTS = ((0.3, 0.1), (1.0, 0.1), (1.0, 0.3), (3.0, 1.0))  # λ and α
TIE = 1e-10  # values closer than this count as equal; rounding stays far below, different codes far above


def random_percentages(generator: torch.Generator) -> Tensor:
    """A random source of POINTS points in whole percents, none zero, that can be printed exactly; float64."""
    cuts = 1 + torch.randperm(99, generator=generator)[: POINTS - 1].sort().values
    percents = torch.diff(cuts, prepend=torch.tensor([0]), append=torch.tensor([100]))
    return percents.double() / 100


class Codes(NamedTuple):
    """Codes of one source, one a row; n of them, for K points. Entropies in bits."""

    u: Tensor  # (n, K) index of each point: the first point that has the same one
    x_hat: Tensor  # (n, K) reconstruction of each point
    rate: Tensor  # (n,) H(U)
    source: Tensor  # (n,) H(X|X̂)
    price: Tensor  # (n,) H(U|X̂), what the synthesis loses by mapping codes to one picture
    distortion: Tensor  # (n,) mean squared error

    def where(self, kept: Tensor) -> Codes:
        """The codes that `kept` picks: a mask (n,), or indices."""
        return Codes(*(column[kept] for column in self))


def _functions(points: int) -> Tensor:
    """All functions of the points to the points, (points^points, points)."""
    return torch.cartesian_prod(*[torch.arange(points)] * points).reshape(-1, points)


def _first_alike(values: Tensor) -> Tensor:
    """Each entry's first equal in its row, (n, K) -> (n, K): rows agree where they partition the points alike."""
    return (values[:, :, None] == values[:, None, :]).int().argmax(-1)


def _measure(source: Tensor, u: Tensor, x_hat: Tensor) -> Codes:
    """Entropies by `Joint`, once for each partition of the points; they do not depend on where x̂ lies."""
    parts, which = torch.unique(torch.cat([u, _first_alike(x_hat)], 1), dim=0, return_inverse=True)
    rows = []
    for part in parts:
        code, alike = part.chunk(2)
        synthesis = alike[: int(code.max()) + 1]  # an index is a point that it stands for
        joint = Joint(source, "X").push("U", code, of="X").push("X_hat", synthesis, of="U")
        rows.append([joint.entropy("U"), joint.entropy("X", given="X_hat"), joint.entropy("U", given="X_hat")])
    rate, conditional, price = torch.tensor(rows, dtype=torch.float64)[which].unbind(1)
    distortion = ((x_hat - torch.arange(len(source))).double() ** 2) @ source
    return Codes(u, x_hat, rate, conditional, price, distortion)


def direct_codes(source: Tensor) -> Codes:
    """Every code whose synthesis is injective: all K^K functions x -> x̂.

    Args:
        source: float64 probabilities of the K points, (K,); K = 6 takes less than a second.
    """
    x_hat = _functions(len(source))
    return _measure(source, _first_alike(x_hat), x_hat)


def transform_codes(source: Tensor) -> Codes:
    """Every code with every synthesis, injective or not.

    Args:
        source: float64 probabilities of the K points, (K,); K = 5 takes less than a second.
    """
    x_hat = _functions(len(source))
    pairs = []
    for u in torch.unique(_first_alike(x_hat), dim=0):
        follows = x_hat[(x_hat[:, u] == x_hat).all(1)]  # x̂ is a function of u
        pairs.append((u.expand_as(follows), follows))
    return _measure(source, *(torch.cat(column) for column in zip(*pairs, strict=True)))


def least_rate(codes: Codes, distortion: float) -> Tensor:
    """Which codes, (n,), have the least H(U) of those within a distortion; none if none is."""
    return _least(codes.rate, codes.distortion <= distortion + TIE)


def greatest_source_entropy(codes: Codes, distortion: float) -> Tensor:
    """Which codes, (n,), have the greatest H(X|X̂) of those within a distortion; none if none is."""
    return _least(-codes.source, codes.distortion <= distortion + TIE)


def least_loss(codes: Codes, lmbda: float, alpha: float) -> Tensor:
    """Which codes, (n,), have the least H(U) + λD - αH(X|X̂)."""
    loss = codes.rate + lmbda * codes.distortion - alpha * codes.source
    return _least(loss, torch.ones_like(loss, dtype=torch.bool))


def _least(values: Tensor, allowed: Tensor) -> Tensor:
    if not bool(allowed.any()):
        return allowed
    return allowed & (values <= values[allowed].min() + TIE)


class Counterexample(NamedTuple):
    """A source, a constraint and a family of codes in which no code of least H(U) has the greatest H(X|X̂)."""

    source: Tensor  # (K,)
    distortion: float  # the constraint
    least_rate: Codes  # one code
    greatest_source: Codes  # one code, the cheapest of them


def counterexample(sources: Iterable[Tensor], distortions: Iterable[float]) -> Counterexample | None:
    """The first case in which the two goals have no optimum in common, among codes with H(U|X̂) > 0.

    Args:
        sources: probabilities of the points, each (K,).
        distortions: constraints to try on each.
    """
    distortions = tuple(distortions)
    for source in sources:
        every = transform_codes(source)
        codes = every.where(every.price > TIE)
        for distortion in distortions:
            cheap = least_rate(codes, distortion)
            blurred = greatest_source_entropy(codes, distortion)
            if bool(cheap.any()) and not bool((cheap & blurred).any()):
                one, other = codes.where(cheap), codes.where(blurred)
                cheapest = other.rate.argmin()[None]
                return Counterexample(source, distortion, one.where(torch.tensor([0])), other.where(cheapest))
    return None


class Agreement(NamedTuple):
    """How often a claim about the optima of two goals holds."""

    claim: str
    holds: int
    cases: int


def agreements(sources: Iterable[Tensor]) -> list[Agreement]:
    """On every source: do least H(U) and greatest H(X|X̂) pick the same codes, and is α a change of λ?

    Args:
        sources: probabilities of points on a line, each (K,).
    """
    same, scaled, within = [], [], []
    for source in sources:
        codes, every = direct_codes(source), transform_codes(source)
        for distortion in DISTORTIONS:
            cheap = least_rate(codes, distortion)
            same.append(torch.equal(cheap, greatest_source_entropy(codes, distortion)))
            cheap = least_rate(every, distortion)
            within.append(bool(greatest_source_entropy(every, distortion)[cheap].all()))
        for lmbda, alpha in WEIGHTS:
            plain = least_loss(codes, lmbda / (1 + alpha), 0.0)
            scaled.append(torch.equal(plain, least_loss(codes, lmbda, alpha)))
    claims = {
        "direct coding: least H(U) and greatest H(X|X̂) are the same codes": same,
        "direct coding: H(U) + λD - αH(X|X̂) and H(U) + λ/(1+α)·D have the same minimizers": scaled,
        "transform coding, every synthesis allowed: least H(U) implies greatest H(X|X̂)": within,
    }
    return [Agreement(claim, sum(cases), len(cases)) for claim, cases in claims.items()]
