"""table.md, images.md, waste.md and bits.png of the branches, from their records.

`python -m experiments.branches.tabulate`, after `python -m experiments.branches.collect`. A folder of
`runs/` is a branch, ARM_SEED, or of a codec of fixed rate ARM_LAMBDA_SEED; the arm `plain` has α = 0, and `control_ARM`
too, at λ that give it the rates of ARM. `waste/ARM` is a record of q_θ trained beside the frozen codec of ARM, and so
of T = R + H_θ.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.stats import spearmanr

from regicomp.utils import cli

cli.quiet_libraries()

import matplotlib  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from experiments import tables  # noqa: E402
from regicomp.evaluation import record  # noqa: E402
from regicomp.report import records  # noqa: E402
from regicomp.report.bd_rate import Array, RdCurve, bd_rate, difference  # noqa: E402
from regicomp.report.curves import Curve, curves_of  # noqa: E402
from regicomp.report.tables import interval, signed  # noqa: E402
from regicomp.report.trainings import over_trainings  # noqa: E402
from regicomp.utils import files  # noqa: E402

HERE = Path(__file__).parent
ARMS = {
    "mild": "α = 0.03",
    "paper": "α = 0.1",
    "minimized": "α = 0.1, H_θ minimized",
    "mixed": "α = 0, quantization=mixed",
    "crops256": "α = 0, crops of 256²",
    "first_half": "α = 0.1, first half only",
    "second_half": "α = 0.1, second half only",
    "pressure": "ρ = 0.1",
    "rounded": "α = 0.1, q_θ sees rounded latents",
    "q_hyperprior": "α = 0.1, q_θ of the hyperprior",
    "q_elic": "α = 0.1, q_θ of ELIC",
    "q_mlicpp": "α = 0.1, q_θ of MLIC++",
}
# Of α = 0.1, held against its λ control where they have none of their own.
SHAPES = ("first_half", "second_half", "pressure", "rounded", "q_hyperprior", "q_elic", "q_mlicpp")


def _psnr(curve: Curve) -> RdCurve:
    return curve.points("psnr_db")


def _pooled(curve: Curve) -> RdCurve:
    """With the PSNR of the mean squared error over all images, which is what the loss counts."""
    rate, psnr = curve.values("psnr_db")
    mse = (10 ** (-psnr / 10)).mean(axis=(0, 2))
    return RdCurve(rate.mean(axis=(0, 2)), -10 * np.log10(mse))


def _ms_ssim(curve: Curve) -> RdCurve:
    return curve.points("ms_ssim_db")


METRICS: dict[str, Callable[[Curve], RdCurve]] = {
    "PSNR": _psnr,
    "PSNR of the mean error": _pooled,
    "MS-SSIM": _ms_ssim,
}


def read(folder: Path) -> dict[str, dict[str, Curve]]:
    """By test set the arms found, each with the curves of its seeds."""
    found: dict[str, dict[str, Curve]] = {}
    for arm in sorted({re.sub(r"_[\d._]+$", "", path.name) for path in folder.iterdir() if path.is_dir()}):
        curves, skipped = curves_of(records.collect(sorted(folder.glob(f"{arm}_[0-9]*"))).measurements)
        for curve in curves:
            if skipped or arm in found.get(curve.testset, {}):
                raise ValueError(f"the records {folder / arm}_* are not one curve: {skipped or curve.family}")
            found.setdefault(curve.testset, {})[arm] = curve
    return found


def saving(anchor: Curve | None, test: Curve | None, points: Callable[[Curve], RdCurve]) -> str:
    """BD-rate over the seeds that both have, with its interval."""
    if anchor is None or test is None:
        return "–"
    pairs = [(points(anchor.of_seeds([seed])), points(test.of_seeds([seed]))) for seed in _of_both(anchor, test)]
    return mean_of([bd_rate(a, t, "pchip") for a, t in pairs])


def _of_both(anchor: Curve, test: Curve) -> list[int]:
    return [seed for seed in test.seeds if seed in anchor.seeds]


def mean_of(percents: list[float]) -> str:
    """The mean over trainings with its 95 % interval; of a single one the number alone."""
    over = over_trainings(percents)
    return signed(percents[0]) if over is None else f"{signed(over.percent)} {interval(over.low, over.high)}"


def comparisons(arms: dict[str, Curve]) -> list[dict[str, Any]]:
    """A row for each arm and metric: against the plain branch, the control against it, and against the control."""
    rows: list[dict[str, Any]] = []
    for arm, about in ARMS.items():
        if arm not in arms:
            continue
        plain, test = arms["plain"], arms[arm]
        control = arms.get(f"control_{arm}", arms.get("control_paper") if arm in SHAPES else None)
        if control is not None:
            control = control.of_seeds(seed for seed in control.seeds if seed in test.seeds)
        for metric, points in METRICS.items():
            rows.append(
                {
                    "branch": about,
                    "metric": metric,
                    "against plain": saving(plain, test, points),
                    "λ control against plain": saving(plain, control, points),
                    "against the λ control": saving(control, test, points),
                }
            )
    return rows


def images(arms: dict[str, Curve]) -> list[dict[str, Any]]:
    """A row for each arm with a control and every other level: which images the regularizer gives bits, and which lose.

    Differences are those to the λ control at the same level, averaged over seeds; hard and easy are the thirds of the
    images with the lowest and the highest PSNR of the control, the last column the three that lose most of it, in dB.
    """
    rows: list[dict[str, Any]] = []
    for arm, about in ARMS.items():
        if arm not in arms or f"control_{arm}" not in arms:
            continue
        seeds = _of_both(arms[f"control_{arm}"], arms[arm])
        control, test = arms[f"control_{arm}"].of_seeds(seeds), arms[arm].of_seeds(seeds)
        psnr = control.psnr_db.mean(axis=0)
        rate = 100 * np.log(test.rate / control.rate).mean(axis=0)
        better = (test.psnr_db - control.psnr_db).mean(axis=0)
        for level in range(0, len(psnr), 2):
            order = np.argsort(psnr[level])
            thirds = {"hard": order[: len(order) // 3], "easy": order[-(len(order) // 3) :]}
            row: dict[str, Any] = {"branch": about, "level": level + 1}
            for name, third in thirds.items():
                row[f"{name}: bits, %"] = signed(float(rate[level, third].mean()))
                row[f"{name}: PSNR, dB"] = signed(float(better[level, third].mean()), 3)
            row["rank correlation"] = signed(float(spearmanr(psnr[level], better[level]).statistic))
            least = np.argsort(better[level])[:3]
            named = (f"{control.images[k].partition('.')[0]} {signed(float(better[level, k]))}" for k in least)
            row["worst, dB"] = ", ".join(named)
            rows.append(row)
    return rows


def _lossless(path: Path, testset: str) -> tuple[Array, Array]:
    """R and T = R + H_θ at each level, bits per pixel (estimated), from a record with q_θ."""
    entries = [point.testsets[testset] for point in record.points(record.read(path))]
    rate = np.array([entry["bpp_estimated"] for entry in entries])
    return rate, rate + np.array([entry["source_bpp"] for entry in entries])


def waste(folder: Path, testset: str) -> list[dict[str, Any]]:
    """A row an arm: T less that of the plain codec at the same rate, by level; none outside of its rates."""
    plain = PchipInterpolator(*_lossless(folder / "plain" / "results.json", testset), extrapolate=False)
    rows: list[dict[str, Any]] = []
    for arm, about in ARMS.items():
        path = folder / arm / "results.json"
        if path.exists():
            rate, whole = _lossless(path, testset)
            more = whole - plain(rate)
            cells = {f"level {k}": "–" if np.isnan(v) else signed(float(v), 3) for k, v in enumerate(more, 1)}
            rows.append({"branch": about, **cells})
    return rows


def draw(path: Path, arms: dict[str, Curve]) -> None:
    """Where along the curve bits are saved, against the plain branches and against the λ control."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for axes, (metric, points) in zip(figure.subplots(1, len(METRICS)), METRICS.items(), strict=True):
        for k, (arm, about) in enumerate(ARMS.items()):
            control = f"control_{arm}"
            for anchor, test, line, said in (
                ("plain", arm, "-", about),
                ("plain", control, ":", f"λ control of {about}"),
                (control, arm, "--", f"{about}, against its λ control"),
            ):
                if anchor in arms and test in arms:
                    quality, percent = difference(points(arms[anchor]), points(arms[test]), "pchip")
                    axes.plot(quality, percent, line, color=f"C{k}", label=said)
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set(xlabel=f"{metric} [dB]", ylabel="bits against α = 0 [%]")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=110)


