"""Longer branches, and the differences between them as they go on: `python -m experiments.branches.longer`.

longer/ARM_SEED.csv is the validation.csv of a branch, all Kodak images measured at each level after so many updates,
the rate estimated; longer/table.md has the BD-rates between the arms at each of them.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from experiments import tables
from experiments.branches.tabulate import ARMS
from regicomp.report.bd_rate import RdCurve, bd_rate
from regicomp.report.tables import signed
from regicomp.utils import files

FOLDER = Path(__file__).parent / "longer"
PAIRS = (("paper", "plain"), ("control_paper", "plain"), ("paper", "control_paper"))
NAMES = {**ARMS, "plain": "plain", "control_paper": "λ control"}
METRICS = ("psnr_db", "ms_ssim")


def read(path: Path) -> dict[int, dict[str, RdCurve]]:
    """By update and metric the curve of all levels; MS-SSIM in decibels."""
    found: dict[int, dict[str, RdCurve]] = {}
    for row in csv.DictReader(path.read_text().splitlines()):
        levels = sum(name.startswith("val_bpp_") for name in row)
        values = {
            name: np.array([float(row[f"val_{name}_{k + 1}"]) for k in range(levels)]) for name in ("bpp", *METRICS)
        }
        quality = {"psnr_db": values["psnr_db"], "ms_ssim": -10 * np.log10(1 - values["ms_ssim"])}
        found[int(row["step"])] = {name: RdCurve(values["bpp"], quality[name]) for name in METRICS}
    return found


def rows(curves: dict[str, dict[int, dict[str, RdCurve]]]) -> list[dict[str, Any]]:
    """A row for each number of updates: what the plain branch has gained since the first, and every arm against it."""
    first = min(curves["plain"])
    found: list[dict[str, Any]] = []
    for step in sorted(set.intersection(*(set(c) for c in curves.values()))):
        gained = bd_rate(curves["plain"][first]["psnr_db"], curves["plain"][step]["psnr_db"], "pchip")
        row: dict[str, Any] = {"updates": step, "plain, since the first": signed(gained)}
        for arm, against in PAIRS:
            both = [bd_rate(curves[against][step][m], curves[arm][step][m], "pchip") for m in METRICS]
            row[f"{NAMES[arm]} against {NAMES[against]}"] = " / ".join(map(signed, both))
        found.append(row)
    return found


def table(folder: Path = FOLDER, seed: int = 0) -> str:
    """The Markdown table of one seed."""
    return tables.markdown(
        rows({arm: read(folder / f"{arm}_{seed}.csv") for arm in ("plain", "paper", "control_paper")})
    )


def main() -> None:
    """Entry point."""
    text = "BD-rate on Kodak in percent, PSNR / MS-SSIM.\n\n" + table()
    files.write_bytes(FOLDER / "table.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
