"""Sources of which everything is known."""

from __future__ import annotations

import pytest
import torch

from regicomp.theory import known_sources
from regicomp.theory.information import Joint
from regicomp.theory.known_sources import KnownSource


@pytest.fixture(params=list(known_sources.SOURCES))
def source(request: pytest.FixtureRequest) -> KnownSource:
    return known_sources.SOURCES[request.param]


def test_the_probabilities_are_a_distribution_whose_entropy_is_told(source: KnownSource) -> None:
    joint = Joint(source.probabilities, ("first", "second"))
    assert known_sources.entropy(source) == pytest.approx(joint.entropy(("first", "second")), abs=1e-9)
    assert joint.information("first", "second") > 0.3  # a code of both samples at once has something to gain


def test_draws_follow_the_probabilities(source: KnownSource) -> None:
    drawn = source.draw(200_000, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.uint8
    coarse = torch.bincount((drawn[:, 0].long() // 32) * 8 + drawn[:, 1].long() // 32, minlength=64) / len(drawn)
    expected = source.probabilities.reshape(8, 32, 8, 32).sum((1, 3)).flatten()
    assert float((coarse - expected).abs().max()) < 5 * (0.1 / len(drawn)) ** 0.5 + 1e-3
    assert bool((source.probabilities[drawn[:, 0].long(), drawn[:, 1].long()] > 0).all())
    assert torch.equal(drawn, source.draw(200_000, torch.Generator().manual_seed(0)))


def test_points_lie_in_the_order_of_the_probabilities(source: KnownSource) -> None:
    points = source.points.long()
    assert torch.equal(source.probabilities[points[:, 0], points[:, 1]], source.probabilities.flatten())


def test_copying_a_bit_is_worth_one_bit() -> None:
    joint = Joint(known_sources.copied_bit().probabilities, ("first", "second"))
    assert joint.entropy(("first", "second")) == pytest.approx(15, abs=1e-9)
    assert joint.information("first", "second") == pytest.approx(1, abs=1e-9)
