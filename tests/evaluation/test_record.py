"""How a record names the regularizer's strength."""

from __future__ import annotations

from regicomp.evaluation import record


def test_a_constant_pressure_is_not_called_alpha() -> None:
    assert record.strength({"alpha": 0.1}) == "α = 0.1"
    assert record.strength({"alpha": 0.05, "pressure": 0.05}) == "ρ = 0.05"
