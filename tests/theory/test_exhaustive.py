"""All codes of small sources: where the two goals pick the same ones, and where they do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regicomp.theory import exhaustive
from regicomp.theory.information import Joint

exact = settings(deadline=None, max_examples=20, derandomize=True)


@st.composite
def sources(draw: st.DrawFn, least: int, most: int) -> Tensor:
    """Probabilities with a small common denominator: codes are exactly equal or clearly different."""
    counts = draw(st.lists(st.integers(0, 20), min_size=least, max_size=most).filter(any))
    drawn = torch.tensor(counts, dtype=torch.float64)
    return drawn / drawn.sum()


def test_the_codes_are_all_there() -> None:
    source = torch.full((4,), 0.25, dtype=torch.float64)
    assert len(exhaustive.direct_codes(source).rate) == 4**4
    # Σ over partitions with m cells of 4^m syntheses; 1, 7, 6, 1 partitions have 1, 2, 3, 4 cells.
    assert len(exhaustive.transform_codes(source).rate) == 1 * 4 + 7 * 4**2 + 6 * 4**3 + 1 * 4**4


def test_a_row_is_what_it_says() -> None:
    source = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    codes = exhaustive.transform_codes(source)
    for row in range(0, len(codes.rate), 37):
        u, x_hat = codes.u[row], codes.x_hat[row]
        joint = Joint(source, "X").push("U", u, of="X").push("X_hat", x_hat, of="X")
        assert joint.entropy("X_hat", given="U") == pytest.approx(0, abs=1e-12)
        assert codes.rate[row] == pytest.approx(joint.entropy("U"))
        assert codes.source[row] == pytest.approx(joint.entropy("X", given="X_hat"))
        assert codes.price[row] == pytest.approx(joint.entropy("U", given="X_hat"), abs=1e-12)
        assert codes.distortion[row] == pytest.approx(
            sum(p * (x - int(v)) ** 2 for x, (p, v) in enumerate(zip(source.tolist(), x_hat, strict=True)))
        )


@exact
@given(sources(2, 5), st.floats(0, 4))
def test_in_direct_coding_the_optima_coincide(source: Tensor, distortion: float) -> None:
    codes = exhaustive.direct_codes(source)
    found = exhaustive.least_rate(codes, distortion)
    assert bool(found.any())
    assert torch.equal(found, exhaustive.greatest_source_entropy(codes, distortion))


@exact
@given(sources(2, 4), st.floats(0, 4))
def test_with_every_synthesis_least_rate_implies_greatest_source_entropy(source: Tensor, distortion: float) -> None:
    codes = exhaustive.transform_codes(source)
    cheap, blurred = exhaustive.least_rate(codes, distortion), exhaustive.greatest_source_entropy(codes, distortion)
    assert bool(blurred[cheap].all())
    assert codes.price[cheap].max() <= exhaustive.TIE  # the cheapest codes waste nothing


def test_greatest_source_entropy_does_not_imply_least_rate() -> None:
    source = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    codes = exhaustive.transform_codes(source)
    cheap, blurred = exhaustive.least_rate(codes, 0.5), exhaustive.greatest_source_entropy(codes, 0.5)
    wasteful = codes.where(blurred & ~cheap)
    assert len(wasteful.rate) > 0
    assert wasteful.price.min() > 0.1


@exact
@given(sources(2, 4), st.sampled_from([0.1, 0.5, 1.0, 3.0]), st.sampled_from([0.05, 0.1, 0.3, 1.0]))
def test_alpha_is_a_change_of_lambda(source: Tensor, lmbda: float, alpha: float) -> None:
    codes = exhaustive.direct_codes(source)
    plain = exhaustive.least_loss(codes, lmbda / (1 + alpha), 0.0)
    assert torch.equal(plain, exhaustive.least_loss(codes, lmbda, alpha))


def test_where_the_synthesis_is_not_injective_the_goals_can_part() -> None:
    """The example of docs/theory.md."""
    source = torch.tensor([0.06, 0.53, 0.14, 0.21, 0.06], dtype=torch.float64)
    found = exhaustive.counterexample([source], [0.8])
    assert found is not None
    cheap, blurred = found.least_rate, found.greatest_source
    assert max(float(cheap.distortion), float(blurred.distortion)) <= 0.8 + exhaustive.TIE
    for codes, shown in ((cheap, [1.048, 1.001, 0.206]), (blurred, [1.206, 1.193, 0.556])):
        numbers = [codes.rate.tolist(), codes.source.tolist(), codes.price.tolist()]
        assert [round(number, 3) for (number,) in numbers] == shown


def test_no_counterexample_is_reported_as_none() -> None:
    assert exhaustive.counterexample([torch.tensor([0.5, 0.5], dtype=torch.float64)], [0.0, 1.0]) is None


def test_an_impossible_constraint_has_no_optima() -> None:
    codes = exhaustive.direct_codes(torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert not exhaustive.least_rate(codes, -1.0).any()
    assert not exhaustive.greatest_source_entropy(codes, -1.0).any()
