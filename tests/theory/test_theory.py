"""docs/theory.md: its links lead somewhere, its equations survive Markdown, its reading of pressure holds."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path

import pytest
import torch

from regicomp.objective.rate_distortion import RateDistortion
from regicomp.objective.regularizer import Shape, pressure
from regicomp.source.density import bits

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"


def test_links_lead_to_what_they_name() -> None:
    links = re.findall(r"\[`([^`]+)`\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(links) > 10
    for text, target in links:
        path = (PAGE.parent / target).resolve()
        assert path.is_file(), target
        if target.startswith("../tests/"):
            assert f"def {text}(" in path.read_text(encoding="utf-8"), text
        elif "." in text:
            module, name = text.split(".", 1)
            assert path.stem == module, text
            inside = path.relative_to(PAGE.parents[1]).with_suffix("")
            found = importlib.import_module(".".join(inside.parts))
            for part in name.split("."):
                found = getattr(found, part)


def test_equations_hold_nothing_that_markdown_would_eat() -> None:
    """Even inside an equation Markdown may take a backslash before punctuation, a `<` or a `*`."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("$") % 2 == 0
    for equation in re.findall(r"\$\$(.+?)\$\$|\$([^$]+?)\$", text, flags=re.DOTALL):
        body = "".join(equation)
        assert not re.search(r"\\[^A-Za-z]", body), body
        assert not re.search(r"[<>*`\n]", body), body


@pytest.mark.parametrize("sigma", [4.0, 20.0])
def test_gaussian_pay_for_an_error(sigma: float) -> None:
    """A Gaussian q_θ charges e²/(2σ² ln 2) bits more for an error e than for none."""
    e = torch.tensor([1.0, 10.0, 40.0], dtype=torch.float64)
    v = torch.full_like(e, 128)
    more = bits(v, v - e, torch.full_like(e, sigma)) - bits(v, v, torch.full_like(e, sigma))
    expected = e**2 / (2 * sigma**2 * math.log(2))
    assert more.tolist() == pytest.approx(expected.tolist(), rel=0.01)


@pytest.mark.parametrize(("sigma", "rho"), [(4.0, 1.04), (20.0, 0.042)])
def test_pressure_of_a_gaussian(sigma: float, rho: float) -> None:
    """ρ = 3α/(2σ²λ ln 2), whatever the errors; the two numbers on the page."""
    alpha, lmbda = 0.1, 0.013
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(60, 196, (2, 3, 8, 8), generator=generator)
    x = levels.double() / 255
    x_hat = (x + 0.05 * torch.randn(x.shape, dtype=torch.float64, generator=generator)).requires_grad_()
    source_bpp = bits(levels, 255 * x_hat, torch.full_like(x, sigma)).sum() / (2 * 8 * 8)
    (grad_h,) = torch.autograd.grad(source_bpp, x_hat)
    found = float(pressure(grad_h, RateDistortion(lmbda).distortion_gradient(x, x_hat), alpha, 1.0, Shape())[1].rho)
    assert found == pytest.approx(3 * alpha / (2 * sigma**2 * lmbda * math.log(2)), rel=0.01)
    assert found == pytest.approx(rho, rel=0.02)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3])
def test_where_the_high_rate_law_comes_to_rest(alpha: float) -> None:
    """Least loss at D = 3(1+α)/(2λ ln 2), where the pressure is α/(1+α); and the page's numbers."""
    lmbda = 0.013
    d = torch.linspace(50, 400, 350_001, dtype=torch.float64)
    entropy = 1.5 * torch.log2(2 * math.pi * math.e * d)
    rest = float(d[(-1.5 * torch.log2(d) + lmbda * d - alpha * entropy).argmin()])
    assert rest == pytest.approx(3 * (1 + alpha) / (2 * lmbda * math.log(2)), rel=1e-4)
    assert 3 * alpha / (2 * rest * lmbda * math.log(2)) == pytest.approx(alpha / (1 + alpha), rel=1e-4)
    if alpha == 0.1:
        assert (round(rest), round(alpha / (1 + alpha), 3)) == (183, 0.091)
        assert round(3 * alpha / (2 * 40 * lmbda * math.log(2)), 2) == 0.42
