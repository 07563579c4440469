"""How far branches fit their own images better than others: `python -m experiments.why.scarce`.

scarce/IMAGES/runs/ARM_SEED are the records of branches that were trained on so many images, measured on Kodak and on
ten images that all of them were trained on; scarce/table.md holds each against the branch of all images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import tables
from experiments.branches import tabulate
from regicomp.report.bd_rate import bd_rate
from regicomp.report.curves import Curve
from regicomp.report.tables import signed
from regicomp.utils import files

FOLDER = Path(__file__).parent / "scarce"
BRANCHES = {"plain": "plain", "paper": "α = 0.1", "control_paper": "its λ control"}
SEEN, OTHERS = "seen", "kodak"
Arms = dict[str, dict[str, Curve]]  # by test set


def read(folder: Path = FOLDER) -> dict[int, Arms]:
    """The arms by the number of images that they were trained on, the fewest first."""
    found = {int(path.parent.name): tabulate.read(path) for path in folder.glob("*/runs")}
    return dict(sorted(found.items()))


def rows(found: dict[int, Arms], metric: str = "PSNR") -> list[dict[str, Any]]:
    """A row for each number of images and arm, BD-rates in percent.

    Args:
        found: the arms by the number of images; the most are what the others are held against.
        metric: of tabulate.METRICS.
    """
    points = tabulate.METRICS[metric]
    whole = found[max(found)]

    def saving(anchor: Curve, test: Curve) -> float:
        return bd_rate(points(anchor), points(test), "pchip")

    made: list[dict[str, Any]] = []
    for images, arms in found.items():
        for arm, about in BRANCHES.items():
            if arm not in arms[SEEN]:
                continue
            seen, others = (saving(whole[t][arm], arms[t][arm]) for t in (SEEN, OTHERS))
            row: dict[str, Any] = {"images": images, "branch": about}
            row |= {"the ten, against all images": signed(seen), "Kodak, against all images": signed(others)}
            row["gap"] = signed(others - seen)
            for testset, name in ((SEEN, "the ten, against plain"), (OTHERS, "Kodak, against plain")):
                row[name] = "–" if arm == "plain" else signed(saving(arms[testset]["plain"], arms[testset][arm]))
            made.append(row)
    return made


def page(folder: Path = FOLDER) -> str:
    """Both metrics' tables."""
    found = read(folder)
    return "\n".join(f"BD-rate in percent, {m}.\n\n{tables.markdown(rows(found, m))}" for m in ("PSNR", "MS-SSIM"))


def main() -> None:
    """Entry point."""
    text = page()
    files.write_bytes(FOLDER / "table.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
