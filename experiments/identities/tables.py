"""table.md: the results of the checks and the games."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from experiments.identities import compare
from regicomp.theory import exhaustive, identity_checks

Row = dict[str, Any]


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = "|---|" + "---:|" * (len(header) - 1)
    return "\n".join(["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)])


def identity_tables(sources: int = 100, symbols: int = 6) -> str:
    """Items 2 and 3: `python -m regicomp.identities` as Markdown."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        (setting.name, row.statement, f"{row.left:.6f}", f"{row.right:.6f}", f"{max(0.0, row.excess):.1e}")
        for setting in identity_checks.SETTINGS
        for row in identity_checks.worst(setting, sources, symbols, generator)
    ]
    worst = _markdown(("setting", "identity", "left [bits]", "right [bits]", "off by"), rows)
    lines = [identity_checks.random_probabilities(exhaustive.POINTS, generator, zeros=0.1) for _ in range(10)]
    agreed = [(claim, f"{holds} of {cases}") for claim, holds, cases in exhaustive.agreements(lines)]
    found = exhaustive.counterexample(
        (exhaustive.random_percentages(generator) for _ in range(50)), exhaustive.DISTORTIONS
    )
    assert found is not None
    parts = []
    for goal, codes in {"least H(U)": found.least_rate, "greatest H(X∣X̂)": found.greatest_source}.items():
        numbers = (codes.rate, codes.source, codes.price, codes.distortion)
        shown = (" ".join(str(v) for v in values[0].tolist()) for values in (codes.u, codes.x_hat))
        parts.append((goal, *shown, *(f"{float(number):.4f}" for number in numbers)))
    p = ", ".join(f"{value:.2f}" for value in found.source.tolist())
    return "\n\n".join(
        (
            f"### Random sources ({sources} of {symbols} symbols a setting; the worst of them)",
            worst,
            f"### Every code of {exhaustive.POINTS} points on a line",
            _markdown(("claim", "holds"), agreed),
            f"No optimum in common where the synthesis is not injective, p = ({p}), D ≤ {found.distortion:g}:",
            _markdown(("code with", "u of each x", "x̂ of each x", "H(U)", "H(X∣X̂)", "H(U∣X̂)", "D"), parts),
        )
    )


def part(rows: Sequence[Row], name: str, last: bool = False) -> list[Row]:
    """The rows of one part that hold values; `last`: only of each game's last step."""
    return [r for r in rows if r["part"] == name and r["source"] and (not last or r["step"] == r["steps"])]


def comparison_table(rows: Sequence[Row]) -> str:
    """The effect of α at equal distortion, by source and pooled, in H(U) and in R."""
    sweep = part(rows, "sweep", last=True)
    lines = []
    by_quantity = {quantity: compare.compare(sweep, quantity) for quantity in ("h_u", "rate")}
    alphas = sorted({c.alpha for c in by_quantity["h_u"]})
    for alpha in alphas:
        for source in [*dict.fromkeys(c.source for c in by_quantity["h_u"]), None]:
            cells = []
            for found in by_quantity.values():
                groups = [c for c in found if c.alpha == alpha and source in (None, c.source)]
                cells.append(compare.interval([c.bits for c in groups]).text())
                cells.append(compare.interval([c.percent for c in groups]).text(2))
            lines.append((f"{alpha:g}", source or "**all three**", *cells))
    errors = (max(compare.interpolation_error(sweep, quantity, alpha) for alpha in alphas) for quantity in by_quantity)
    off = [cell for error in errors for cell in ("", f"±{error:.2f}")]
    lines.append(("any", "interpolation alone", *off))
    return _markdown(("α", "source", "ΔH(U), bits a point", "ΔH(U), %", "ΔR, bits a point", "ΔR, %"), lines)


