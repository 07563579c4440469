"""pressure.csv and pressure.md of the search: size and direction of the regularizer gradient, by option and λ.

`python -m experiments.search.tabulate multirun/search` after the sweep. Means over the logged updates at full α: ρ, its
cosine with the distortion gradient, and λ (1 - ρ cos), the λ whose distortion gradient alone equals the sum of both in
that direction (λ itself where `reg.project` removes that component). `capped` counts the run's updates at which the
bound on ρ acted.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

from experiments import tables
from regicomp.evaluation import record
from regicomp.utils import cli, files

HERE = Path(__file__).parent
_FULL = 0.9  # of α: an update with more counts


def row(run_dir: Path) -> dict[str, Any] | None:
    """One run's means; None for a run without the regularizer, or that never reached its full α."""
    run = record.read(run_dir / "results.json")["run"]
    if not run["alpha"]:
        return None
    with (run_dir / "metrics.csv").open(newline="") as file:
        logged = [r for r in csv.DictReader(file) if float(r["alpha"]) > _FULL * run["alpha"]]
    if not logged:
        return None
    pressure = statistics.mean(float(r["pressure"]) for r in logged)
    cosine = statistics.mean(float(r.get("cosine") or r["along"]) for r in logged)  # older runs call it `along`
    parallel = 0.0 if "project=True" in (run["variant"] or "") else pressure * cosine
    other = [f"q_θ {run['source']}"] if run["source"] != run["backbone"] else []
    option = [f"α = {run['alpha']:g}", *other, *([run["variant"]] if run["variant"] else [])]
    return {
        "option": ", ".join(option),
        "lmbda": run["lmbda"],
        "rho": round(pressure, 3),
        "cosine": round(cosine, 3),
        "effective_lmbda": round(run["lmbda"] * (1 - parallel), 5),
        "source_bpp": round(statistics.mean(float(r["source_bpp"]) for r in logged), 2),
        "capped": int(float(logged[-1]["capped"])),
        "logged_updates": len(logged),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--out", type=Path, default=HERE, help="where pressure.csv and pressure.md are written")
    arguments = parser.parse_args()
    with cli.told_in_one_line():
        found = [row(path.parent) for path in sorted(arguments.sweep.glob("*/results.json"))]
        rows = [r for r in found if r is not None]
        if not rows:
            raise ValueError(
                f"`sweep` (={arguments.sweep}) holds no record of a regularized run; run README.md's first"
            )
    rows.sort(key=lambda r: (r["option"], r["lmbda"]))
    tables.write_csv(arguments.out / "pressure.csv", rows)
    text = tables.markdown(rows)
    files.write_bytes(arguments.out / "pressure.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
