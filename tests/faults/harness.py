"""Tiny runs in processes of their own, forked from one that has imported everything, and how to compare them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import numpy as np
from hydra import compose, initialize_config_dir
from PIL import Image

from regicomp.config import settings
from regicomp.utils import cli

cli.quiet_libraries()

STEPS = 16
EVERY = 4
PATIENCE = 1800.0  # seconds: a run that takes longer hangs, even on a machine that others keep busy


def make_images(folder: Path) -> Path:
    """Three PNG pictures of 72×64 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(3):
        rng = np.random.default_rng(k)
        y, x = np.mgrid[0:64, 0:72]
        waves = [127 + 90 * np.sin(rng.uniform(0.02, 0.2, 2) @ np.stack([x.ravel(), y.ravel()])) for _ in range(3)]
        Image.fromarray(np.stack(waves, -1).reshape(64, 72, 3).astype(np.uint8)).save(folder / f"{k}.png")
    return folder


class Tiny(NamedTuple):
    """A tiny training run: where it is, and what it is trained and tested on."""

    run: Path
    images: Path

    def arguments(self, *more: str) -> list[str]:
        """Its command line."""
        return [
            *(
                "size=tiny",
                "optimizer=adam",
                "data=folder",
                f"data.train_dir={self.images}",
                f"data.test_dirs=[{self.images}]",
            ),
            *("data.crop=64", "data.batch_size=1", "precision=float32", "logger=csv", "reg.warmup_steps=3"),
            *(f"trainer.max_steps={STEPS}", f"trainer.checkpoint_every={EVERY}", "trainer.log_every_n_steps=1"),
            *("ckpt=last", f"hydra.run.dir={self.run}", *more),
        ]


class TinySweep(NamedTuple):
    """A sweep of four tiny runs over λ and α: its folder, and what they are trained and tested on."""

    run: Path
    images: Path

    def arguments(self, *more: str) -> list[str]:
        """Its command line."""
        common = [a for a in Tiny(self.run, self.images).arguments() if not a.startswith(("ckpt=", "hydra.run.dir="))]
        return ["-m", f"hydra.sweep.dir={self.run}", *common, "quality=1,4", "reg.alpha=0,0.1", *more]

    def runs(self) -> list[str]:
        """Names of the runs that have a record."""
        return sorted(path.parent.name for path in self.run.glob("*/results.json"))


def _child(arguments: list[str], output: str, before: Callable[[], None] | None) -> None:
    """In the child: `python -m regicomp.train ARGUMENTS > output 2>&1`."""
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    from regicomp import train
    from regicomp.evaluation import summary_picture
    from regicomp.utils import files

    # The picture takes longer than all else; what is written in its place is written the same way.
    summary_picture.draw = lambda path, *rest: files.write_bytes(path, b"\x89PNG")
    if before is not None:
        before()
    sys.argv = ["regicomp.train", *arguments]
    train.main()


def preload() -> None:
    """Modules that every child needs, imported once."""
    import lightning.pytorch  # noqa: F401

    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        compose("train", overrides=["size=tiny"])


# The fork server finds this module, and so the preload, by the environment alone.
_HERE = Path(__file__).resolve().parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(_HERE), str(_HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["preloaded"])


class Process(NamedTuple):
    """A run under way."""

    process: BaseProcess
    output: Path

    def wait(self, seconds: float = PATIENCE) -> int:
        """Exit status; a negative number is the signal that ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join(10)
            raise TimeoutError(f"a run hung: {self.said()[-1000:]}")
        return self.process.exitcode

    def said(self) -> str:
        """The output of the process."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, number)


def signal_group(process: Process, number: int) -> None:
    """Send a signal to a run (started with `injections.own_group`) and to all of its own processes."""
    if process.process.exitcode is None and process.process.pid is not None:
        os.killpg(process.process.pid, number)


def start(tiny: Tiny | TinySweep, *more: str, before: Callable[[], None] | None = None) -> Process:
    """Start a run; `before` (a module's function) is called in its process first."""
    tiny.run.mkdir(parents=True, exist_ok=True)
    output = tiny.images.parent / f"{tiny.run.name}.{time.monotonic_ns()}.log"
    process = _CONTEXT.Process(target=_child, args=(tiny.arguments(*more), str(output), before))
    process.start()
    return Process(process, output)


def finish(tiny: Tiny | TinySweep, *more: str, before: Callable[[], None] | None = None) -> str:
    """Run to the end; what it printed.

    Raises:
        RuntimeError: it did not end well.
    """
    process = start(tiny, *more, before=before)
    if status := process.wait():
        raise RuntimeError(f"the run ended with status {status}: {process.said()[-2000:]}")
    return process.said()


def wait_for_rows(tiny: Tiny, rows: int, process: Process, seconds: float = PATIENCE) -> None:
    """Until metrics.csv has so many rows, or the process has ended.

    Raises:
        TimeoutError: neither has come.
    """
    deadline = time.monotonic() + seconds
    path = tiny.run / "metrics.csv"
    while time.monotonic() < deadline and process.process.exitcode is None:
        if path.exists() and path.read_text().count("\n") > rows:
            return
        time.sleep(0.01)
    if process.process.exitcode is None:
        raise TimeoutError(f"a run was too slow: {process.said()[-1000:]}")


def record(run: Path) -> dict[str, Any]:
    """results.json without what differs between equal runs: seconds."""
    found = json.loads((run / "results.json").read_text())
    del found["timing"]
    for entry in found["testsets"].values():
        for image in entry["images"]:
            del image["encode_seconds"], image["decode_seconds"]
    return found


RESULTS = ("codec.safetensors", "source.safetensors", "metrics.csv")


def differences(run: Path, reference: Path, names: Iterable[str] = RESULTS) -> list[str]:
    """Which results of a run are missing or differ from an undisturbed run's by a bit."""
    found = [n for n in names if not (run / n).exists() or (run / n).read_bytes() != (reference / n).read_bytes()]
    if not (run / "results.json").exists() or record(run) != record(reference):
        found.append("results.json")
    return found + [str(p.relative_to(run)) for p in run.rglob(".*.regicomp.tmp")]


def report(sweep: Path, out: Path) -> dict[str, Any]:
    """The tables that `regicomp.report` makes of a sweep, without what differs between equal runs: seconds."""
    from regicomp.report import __main__ as command

    with contextlib.redirect_stdout(io.StringIO()):
        command.main([str(sweep), "--out", str(out), "--no-classical", "--images", "0", "--min-span", "0"])
    with (out / "results.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in csv.DictReader(file)]
    return {"results.csv": rows, **{name: (out / name).read_text() for name in ("bd_rate.csv", "bd_rate.md")}}


def newest_step(run: Path) -> int:
    """Update of the newest checkpoint; 0 if there is none. Every checkpoint in sight must be whole.

    Raises:
        ValueError: one is not.
    """
    from regicomp.training import checkpoint_file

    steps = [0]
    for path in (run / "checkpoints").glob("step-*.ckpt"):
        try:
            steps.append(int(checkpoint_file.read(path)["global_step"]))
        except ValueError:
            if path.exists():  # else the run removed it meanwhile
                raise
    return max(steps)
