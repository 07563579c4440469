"""Sweeps (`python -m regicomp.train -m …`): folders named by settings, failures kept apart, a summary at the end.

A sweep started again goes on where it was: each run's folder follows from its overrides alone, a finished record is
reported and not repeated, a half-finished run resumes, and a failed one is tried again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table

from regicomp.distributed import environment
from regicomp.launch import hydra_job, run_lock, signals
from regicomp.utils import files
from regicomp.utils.cli import spell

log = logging.getLogger(__name__)

ERROR_FILE = "error.txt"
PLAN_FILE = "plan.json"
_NO_RUN_CAN_BE_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def size(overrides: list[str], params: Mapping[str, Any] | None = None) -> int:
    """Number of runs in a sweep, from its command line and the sweeper's own `params` (experiments have them)."""
    listed = [f"{key}={value}" for key, value in (params or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*listed, *overrides])
    # Of a setting named twice the later counts: the command line's, as the sweeper has it.
    counts = {o.get_key_element(): len(list(o.sweep_string_iterator())) if o.is_sweep_override() else 1 for o in parsed}
    return math.prod(counts.values())


@contextlib.contextmanager
def kept_apart(cfg: DictConfig, run_dir: Path) -> Iterator[None]:
    """Write a run's failure to its folder instead of letting it end the sweep.

    Nothing is written to a folder that another process uses. Only what stops the process itself (an interrupt, a
    request to stop and be started again) gets through, and a disk on which no other run could be written either.

    Raises:
        SystemExit: with status 2, if the disk is full or can only be read.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_RUN_CAN_BE_WRITTEN:
            told = (
                "the sweep ends, since no other run could be written either; with room again the same command goes on"
            )
            print(f"error: {error}; {told}", file=sys.stderr, flush=True)
            raise SystemExit(2) from error
        line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        log.error("this run failed, the sweep goes on: %s", line)
        with contextlib.suppress(run_lock.InUse), run_lock.sole_user(run_dir):
            hydra_job.write_composed(cfg, run_dir)
            files.write_bytes(run_dir / ERROR_FILE, f"{line}\n\n{traceback.format_exc()}".encode())


@contextlib.contextmanager
def begun(cfg: DictConfig, run_dir: Path) -> Iterator[None]:
    """Within, no other process uses the run's folder; what is run is written there, an earlier failure is forgotten.

    Raises:
        InUse: another process uses it.
    """
    with run_lock.sole_user(run_dir):
        if environment.is_first():
            hydra_job.write_composed(cfg, run_dir)
            (run_dir / ERROR_FILE).unlink(missing_ok=True)
        yield


class Outcome(NamedTuple):
    """The state of one run of a sweep."""

    name: str  # of its folder
    state: str  # "finished", "failed" or "unfinished"
    error: str = ""


def outcomes(sweep_dir: Path) -> list[Outcome]:
    """The state of every run in a sweep's folder, by name."""
    found: list[Outcome] = []
    for hydra_dir in sorted(sweep_dir.rglob(".hydra")):  # which both `begin` and `kept_apart` write
        run_dir = hydra_dir.parent
        name = run_dir.relative_to(sweep_dir).as_posix()
        if (run_dir / ERROR_FILE).exists():
            found.append(Outcome(name, "failed", (run_dir / ERROR_FILE).read_text().partition("\n")[0]))
        else:
            found.append(Outcome(name, "finished" if (run_dir / "results.json").exists() else "unfinished"))
    return found


class SweepProgress(Callback):
    """Reports which run of how many starts and the time left; at the end a table, and status 1 if any failed."""

    def __init__(self) -> None:
        self._runs = 0
        self._started = 0.0  # by the wall clock, as files are dated

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Count the runs."""
        sweeper = config.hydra.sweeper
        searched = sweeper.get("n_trials")  # by Optuna
        self._runs = searched or size(list(config.hydra.overrides.task), sweeper.get("params"))
        self._started = time.time()
        if not str(config.hydra.launcher.get("_target_")).endswith("BasicLauncher"):
            signals.leave_sweep_on_interrupt()
        print(f"sweep of {self._runs} runs in {config.hydra.sweep.dir}", flush=True)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Report the progress of the sweep (launchers that run jobs elsewhere give no such line).

        joblib's processes each have a copy of this object from the sweep's beginning, so nothing is counted in it: the
        runs that ended since then are those whose files are younger. Those that were finished before take no time.
        """
        if not self._runs:
            return
        number = config.hydra.job.num
        line = f"run {number + 1} of {self._runs}: {config.hydra.job.override_dirname}"
        at_once = max(1, int(config.hydra.launcher.get("n_jobs", 1)))
        if ended := _ended_since(Path(config.hydra.sweep.dir), self._started):
            of_a_run = (time.time() - self._started) / max(1.0, ended / at_once)
            left = of_a_run * math.ceil((self._runs - number) / at_once)
            line += f" (about {spell(max(0.0, left))} left in all)"
        print(line, flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table of outcomes.

        Raises:
            SystemExit: with status 1, if a run failed or is not finished.
        """
        found = outcomes(Path(config.hydra.sweep.dir))
        failed = [outcome for outcome in found if outcome.state == "failed"]
        unfinished = [outcome for outcome in found if outcome.state == "unfinished" and not config.plan]
        table = Table(title=f"{config.hydra.sweep.dir}: {len(found)} runs, {len(failed)} failed")
        for column in ("run", "state", "error"):
            table.add_column(column, overflow="fold")
        for outcome in found:
            table.add_row(*outcome)
        Console(width=None if Console().is_terminal else 140).print(table)
        if unfinished:
            print(f"{len(unfinished)} runs are not finished: another process may be at them", flush=True)
        if failed:
            print("the same command tries the failed runs again and skips the finished ones", flush=True)
        if failed or unfinished:
            raise SystemExit(1)


def _ended_since(sweep_dir: Path, started: float) -> int:
    """Number of runs that finished or failed since a time."""
    files_ = [path for name in ("results.json", ERROR_FILE) for path in sweep_dir.rglob(name)]
    return sum(path.stat().st_mtime >= started for path in files_)


class SweepTotal(Callback):
    """After `plan=true` of a sweep: the sum over its runs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print it."""
        if not config.plan:
            return
        plans = [json.loads(path.read_text()) for path in Path(config.hydra.sweep.dir).rglob(PLAN_FILE)]
        seconds = sum(plan["seconds"] for plan in plans)
        pflops = sum(plan["pflops"] for plan in plans)
        print(
            f"plan of {len(plans)} runs: {pflops:.3f} PFLOP, training takes about {spell(seconds)} one by one",
            flush=True,
        )


def resuming(cfg: DictConfig) -> DictConfig:
    """The configuration of a run of a sweep: it always goes on from what its folder holds."""
    if cfg.ckpt is None:
        with open_dict(cfg):
            cfg.ckpt = "last"
    return cfg
