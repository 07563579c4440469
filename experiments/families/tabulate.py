"""table.md, results.csv and learning.csv of the families experiment, from its runs' records and metrics.

`python -m experiments.families.tabulate multirun/families` after the sweep (README.md has both commands).
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
SPAN = 300  # codec updates that learning.csv averages over


def row(run_dir: Path) -> dict[str, Any]:
    """One family's figures: q_θ's size, H_θ on each test set, training seconds."""
    found = record.read(run_dir / "results.json")
    run = found["run"]
    values = {"source": run["source"], "source_parameters": run["source_parameters"], "steps": run["steps"]}
    values |= {f"source_bpp {name}": round(entry["source_bpp"], 4) for name, entry in found["testsets"].items()}
    values |= {f"rate_bpp {name}": round(entry["bpp"], 4) for name, entry in found["testsets"].items()}
    return {**values, "training_seconds": round(found["timing"]["training_seconds"], 1)}


def learning(run_dir: Path) -> dict[str, Any]:
    """One family's H_θ on training crops, bits a pixel: the mean over the logged updates of each span, by its end."""
    spans: dict[int, list[float]] = {}
    with (run_dir / "metrics.csv").open(newline="") as file:
        for logged in csv.DictReader(file):
            end = -(-int(logged["step"]) // SPAN) * SPAN
            spans.setdefault(end, []).append(float(logged["source_bpp"]))
    means = {str(end): round(statistics.mean(values), 3) for end, values in spans.items()}
    return {"source": record.read(run_dir / "results.json")["run"]["source"], **means}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--out", type=Path, default=HERE, help="where table.md and results.csv are written")
    arguments = parser.parse_args()
    with cli.told_in_one_line():
        folders = [path.parent for path in sorted(arguments.sweep.glob("*/results.json"))]
        rows, learned = [row(folder) for folder in folders], [learning(folder) for folder in folders]
        if not rows:
            raise ValueError(f"`sweep` (={arguments.sweep}) holds no results.json; run the sweep of README.md first")
    rows.sort(key=lambda r: -next(v for k, v in r.items() if k.startswith("source_bpp")))
    order = [r["source"] for r in rows]
    tables.write_csv(arguments.out / "results.csv", rows)
    tables.write_csv(arguments.out / "learning.csv", sorted(learned, key=lambda r: order.index(r["source"])))
    text = tables.markdown(rows)
    files.write_bytes(arguments.out / "table.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
