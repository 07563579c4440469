"""A long training run watched from outside: `make soak` (MINUTES=120 by default).

Once a minute the training process's memory, its updates and the processor seconds that they took are noted, and every
checkpoint is loaded once. It fails if memory grows by more than 5 % after the first 10 minutes, if an update of the
last quarter takes over 1.1 times the processor seconds of one of the second, if a checkpoint cannot be read, or if the
run ends by itself. Speed is judged by processor seconds, of the process with all its threads (which wait without
spinning): other programs on the machine change them little, while seconds say how busy it was.

Every sample is appended to LOG at once, and the table is made anew from it: a soak that is ended early, by SIGINT or
SIGTERM too, is reported as far as it went. `--report LOG` makes the table of a log alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import psutil

from regicomp.utils import files

_SETTLING = 10.0  # minutes: caches fill, the allocator grows; of a shorter soak a twelfth
_GROWTH, _SLOWING = 0.05, 0.10
_CHECKPOINT_EVERY = 50  # updates


class Sample(NamedTuple):
    """One sample of a process's memory and progress."""

    minute: float
    step: int
    processor_seconds: float  # of the training process since it began, all threads
    resident_mb: float
    checkpoints: int  # loaded so far
    load: float  # of the machine, the last minute's average


def _command(run: Path) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "regicomp.train",
            "size=tiny",
            "optimizer=adam",
            "data.crop=64",
            "data.batch_size=2",
            "data.images=4",
        ),
        *("precision=float32", "logger=csv", "trainer.max_steps=10000000"),
        *(
            f"trainer.checkpoint_every={_CHECKPOINT_EVERY}",
            "trainer.log_every_n_steps=10",
            "reg.warmup_steps=100",
            f"hydra.run.dir={run}",
        ),
    ]


def _last_step(run: Path) -> int:
    path = run / "metrics.csv"
    lines = path.read_text().splitlines() if path.exists() else []
    return int(lines[-1].split(",")[0]) if len(lines) > 1 else 0


def _load_new(run: Path, seen: set[str]) -> None:
    """Load the checkpoints that are new; one that the run removes meanwhile is not counted.

    Raises:
        ValueError: one cannot be read.
    """
    from regicomp.training import checkpoint_file

    for path in (run / "checkpoints").glob("step-*.ckpt"):
        if path.name in seen:
            continue
        try:
            checkpoint_file.read(path)
        except (ValueError, FileNotFoundError):
            if path.exists():
                raise
            continue
        seen.add(path.name)


def _sample(watched: psutil.Process, run: Path, minute: float, loaded: int) -> Sample:
    times = watched.cpu_times()
    memory = watched.memory_info().rss / 1e6
    return Sample(minute, _last_step(run), times.user + times.system, memory, loaded, os.getloadavg()[0])


