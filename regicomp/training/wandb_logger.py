"""Weights & Biases: grouped runs, the record's own metric names, RD curves and pictures as panels, artifacts."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from regicomp.evaluation.record import points, strength
from regicomp.utils import files

log = logging.getLogger(__name__)

_SUMMARIZED = ("bpp", "bpp_estimated", "psnr_db", "ms_ssim", "ms_ssim_db", "source_bpp")
_IMAGE_COLUMNS = ("name", "width", "height", "bytes", "bpp", "bpp_estimated", "psnr_db", "ms_ssim", "source_bpp")


_INIT_SECONDS = 7  # for the first answer of W&B's server; the run trains offline from then on
_FINISH_SECONDS = 60  # for the rest to be sent at the end; what is left, `wandb sync` sends
_SEND_LATER = "`wandb sync RUN/wandb/offline-run-*` sends it later"


@contextlib.contextmanager
def _never_stops(what: str) -> Iterator[None]:
    """Within, whatever W&B raises is one line of warning: the run and its record do not depend on it."""
    try:
        yield
    except Exception as error:
        log.warning("W&B: %s failed, and the run goes on: %s", what, " ".join(str(error).split())[:300])


class UpdatesLogger(WandbLogger):
    """Lightning's W&B logger, which the run outlives whatever happens to W&B."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row of metrics at an update."""
        with _never_stops("logging"):
            super().log_metrics(metrics, step)

    def log_hyperparams(self, params: Any) -> None:
        """Nothing: the run was given the whole configuration when it began."""


def _mode(wandb: Any) -> str:
    """How W&B is to run: as WANDB_MODE says, else online where W&B itself finds a key for the host that is meant."""
    asked = os.environ.get("WANDB_MODE")
    if asked not in (None, "online"):
        return str(asked)
    if wandb.login(prompt=False, verify=False):
        return "online"
    if asked == "online":
        log.warning("W&B: `WANDB_MODE` is online, but there is no key; the run is logged offline, and %s", _SEND_LATER)
    return "offline"


def title(about: Mapping[str, Any]) -> str:
    """A run's name in W&B, from the record's entry `run`: "elic λ=0.0067 α=0.1 seed=0"."""
    rate = f"λ={about['lmbda']:g}" if "lmbda" in about else "variable rate"
    return f"{about['backbone']} {rate} α={about['alpha']:g} seed={about['seed']}"


def start(
    run_dir: Path, project: str, config: dict[str, Any], about: Mapping[str, Any], sweep: str | None = None
) -> UpdatesLogger | None:
    """W&B beside the record; a resumed run goes on under the same id. Never asks for a key.

    Without a network, with a key that is none, or where it fails otherwise, the run is logged offline after a line of
    warning, within 10 seconds.

    Args:
        run_dir: where the offline run is written (`wandb sync RUN/wandb/offline-run-*` sends it later).
        project: W&B project.
        config: the run's whole configuration.
        about: the record's entry `run`, which names the run and its tags.
        sweep: its name; runs of one sweep are shown together, others by their backbone.

    Returns:
        The logger; None where W&B cannot even run offline.
    """
    with _never_stops("starting"):
        _use_writable_folders(run_dir)
        import wandb

        identifier = run_dir / "wandb_id"
        if not identifier.exists():
            files.write_bytes(identifier, secrets.token_hex(4).encode())
        told = {
            "id": identifier.read_text().strip(),
            "name": title(about) if sweep is None else run_dir.name,
            "group": sweep or about["backbone"],
            "job_type": "train",
            "tags": [str(about[key]) for key in ("backbone", "source", "distortion", "size") if about.get(key)],
            "project": project,
            "dir": str(run_dir),
            "config": config,
        }
        try:
            mode = _mode(wandb)
            run = _init(wandb, told, mode)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            log.warning("W&B cannot be reached; the run is logged offline, and %s (%s)", _SEND_LATER, reason)
            wandb.teardown()  # else the run's id counts as in use
            run = _init(wandb, told, "offline")
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return UpdatesLogger(experiment=run)
    return None


def _init(wandb: Any, told: dict[str, Any], mode: str) -> Any:
    seconds = float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_SECONDS))
    settings = wandb.Settings(silent=True, console="off", init_timeout=seconds, finish_timeout=_FINISH_SECONDS)
    return wandb.init(**told, mode=mode, resume="allow" if mode == "online" else None, settings=settings)


def _use_writable_folders(run_dir: Path) -> None:
    """Where the home folder cannot be written, W&B keeps its cache in the run's directory."""
    if not os.access(Path("~").expanduser(), os.W_OK):
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            os.environ.setdefault(name, str((run_dir / "wandb" / "home").resolve()))


def log_record(run_dir: Path, record: dict[str, Any], curves: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Add a measured run's figures to this process's W&B run; does nothing where there is none.

    Summary metrics are `<test set>/<metric>` with the record's names (`<test set>/quality 1/<metric>` and so on where
    the rate is variable); panels are a table of the images, the run's point
    among the classical codecs' RD curves, and summary.png; the artifact holds record, configuration and codec.

    Args:
        run_dir: holds results.json, summary.png, codec.safetensors and .hydra/.
        record: the run's record.
        curves: by test set, the classical codecs' points by name.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    with _never_stops("adding the record"):
        _log_record(wandb, run_dir, record, curves)


def _log_record(wandb: Any, run_dir: Path, record: dict[str, Any], curves: Any) -> None:
    run = wandb.run
    label = f"{record['run']['backbone']}, {strength(record['run'])}"
    panels: dict[str, Any] = {"summary": wandb.Image(str(run_dir / "summary.png"))}
    measured = points(record)
    for testset in measured[0].testsets:
        rows: list[list[Any]] = []
        own: list[list[Any]] = []
        for point in measured:
            entry = point.testsets[testset]
            name = testset if len(measured) == 1 else f"{testset}/quality {point.quality:g}"
            for metric in _SUMMARIZED:
                if entry[metric] is not None:
                    run.summary[f"{name}/{metric}"] = entry[metric]
            rows += [[image[column] for column in _IMAGE_COLUMNS] for image in entry["images"]]
            own.append([label, entry["bpp"], entry["psnr_db"]])
        panels[f"{testset}/images"] = wandb.Table(columns=list(_IMAGE_COLUMNS), data=rows)
        classical = [[name, p["bpp"], p["psnr_db"]] for name, ps in curves.get(testset, {}).items() for p in ps]
        table = wandb.Table(columns=["codec", "bpp", "psnr_db"], data=own + classical)
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
        with _never_stops("finishing"):
            wandb.finish()
