"""Weights & Biases: grouped runs, the record's own metric names, RD curves and pictures as panels, artifacts."""

from __future__ import annotations

import netrc
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from regicomp.utils import files

_SUMMARIZED = ("bpp", "bpp_estimated", "psnr_db", "ms_ssim", "ms_ssim_db", "source_bpp")
_IMAGE_COLUMNS = ("name", "width", "height", "bytes", "bpp", "bpp_estimated", "psnr_db", "ms_ssim", "source_bpp")


def is_offline() -> bool:
    """Whether W&B must not connect: no WANDB_MODE and no API key in the environment or in ~/.netrc."""
    mode = os.environ.get("WANDB_MODE")
    if mode is not None:
        return mode != "online"
    if os.environ.get("WANDB_API_KEY"):
        return False
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is None
    except (OSError, netrc.NetrcParseError):
        return True


def start(run_dir: Path, project: str, config: dict[str, Any], group: str | None = None) -> WandbLogger:
    """W&B beside the record; a resumed run goes on under the same id. Never asks for a key.

    Args:
        run_dir: where the offline run is written (`wandb sync RUN/wandb/offline-run-*` sends it later).
        project: W&B project.
        config: the run's whole configuration.
        group: runs of one sweep are shown together.
    """
    import wandb

    identifier = run_dir / "wandb_id"
    if not identifier.exists():
        files.write_bytes(identifier, secrets.token_hex(4).encode())
    run = wandb.init(
        id=identifier.read_text().strip(),
        name=run_dir.name,
        group=group,
        project=project,
        dir=str(run_dir),
        mode="offline" if is_offline() else "online",
        resume="allow" if not is_offline() else None,
        config=config,
        settings=wandb.Settings(silent=True, console="off"),
    )
    return WandbLogger(experiment=run)


def log_record(run_dir: Path, record: dict[str, Any], curves: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Add a measured run's figures to this process's W&B run; does nothing where there is none.

    Summary metrics are `<test set>/<metric>` with the record's names; panels are a table of the images, the run's point
    among the anchors' RD curves, and summary.png; the artifact holds record, configuration and codec.

    Args:
        run_dir: holds results.json, summary.png, codec.safetensors and .hydra/.
        record: the run's record.
        curves: by test set, the anchors' points by name.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    run = wandb.run
    label = f"{record['run']['backbone']}, α = {record['run']['alpha']:g}"
    panels: dict[str, Any] = {"summary": wandb.Image(str(run_dir / "summary.png"))}
    for testset, entry in record["testsets"].items():
        for metric in _SUMMARIZED:
            if entry[metric] is not None:
                run.summary[f"{testset}/{metric}"] = entry[metric]
        rows = [[image[column] for column in _IMAGE_COLUMNS] for image in entry["images"]]
        panels[f"{testset}/images"] = wandb.Table(columns=list(_IMAGE_COLUMNS), data=rows)
        points = [[label, entry["bpp"], entry["psnr_db"]]]
        points += [[name, p["bpp"], p["psnr_db"]] for name, ps in curves.get(testset, {}).items() for p in ps]
        table = wandb.Table(columns=["codec", "bpp", "psnr_db"], data=points)
        panels[f"{testset}/rd"] = wandb.plot.line(
            table, x="bpp", y="psnr_db", stroke="codec", title=f"{testset}: rate and distortion"
        )
    run.log(panels)
    artifact = wandb.Artifact(f"run-{run.id}", type="run", metadata=record["run"])
    for name in ("results.json", "codec.safetensors", ".hydra/config.yaml", ".hydra/overrides.yaml"):
        if (run_dir / name).exists():
            artifact.add_file(str(run_dir / name), name=name.removeprefix(".hydra/"))
    run.log_artifact(artifact)


def finish() -> None:
    """End this process's W&B run, if there is one, so that the next of a sweep gets its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()