def _by(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _mean(rows: Sequence[Row], quantity: str) -> float:
    return float(np.mean([row[quantity] for row in rows]))


def _geometric_ratio(rows: Sequence[Row], baselines: Sequence[Row]) -> float:
    return float(
        np.exp(np.mean(np.log([r["mse_255"] for r in rows])) - np.mean(np.log([b["mse_255"] for b in baselines])))
    )


def _against_effective_lambda(sweep: Sequence[Row], alpha: float) -> tuple[float, float]:
    """Ratio of D and difference of H(U) of runs with α against plain ones at λ/(1+α), interpolated in log λ."""
    lmbdas = sorted({row["lmbda"] for row in sweep})
    ratios, differences = [], []
    for source in dict.fromkeys(row["source"] for row in sweep):
        plain = [_by(sweep, source=source, alpha=0.0, lmbda=lmbda) for lmbda in lmbdas]
        log_d = [float(np.mean(np.log([r["mse_255"] for r in group]))) for group in plain]
        h_u = [_mean(group, "h_u") for group in plain]
        for lmbda in lmbdas[1:]:  # below the least λ there is nothing to interpolate
            at = np.log(lmbda / (1 + alpha))
            mine = _by(sweep, source=source, alpha=alpha, lmbda=lmbda)
            ratios.append(np.mean(np.log([r["mse_255"] for r in mine])) - np.interp(at, np.log(lmbdas), log_d))
            differences.append(_mean(mine, "h_u") - np.interp(at, np.log(lmbdas), h_u))
    return float(np.exp(np.mean(ratios))), float(np.mean(differences))


def equal_lambda_table(rows: Sequence[Row]) -> str:
    """The effect of α at equal λ, beside the ideal models' prediction λ/(1+α)."""
    sweep = part(rows, "sweep", last=True)
    lines = []
    for alpha in sorted({row["alpha"] for row in sweep}):
        mine, plain = _by(sweep, alpha=alpha), _by(sweep, alpha=0.0)
        ratio, difference = _against_effective_lambda(sweep, alpha)
        lines.append(
            (
                f"{alpha:g}",
                f"{_geometric_ratio(mine, plain):.3f}",
                f"{1 + alpha:g}",
                f"{_mean(mine, 'h_u') - _mean(plain, 'h_u'):+.3f}",
                f"{ratio:.3f}",
                f"{difference:+.3f}",
                f"{_mean(mine, 'pressure'):.3f}",
                f"{alpha / (1 + alpha):.3f}",
                f"{_mean(mine, 'source_entropy') - _mean(mine, 'h_x_given_x_hat'):.3f}",
                f"{_mean(mine, 'rate') - _mean(mine, 'h_u'):.3f}",
                f"{max(abs(row['h_u_given_x_hat']) for row in mine):.1e}",
                f"{max(row['capped'] for row in mine):.0f}",
            )
        )
    header = (
        "α",
        "D(α)/D(0)",
        "1+α",
        "ΔH(U)",
        "D against plain at λ/(1+α)",
        "H(U) against it",
        "ρ at the end",
        "α/(1+α)",
    )
    return _markdown((*header, "H_θ − H(X∣X̂)", "R − H(U)", "largest H(U∣X̂)", "updates capped"), lines)


def learning_table(rows: Sequence[Row]) -> str:
    """The gap H_θ - H(X|X̂) as q_θ learns, mean over sources and seeds."""
    learning = part(rows, "learning")
    steps = sorted({row["step"] for row in learning})
    lines = []
    for label in dict.fromkeys(row["label"] for row in learning):
        at = [_by(learning, label=label, step=step) for step in steps]
        lines.append((label, *(f"{_mean(g, 'source_entropy') - _mean(g, 'h_x_given_x_hat'):.2f}" for g in at)))
    return _markdown(("after updates", *(f"{step:.0f}" for step in steps)), lines)


def start_table(rows: Sequence[Row]) -> str:
    """Runs without warm-up."""
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows if row["part"] == "start"):
        mine = [row for row in part(rows, "start") if row["label"] == label]
        end = [row for row in mine if row["step"] == row["steps"]]
        stopped = any(row["diverged"] for row in rows if row["part"] == "start" and row["label"] == label)
        first = [row for row in mine if row["step"] == min(r["step"] for r in mine)] if mine else []
        cells = [f"{max(row['pressure'] for row in first):.2f}" if first else "-"]
        cells.append(f"{max(row['mse_255'] for row in mine):,.0f}" if mine else "-")
        for quantity, digits in (("mse_255", 0), ("h_u", 2), ("rate", 2)):
            values = [row[quantity] for row in end]
            cells.append(" to ".join(f"{v:,.{digits}f}" for v in (min(values), max(values))) if values else "-")
        capped = f"{max((row['capped'] for row in mine), default=0):.0f}"
        lines.append((label, *cells, capped, "stopped: not finite" if stopped else "ran to its end"))
    header = ("start", "ρ after 10 updates", "largest D seen", "D at the end", "H(U)", "R", "updates capped", "")
    return _markdown(header, lines)


def curve_table(rows: Sequence[Row]) -> str:
    """The points of the curves: mean over seeds."""
    sweep = part(rows, "sweep", last=True)
    lines = []
    for source in dict.fromkeys(row["source"] for row in sweep):
        for alpha in sorted({row["alpha"] for row in sweep}):
            for lmbda in sorted({row["lmbda"] for row in sweep}):
                mine = _by(sweep, source=source, alpha=alpha, lmbda=lmbda)
                values = (_mean(mine, q) for q in ("h_u", "rate", "h_x_given_x_hat", "source_entropy"))
                numbers = (
                    f"{_mean(mine, 'mse_255'):.1f}",
                    *(f"{v:.3f}" for v in values),
                    f"{_mean(mine, 'codes'):.0f}",
                )
                lines.append((source, f"{alpha:g}", f"{lmbda:g}", *numbers))
    return _markdown(("source", "α", "λ", "D", "H(U)", "R", "H(X∣X̂)", "H_θ", "codes in use"), lines)


def page(rows: Sequence[Row]) -> str:
    """The whole of table.md."""
    worst = max(row["identity_off"] for row in rows if row["source"])
    sweep = part(rows, "sweep", last=True)
    seeds = len({row["seed"] for row in sweep})
    measured = sum(bool(row["source"]) for row in rows)
    sections = (
        "# Identities and games in numbers",
        "Made by `make identities`; what each means: [README.md](README.md).",
        "## Items 2 and 3: exact checks",
        identity_tables(),
        "## Item 4: games on known sources",
        f"H(U) = H(X) − H(X∣X̂) + H(U∣X̂) on all {measured} measured codes: off by at most {worst:.1e} bits.",
        f"### At equal distortion: α against α = 0, {seeds} seeds, 95 % intervals over seeds",
        comparison_table(rows),
        "### At equal λ",
        equal_lambda_table(rows),
        "### The gap H_θ − H(X∣X̂) in bits as q_θ learns (λ = 0.012)",
        learning_table(rows),
        "### Without warm-up (mixture, λ = 0.003, α = 0.3)",
        start_table(rows),
        f"### All points, mean of {seeds} seeds",
        curve_table(rows),
    )
    return "\n\n".join(sections) + "\n"
