"""A sweep's dashboard: a W&B report of curves, BD-rate table, training and pictures, by wandb-workspaces."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from regicomp.report import comparison, curves, records, style, tables
from regicomp.report.records import Measurement
from regicomp.utils import files

TRAINING = ("loss", "rate_bpp", "psnr_db", "source_bpp", "pressure", "lr")  # columns of metrics.csv
QUALITIES = (("psnr_db", "PSNR, dB"), ("ms_ssim_db", "MS-SSIM, dB"))


def _package() -> tuple[Any, Any]:
    """wandb-workspaces' reports and filters.

    Raises:
        ValueError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its models are of Pydantic's old style
            import wandb_workspaces.expr as expressions
            import wandb_workspaces.reports.v2 as reports
    except ImportError as error:
        raise ValueError(
            "a dashboard needs the package wandb-workspaces, which is not installed: pip install 'regicomp[dashboard]'"
        ) from error
    return reports, expressions


def _names(measurements: Iterable[Measurement]) -> list[str]:
    """The test sets, and of variable rate the levels, that W&B's summary has figures of, in its own words."""
    found = {
        m.testset if m.run.get("lambdas") is None else f"{m.testset}/quality {m.quality:g}": None for m in measurements
    }
    return list(found)


def describe(sweep: Path, project: str, entity: str) -> Any:
    """The report of a sweep's runs in a W&B project; nothing is sent.

    Args:
        sweep: folder of the sweep; its name is the runs' group in W&B.
        project: their project.
        entity: its owner; empty: left open.

    Raises:
        ValueError: there is no record in the folder, or wandb-workspaces is not installed.
    """
    wr, expr = _package()
    collection = records.collect([sweep])
    compared, skipped = curves.curves_of(collection.measurements)
    options = comparison.Options()
    comparisons = comparison.compare(compared, options)
    means = comparison.domain_means(comparisons, options)
    labels = style.names(list(dict.fromkeys(c.family for c in compared)))
    table = tables.markdown(comparisons, means, options, labels, [*collection.skipped, *skipped])
    names = _names(collection.measurements)

    def grid(*panels: Any) -> Any:
        group = expr.And(expr.Metric("Group") == sweep.resolve().name)
        runs = wr.Runset(entity=entity, project=project, name=sweep.resolve().name, filters=group)
        return wr.PanelGrid(runsets=[runs], panels=list(panels))

    curve = [
        wr.ScatterPlot(
            title=f"{name}: {what}", x=wr.SummaryMetric(f"{name}/bpp"), y=wr.SummaryMetric(f"{name}/{metric}")
        )
        for name in names
        for metric, what in QUALITIES
    ]
    training = [wr.LinePlot(title=column, x="trainer/global_step", y=[column]) for column in TRAINING]
    return wr.Report(
        project=project,
        entity=entity,
        title=f"{sweep.resolve().name}: rate and distortion"[:128],
        description="Made by regicomp.report.dashboard from the records of the runs.",
        width="fluid",
        blocks=[
            wr.H1("Rate and distortion"),
            grid(*curve),
            wr.H1("BD-rate"),
            wr.MarkdownBlock(table),
            wr.H1("Training"),
            grid(*training),
            wr.H1("Pictures"),
            grid(wr.MediaBrowser(title="summary of each run", media_keys=["summary"], num_columns=2)),
        ],
    )


def write(report: Any, path: Path) -> None:
    """Write a report's description, as W&B would be sent it, for inspection."""
    spec = json.loads(report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    files.write_bytes(path, (json.dumps(spec, indent=1, ensure_ascii=False) + "\n").encode())


def save(report: Any) -> str:
    """Send a report to W&B; its address.

    Raises:
        ValueError: W&B cannot be reached, or refuses.
    """
    try:
        report.save()
        return str(report.url)
    except Exception as error:  # whatever W&B raises
        raise ValueError(f"W&B did not take the report: {' '.join(str(error).split())[:300]}") from error
