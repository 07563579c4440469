"""A long training run watched from outside: `make soak` (MINUTES=120 by default).

Once a minute the training process's memory and updates per second are noted, and every checkpoint is loaded once. It
fails if memory grows by more than 5 % after the first part, if the rate of the last quarter is below 80 % of that of
the second, or if a checkpoint cannot be read.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))

from regicomp import checkpointing

_SETTLING = 10 / 120  # of the time: caches fill, the allocator grows


class Sample(NamedTuple):
    """What was seen at one moment."""

    minute: float
    step: int
    resident_mb: float
    checkpoints: int  # loaded so far


def _command(run: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "regicomp.train", "size=tiny", "data.crop=64", "data.batch_size=2", "data.images=4"),
        *("precision=float32", "logger=csv", "trainer.max_steps=10000000", "trainer.checkpoint_every=50"),
        *("trainer.log_every=10", "reg.warmup_steps=100", f"hydra.run.dir={run}"),
    ]


def _last_step(run: Path) -> int:
    path = run / "metrics.csv"
    lines = path.read_text().splitlines() if path.exists() else []
    return int(lines[-1].split(",")[0]) if len(lines) > 1 else 0


def _load_new(run: Path, seen: set[str]) -> None:
    for path in (run / "checkpoints").glob("step-*.ckpt"):
        if path.name not in seen:
            with contextlib.suppress(FileNotFoundError):
                if path.exists():
                    checkpointing.read(path)
                    seen.add(path.name)


def soak(run: Path, minutes: float, every: float = 60) -> list[Sample]:
    """Train for so many minutes; a sample each `every` seconds."""
    samples: list[Sample] = []
    seen: set[str] = set()
    with (run.parent / "soak.log").open("w") as output:
        process = subprocess.Popen(_command(run), stdout=output, stderr=subprocess.STDOUT)
        try:
            watched = psutil.Process(process.pid)
            while not _last_step(run) and process.poll() is None:
                time.sleep(0.2)
            started = time.monotonic()
            while (now := time.monotonic() - started) < 60 * minutes and process.poll() is None:
                if now >= every * len(samples):
                    memory = watched.memory_info().rss / 1e6
                    samples.append(Sample(now / 60, _last_step(run), memory, len(seen)))
                    print(
                        f"minute {now / 60:6.1f}: update {samples[-1].step}, {memory:.1f} MB, "
                        f"{len(seen)} checkpoints loaded",
                        flush=True,
                    )
                _load_new(run, seen)
                time.sleep(0.5)
            if process.poll() is not None:
                raise RuntimeError(f"the run ended by itself with status {process.returncode}: see {output.name}")
        finally:
            process.terminate()
            process.wait(60)
    return samples


def verdict(samples: list[Sample]) -> list[str]:
    """What was measured, and what is wrong, if anything; lines that begin with `FAILED` are failures."""
    settled = [s for s in samples if s.minute >= _SETTLING * samples[-1].minute]
    growth = settled[-1].resident_mb / settled[0].resident_mb - 1
    peak = max(s.resident_mb for s in settled) / settled[0].resident_mb - 1
    rates = [(b.step - a.step) / (b.minute - a.minute) / 60 for a, b in pairwise(settled)]
    quarter = max(1, len(rates) // 4)
    early, late = statistics.median(rates[:quarter]), statistics.median(rates[-quarter:])
    return [
        f"{samples[-1].minute:.1f} minutes, {samples[-1].step} updates, {samples[-1].checkpoints} checkpoints loaded",
        f"{'FAILED ' if peak > 0.05 else ''}memory: {settled[0].resident_mb:.1f} MB after settling, "
        f"{100 * growth:+.1f} % at the end, {100 * peak:+.1f} % at most",
        f"{'FAILED ' if late < 0.8 * early else ''}updates per second: {early:.2f} in the first quarter, "
        f"{late:.2f} in the last",
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--every", type=float, default=60, help="seconds between samples")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        lines = verdict(soak(folder / "run", given.minutes, given.every))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(lines))
    raise SystemExit(any(line.startswith("FAILED") for line in lines))


if __name__ == "__main__":
    main()