def pages(folder: Path, found: dict[str, dict[str, Curve]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each page, from what `read` found; of several test sets the BD-rates alone."""
    if len(found) > 1:
        return {"table.md": [{"test set": t} | row for t, arms in found.items() for row in comparisons(arms)]}
    ((testset, arms),) = found.items()
    rows = {"table.md": comparisons(arms)}
    if by_image := images(arms):
        rows["images.md"] = by_image
    if (folder / "waste").exists():
        rows["waste.md"] = waste(folder / "waste", testset)
    return rows


def without(arms: dict[str, Curve], images: list[str]) -> dict[str, Curve]:
    """The arms on the other images.

    Args:
        arms: measured on the same images.
        images: their names up to the dot.

    Raises:
        ValueError: one of them was not measured.
    """
    found: dict[str, Curve] = {}
    for arm, curve in arms.items():
        names = [image.partition(".")[0] for image in curve.images]
        if unknown := set(images) - set(names):
            raise ValueError(f"`--without` (={sorted(unknown)}) must be images of {curve.testset}: {', '.join(names)}")
        left = [k for k, name in enumerate(names) if name not in images]
        found[arm] = curve._replace(
            images=tuple(curve.images[k] for k in left),
            rate=curve.rate[..., left],
            psnr_db=curve.psnr_db[..., left],
            ms_ssim_db=curve.ms_ssim_db[..., left],
        )
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=HERE, help="folder with runs/ and waste/, written to too")
    parser.add_argument("--without", nargs="+", metavar="IMAGE", help="write without.md alone: table.md without them")
    arguments = parser.parse_args()
    folder = arguments.records
    found = read(folder / "runs")
    if arguments.without:
        (arms,) = found.values()
        table = tables.markdown(comparisons(without(arms, arguments.without)))
        files.write_bytes(folder / "without.md", table.encode())
        print(table)
        return
    for name, rows in pages(folder, found).items():
        table = tables.markdown(rows)
        files.write_bytes(folder / name, table.encode())
        print(table)
    if len(found) == 1:
        draw(folder / "bits.png", *found.values())


if __name__ == "__main__":
    main()
