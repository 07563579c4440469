"""table.md, unseen.md, cost.md, baselines.md and rd.png of the five backbones, from their records.

`python -m experiments.kodak.tabulate --data $REGICOMP_DATA`, after records are copied to experiments/branches.
Without `--data` the first three alone: the others hold the curves against JPEG and WebP, measured on Kodak's images.
A backbone's folder has `runs/`, as experiments.branches.tabulate reads them, `made/` with the records of the trainings
that made its codec and its q_θ, and `unseen/runs/` and `validation/runs/` of other test sets, each where it has been
measured.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from regicomp.utils import cli

cli.quiet_libraries()

import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from experiments import tables  # noqa: E402
from experiments.branches import tabulate as branches  # noqa: E402
from regicomp.data import testsets  # noqa: E402
from regicomp.evaluation import classical_codecs, record  # noqa: E402
from regicomp.report import other_codecs, published  # noqa: E402
from regicomp.report.bd_rate import RdCurve, difference  # noqa: E402
from regicomp.report.curves import Curve  # noqa: E402
from regicomp.report.tables import signed  # noqa: E402
from regicomp.utils import files  # noqa: E402

HERE = Path(__file__).parent
BRANCHES = HERE.parent / "branches"


class Backbone(NamedTuple):
    """A row of the table."""

    name: str
    folder: Path  # of its records
    paper: float  # BD-rate in percent that the paper reports, table 1
    on_gpu: bool = False  # its codec was trained on a GPU, whose minutes are not those of a core


BACKBONES = (
    Backbone("hyperprior", BRANCHES, -1.13, on_gpu=True),
    Backbone("autoregressive", BRANCHES / "autoregressive", -1.57),
    Backbone("attention", BRANCHES / "attention", -0.84),
    Backbone("ELIC", BRANCHES / "elic", -1.24),
    Backbone("MLIC++", BRANCHES / "mlicpp", -1.82, on_gpu=True),
)
# Heading, and which arm is held against which.
COMPARISONS = (
    ("α = 0.1", "plain", "paper"),
    ("λ control", "plain", "control_paper"),
    ("α = 0.1 against its λ control", "control_paper", "paper"),
)
MILD = ("α = 0.03", "plain", "mild")
STAGES = ("first", "second", "codec")  # of the training of a codec, the last one its end
Arms = dict[str, Curve]


def read(part: str = "runs") -> dict[Backbone, dict[str, Arms]]:
    """By backbone and test set the arms found, of those that have been measured."""
    return {b: branches.read(b.folder / part) for b in BACKBONES if (b.folder / part).is_dir()}


def table(found: Mapping[Backbone, dict[str, Arms]]) -> list[dict[str, Any]]:
    """A row a backbone: BD-rates on Kodak, with 95 % intervals over trainings."""
    rows: list[dict[str, Any]] = []
    for backbone, of_set in found.items():
        (arms,) = of_set.values()
        row: dict[str, Any] = {"backbone": backbone.name, "trainings": len(arms["paper"].seeds)}
        row["PSNR: the paper"] = signed(backbone.paper)
        for metric in ("PSNR", "MS-SSIM"):
            row |= {f"{metric}: {head}": saving(arms, pair, metric) for head, *pair in (MILD, *COMPARISONS)}
        rows.append(row)
    return rows


def elsewhere() -> dict[Backbone, dict[str, Arms]]:
    """By backbone and test set the arms found: the domains that training did not see, and in-domain images."""
    found = read("unseen/runs")
    for backbone, of_set in read("validation/runs").items():
        found[backbone] = found.get(backbone, {}) | of_set
    return {backbone: found[backbone] for backbone in BACKBONES if backbone in found}


def unseen(found: Mapping[Backbone, dict[str, Arms]]) -> list[dict[str, Any]]:
    """Rows of a backbone, a metric and a comparison; a column for each test set but Kodak."""
    sets = sorted({testset for of_set in found.values() for testset in of_set})
    return [
        {"backbone": backbone.name, "metric": metric, "": head}
        | {_title(name): saving(of_set[name], pair, metric) if name in of_set else "–" for name in sets}
        for backbone, of_set in found.items()
        for metric in ("PSNR", "MS-SSIM")
        for head, *pair in COMPARISONS
    ]


def _title(testset: str) -> str:
    return "in-domain" if testset == "bsds500/val" else testset.removeprefix("ood/")


def saving(arms: Arms, pair: list[str], metric: str) -> str:
    """BD-rate of the second arm against the first."""
    return branches.saving(arms.get(pair[0]), arms.get(pair[1]), branches.METRICS[metric])


def cost() -> list[dict[str, Any]]:
    """A row a backbone: minutes of a core, as its records have them."""
    rows: list[dict[str, Any]] = []
    for backbone in BACKBONES:
        if not (backbone.folder / "runs").is_dir():
            continue
        of_codec = [] if backbone.on_gpu else _made(backbone.folder, *STAGES)
        of_source = _made(backbone.folder, "source")
        arms = {a: _minutes_of(backbone.folder, f"{a}_*") for a in ("plain", "control_paper", "paper")}
        every = [*of_codec, *of_source, *_minutes_of(backbone.folder, "*")]
        rows.append(
            {
                "backbone": backbone.name,
                "parameters, millions": f"{_parameters(backbone.folder):.2f}",
                "the codec": _sum(of_codec),
                "q_θ": _sum(of_source),
                "a plain branch": _median([*arms["plain"], *arms["control_paper"]]),
                "with α = 0.1": _median(arms["paper"]),
                "measuring one": _median(_minutes_of(backbone.folder, "*"), "measuring"),
                "all": f"{sum(m.training + m.measuring for m in every) / 60:.1f} h",
            }
        )
    return rows


class Minutes(NamedTuple):
    """Time of a run, minutes of a core."""

    training: float
    measuring: float


def _minutes(path: Path) -> Minutes:
    timing = record.read(path)["timing"]
    cores = timing["threads"] / 60
    return Minutes(timing["training_seconds"] * cores, timing["evaluation_seconds"] * cores)


def _made(folder: Path, *stages: str) -> list[Minutes]:
    paths = (folder / "made" / stage / "results.json" for stage in stages)
    return [_minutes(path) for path in paths if path.exists()]


def _minutes_of(folder: Path, pattern: str) -> list[Minutes]:
    return [_minutes(path) for path in sorted((folder / "runs").glob(f"{pattern}/results.json"))]


def _sum(minutes: list[Minutes]) -> str:
    whole = sum(m.training for m in minutes)
    return f"{whole:.0f}" if whole else "–"


def _median(minutes: list[Minutes], what: str = "training") -> str:
    return f"{statistics.median(getattr(m, what) for m in minutes):.1f}"


def _parameters(folder: Path) -> float:
    return record.read(folder / "runs" / "plain_0" / "results.json")["run"]["parameters"] / 1e6


def baselines(
    found: Mapping[Backbone, dict[str, Arms]], classical: Mapping[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """A row a backbone: how good its plain codec is, BD-rate in PSNR against others and dB above them."""
    rows: list[dict[str, Any]] = []
    for backbone, of_set in found.items():
        ((testset, arms),) = of_set.items()
        (row,) = other_codecs.rows([arms["plain"]], {testset: classical}, "pchip")
        rate, quality = row.curve
        rows.append(
            {
                "backbone": backbone.name,
                "levels": len(rate),
                "bpp": f"{rate[0]:.3f}–{rate[-1]:.3f}",
                "PSNR, dB": f"{quality[0]:.2f}–{quality[-1]:.2f}",
            }
            | {name: _against(against) for name, against in row.against.items()}
        )
    return rows


def _against(other: other_codecs.Against) -> str:
    percent = "–" if other.percent is None else signed(other.percent, 1)
    if other.least is None or other.most is None:
        return percent
    return f"{percent} [{signed(other.least)}, {signed(other.most)}]"


def draw(path: Path, found: Mapping[Backbone, dict[str, Arms]], classical: Mapping[str, list[dict[str, Any]]]) -> None:
    """A column a backbone: the curves, and below where along them bits are saved, in PSNR and in MS-SSIM."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(3.1 * len(found), 8), layout="constrained")
    columns: Any = figure.subplots(3, len(found), sharey="row", squeeze=False).T
    for axes, (backbone, of_set) in zip(columns, found.items(), strict=True):
        (arms,) = of_set.values()
        axes[0].set_title(backbone.name)
        _draw_curves(axes[0], arms, classical)
        for panel, metric in zip(axes[1:], ("PSNR", "MS-SSIM"), strict=True):
            _draw_savings(panel, arms, branches.METRICS[metric])
            panel.set_xlabel(f"{metric} [dB]")
    qualities = [arms["plain"].points("psnr_db").quality for of_set in found.values() for arms in of_set.values()]
    columns[0][0].set_ylim(min(q[0] for q in qualities) - 1, max(q[-1] for q in qualities) + 2)
    labels = ("PSNR [dB]", "bits at equal PSNR [%]", "bits at equal MS-SSIM [%]")
    for panel, label in zip(columns[0], labels, strict=True):
        panel.set_ylabel(label)
    for row, panel in enumerate(columns[0][:2]):
        figure.legend(
            *panel.get_legend_handles_labels(), loc=("outside upper center", "outside lower center")[row], ncols=6
        )
    figure.savefig(path, dpi=110)


