"""The learned game: the image codecs' classes, and numbers that a count by hand confirms."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch

from regicomp.objective.rate_distortion import RateDistortion
from regicomp.objective.regularizer import Regularizer
from regicomp.theory import known_sources, learned_game
from regicomp.theory.learned_game import Game, Played
from regicomp.training.module import RegularizedCodec

SMALL = Game(0.006, 0.3, ("mixture", "copied bit"), 1, 24, 16, warmup_steps=4, ramp_steps=4, measured=(8,))


@pytest.fixture(scope="module")
def trained() -> tuple[RegularizedCodec, Played]:
    return learned_game.train(SMALL)


def test_it_is_trained_by_the_image_codecs_classes(trained: tuple[RegularizedCodec, Played]) -> None:
    module, played = trained
    assert type(module) is RegularizedCodec
    assert type(module.regularizer) is Regularizer
    assert type(module.objective) is RateDistortion
    assert module.regularizer.objective is module.objective
    assert played.diverged is None
    assert [(row.step, row.member) for row in played.rows] == [
        (step, source) for step in (8, 24) for source in SMALL.sources
    ]


def test_the_identity_and_the_bounds_hold_on_every_trained_code(trained: tuple[RegularizedCodec, Played]) -> None:
    for row in trained[1].rows:
        exact, chain = row.exact, row.exact.entropies
        assert chain.off <= 1e-9
        assert chain.source == pytest.approx(known_sources.entropy(known_sources.SOURCES[row.member]), abs=1e-9)
        assert exact.rate >= chain.code - 1e-6
        assert exact.source >= chain.source_given_picture - 1e-6
        assert exact.rate + exact.source >= chain.source
        assert chain.code <= math.log2(exact.codes) + 1e-9
        assert chain.picture <= math.log2(exact.pictures) + 1e-9


def test_enumeration_agrees_with_counting(trained: tuple[RegularizedCodec, Played]) -> None:
    module, _ = trained
    for (name, _), (u, x_hat), exact in zip(
        SMALL.members, learned_game.maps(module, SMALL), learned_game.enumerated(module, SMALL), strict=True
    ):
        source = known_sources.SOURCES[name]
        of_code: dict[int, float] = defaultdict(float)
        of_picture: dict[tuple[int, int], float] = defaultdict(float)
        picture: dict[int, tuple[int, int]] = {}
        outcomes = list(zip(source.probabilities.flatten().tolist(), u.tolist(), x_hat.tolist(), strict=True))
        distortion = 0.0
        for (p, code, (first, second)), point in zip(outcomes, source.points.tolist(), strict=True):
            picture.setdefault(code, (round(first * 1000), round(second * 1000)))
            of_code[code] += p
            of_picture[picture[code]] += p
            distortion += p * ((first - point[0]) ** 2 + (second - point[1]) ** 2) / 2
        h_u = -sum(p * math.log2(p) for p in of_code.values() if p > 0)
        h_x_given = -sum(p * math.log2(p / of_picture[picture[code]]) for p, code, _ in outcomes if p > 0)
        h_u_given = -sum(p * math.log2(p / of_picture[picture[code]]) for code, p in of_code.items() if p > 0)
        assert exact.entropies.code == pytest.approx(h_u, abs=1e-9)
        assert exact.entropies.source_given_picture == pytest.approx(h_x_given, abs=1e-9)
        assert exact.entropies.code_given_picture == pytest.approx(h_u_given, abs=1e-9)
        assert exact.mse_255 == pytest.approx(distortion, rel=1e-9)
        assert exact.codes == sum(p > 0 for p in of_code.values()) > 4


def test_equal_seeds_play_equal_games_and_measuring_changes_nothing(trained: tuple[RegularizedCodec, Played]) -> None:
    again = learned_game.play(SMALL._replace(measured=()))
    assert again.rows == trained[1].rows[len(SMALL.members) :]
    other = learned_game.play(SMALL._replace(seed=1, measured=()))
    assert other.rows[0].exact.mse_255 != again.rows[0].exact.mse_255


def test_games_that_are_compared_start_alike() -> None:
    plain = SMALL._replace(alpha=0.0)
    assert torch.equal(learned_game.batches(SMALL), learned_game.batches(plain))
    for one, other in zip(learned_game.build(SMALL).parameters(), learned_game.build(plain).parameters(), strict=True):
        assert torch.equal(one, other)


def test_one_pass_and_two_pass_agree_on_points_too(trained: tuple[RegularizedCodec, Played]) -> None:
    module = learned_game.build(SMALL)
    module.optimization = module.optimization._replace(form="two_pass")
    two_pass = learned_game.train(SMALL._replace(measured=()), module)[0]
    for one, other in zip(trained[0].parameters(), two_pass.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_codes_that_make_one_picture_are_two_codes_and_one_picture() -> None:
    symbols = torch.tensor([[0, 5], [0, 5], [1, -3], [1, 5]])
    x_hat = torch.tensor([[10.0, 20.0], [10.0, 20.0], [10.0004, 20.0], [11.0, 20.0]])
    u, pictures = learned_game.labels(symbols, x_hat)
    assert u.tolist() == [0, 0, 1, 2]
    assert pictures.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="diverged"):
        learned_game.labels(symbols, torch.full((4, 2), math.nan))


def test_a_game_that_diverges_says_so_and_keeps_its_rows() -> None:
    played = learned_game.play(SMALL._replace(sources=("mixture",), lr=1e12, steps=60, measured=()))
    assert played.diverged is not None
    assert "diverged" in played.diverged
    assert played.rows == []