def soak(run: Path, minutes: float, every: float, log: Path) -> None:
    """Train for so many minutes; a sample each `every` seconds, appended to `log`.

    Raises:
        RuntimeError: the run ended by itself.
        ValueError: a checkpoint cannot be read.
    """
    seen: set[str] = set()
    samples = 0
    with (run.parent / "soak.out").open("w") as output, log.open("w", encoding="utf-8") as written:
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.Popen(_command(run), stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            watched = psutil.Process(process.pid)
            while not _last_step(run) and process.poll() is None:
                time.sleep(0.2)
            started = time.monotonic()
            while (now := time.monotonic() - started) < 60 * minutes and process.poll() is None:
                if now >= every * samples:
                    sample = _sample(watched, run, now / 60, len(seen))
                    samples += 1
                    written.write(json.dumps(sample._asdict()) + "\n")
                    written.flush()
                    print(_line(sample), flush=True)
                _load_new(run, seen)
                time.sleep(0.5)
            if process.poll() is not None:
                said = Path(output.name).read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the run ended by itself with status {process.returncode}: {said}")
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _line(sample: Sample) -> str:
    return (
        f"minute {sample.minute:6.1f}: update {sample.step}, {sample.processor_seconds:.1f} processor seconds, "
        f"{sample.resident_mb:.1f} MB, {sample.checkpoints} checkpoints loaded, load {sample.load:.1f}"
    )


class Part(NamedTuple):
    """A quarter of the time after settling."""

    minutes: tuple[float, float]
    updates: int
    processor_seconds: float  # an update
    seconds: float  # an update
    resident_mb: float  # at most


def quarters(samples: list[Sample]) -> list[Part]:
    """The samples after settling in four parts of equal length; fewer where samples are few."""
    settled = _settled(samples)
    count = min(4, len(settled) - 1)
    ends = [round(k * (len(settled) - 1) / count) for k in range(count + 1)] if count > 0 else []
    parts: list[Part] = []
    for first, last in pairwise(ends):
        a, b = settled[first], settled[last]
        updates = b.step - a.step
        if updates:
            processor, wall = (
                (b.processor_seconds - a.processor_seconds) / updates,
                60 * (b.minute - a.minute) / updates,
            )
            most = max(s.resident_mb for s in settled[first : last + 1])
            parts.append(Part((a.minute, b.minute), updates, processor, wall, most))
    return parts


def _settled(samples: list[Sample]) -> list[Sample]:
    after = min(_SETTLING, samples[-1].minute / 12)
    return [s for s in samples if s.minute >= after]


def verdict(samples: list[Sample]) -> list[str]:
    """Lines of measurements and of failures; those that begin with `FAILED` are failures."""
    settled, parts = _settled(samples), quarters(samples)
    last = samples[-1]
    written = last.step // _CHECKPOINT_EVERY
    lines = [
        f"{last.minute:.1f} minutes, {last.step} updates, {last.checkpoints} of about {written} checkpoints loaded"
    ]
    if len(parts) < 2:
        return [*lines, "FAILED too few samples to judge anything"]
    growth = [s.resident_mb / settled[0].resident_mb - 1 for s in settled]
    lines.append(
        f"{'FAILED ' if max(growth) > _GROWTH else ''}memory: {settled[0].resident_mb:.1f} MB after "
        f"{settled[0].minute:.1f} minutes, {100 * growth[-1]:+.1f} % at the end, {100 * max(growth):+.1f} % at most"
    )
    early, late = parts[len(parts) // 2 - 1], parts[-1]
    slowing = late.processor_seconds / early.processor_seconds - 1
    lines.append(
        f"{'FAILED ' if slowing > _SLOWING else ''}processor seconds an update: {early.processor_seconds:.4f} in the "
        f"second quarter, {late.processor_seconds:.4f} in the last ({100 * slowing:+.1f} %); "
        f"seconds: {early.seconds:.4f} and {late.seconds:.4f}"
    )
    busy = [s.load for s in settled]
    return [*lines, f"load of the machine: median {statistics.median(busy):.1f}, at most {max(busy):.1f}"]


def table(samples: list[Sample], failure: str = "") -> str:
    """The report in Markdown."""
    rows = [
        f"| {p.minutes[0]:.0f} to {p.minutes[1]:.0f} | {p.updates} | {p.processor_seconds:.4f} | {p.seconds:.4f} | "
        f"{1 / p.seconds:.2f} | {p.resident_mb:.1f} |"
        for p in quarters(samples)
    ]
    said = verdict(samples) + ([f"FAILED {failure}"] if failure else [])
    lines = [
        f"# Soak, {date.today()}",
        "",
        f"`{' '.join(['python', *_command(Path('RUN'))[1:]])}`, {platform.machine()}, {os.cpu_count()} processors.",
        "",
        "| minutes | updates | processor s an update | s an update | updates a s | memory at most, MB |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {line}" for line in said),
    ]
    return "\n".join(lines) + "\n"


def read(log: Path) -> list[Sample]:
    """The samples of a log."""
    return [Sample(**json.loads(line)) for line in log.read_text(encoding="utf-8").splitlines()]


def _ended(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--every", type=float, default=60, help="seconds between samples (60)")
    parser.add_argument("--out", type=Path, default=Path("outputs/soak.md"), help="the table; LOG is beside it, .jsonl")
    parser.add_argument("--report", type=Path, default=None, metavar="LOG", help="make the table of this log alone")
    given = parser.parse_args()
    log = given.report or given.out.with_suffix(".jsonl")
    failure = ""
    if given.report is None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ended)
        folder = Path(tempfile.mkdtemp(prefix="soak-"))
        try:
            with contextlib.suppress(KeyboardInterrupt):
                soak(folder / "run", given.minutes, given.every, log)
        except (RuntimeError, ValueError) as error:
            failure = " ".join(str(error).split())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    samples = read(log)
    if not samples:
        raise SystemExit(f"FAILED no samples {failure}")
    text = table(samples, failure)
    files.write_bytes(given.out, text.encode())
    print(text)
    raise SystemExit("\n- FAILED" in text)


if __name__ == "__main__":
    main()