def _draw_curves(axes: Axes, arms: Arms, classical: Mapping[str, list[dict[str, Any]]]) -> None:
    for arm, label, line in (("plain", "α = 0", "o--"), ("paper", "α = 0.1", "s-")):
        curve = arms[arm].points("psnr_db")
        axes.plot(curve.rate, curve.quality, line, markersize=4, linewidth=1, label=label)
    rates = axes.get_xlim()
    for (name, points), line in zip(classical.items(), (":", "-."), strict=False):
        axes.plot([p["bpp"] for p in points], [p["psnr_db"] for p in points], line, color="0.5", label=name)
    known = other_codecs.published_curve(arms["plain"].family.backbone)
    if known is not None:
        axes.plot(known.bpp, known.psnr_db, color="0.75", label="published, full size")
    axes.set(xlim=rates, xlabel="bits per pixel")
    axes.grid(alpha=0.3)


def _draw_savings(axes: Axes, arms: Arms, points: Callable[[Curve], RdCurve]) -> None:
    for (head, anchor, test), line in zip(COMPARISONS, ("-", ":", "--"), strict=True):
        if anchor in arms and test in arms:
            quality, percent = difference(points(arms[anchor]), points(arms[test]), "pchip")
            axes.plot(quality, percent, line, label=head)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.grid(alpha=0.3)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder that holds kodak/, for baselines.md and rd.png")
    data = parser.parse_args().data
    found = read()
    pages = {"table.md": table(found), "unseen.md": unseen(elsewhere()), "cost.md": cost()}
    if data is not None:
        (kodak,) = testsets.find([published.TESTSET], data, [])
        classical = {codec.name: classical_codecs.cached(codec, kodak, False) for codec in classical_codecs.QUICK}
        pages["baselines.md"] = baselines(found, classical)
        draw(HERE / "rd.png", found, classical)
    for name, rows in pages.items():
        page = tables.markdown(rows)
        files.write_bytes(HERE / name, page.encode())
        print(page)


if __name__ == "__main__":
    main()
