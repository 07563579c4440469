"""Faults of what surrounds a run: no network for W&B, a tiny /dev/shm, a home folder that cannot be written."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import harness
import injections
from benches import Bench, Row
from harness import TinySweep
from storage import fill, small_disk

_SLOWEST = 60.0  # seconds that a run without a network may take longer than twice one that is offline from the start


def no_network(bench: Bench, tries: int) -> Row:
    """W&B is to be online and reaches nobody: a line of warning, the run is logged offline and not delayed."""
    survived = 0
    started = time.monotonic()
    harness.finish(bench.tiny("undelayed"), "logger.wandb=true")  # offline, with W&B's import, long on a busy machine
    usual = time.monotonic() - started
    for k in range(tries):
        tiny = bench.tiny(f"no-network{k}")
        started = time.monotonic()
        said = harness.finish(tiny, "logger.wandb=true", before=injections.no_network)
        in_time = time.monotonic() - started < 2 * usual + _SLOWEST
        told = said.count("W&B cannot be reached; the run is logged offline") == 1 and "Traceback" not in said
        offline = list(tiny.run.glob("wandb/offline-run-*/*.wandb"))
        survived += in_time and told and bool(offline) and not harness.differences(tiny.run, bench.reference)
    return Row("W&B without a network", tries, survived, "one line of warning, logged offline, no delay; the same bits")


def unwritable_home(bench: Bench, tries: int) -> Row:
    """The home folder cannot be written, with W&B and without: the run needs nothing there."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"no-home{k}")
        said = harness.finish(tiny, f"logger.wandb={str(k % 2 == 0).lower()}", before=injections.unwritable_home)
        survived += "Traceback" not in said and not harness.differences(tiny.run, bench.reference)
    return Row("a home folder that cannot be written", tries, survived, "the run ends as ever; the same bits")


def tiny_shm(bench: Bench, tries: int) -> Row:
    """/dev/shm is too small for the data workers, for their locks or for the first batches."""
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"]
    name = "a tiny /dev/shm, with data workers"
    try:
        mounted = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        return Row(name, 0, 0, "not tried: no tmpfs can be mounted here")
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"shm{k}")
        before = (injections.shm_of_64_kib, injections.shm_of_4_kib)[k % 2]
        process = harness.start(tiny, "data.workers=2", before=before)
        status, said = process.wait(), process.said()
        told = said.count("error: ") == 1 and "data.workers=0" in said and "Traceback" not in said
        harness.finish(tiny, before=before)
        survived += status == 2 and told and not harness.differences(tiny.run, bench.reference)
    return Row(name, tries, survived, "one line, exit 2; with data.workers=0 the same bits")


def full_disk_in_a_sweep(bench: Bench, tries: int) -> Row:
    """The disk is full in a sweep's first run: one line, and the other runs are not tried."""
    survived = 0
    for k in range(tries):
        with small_disk(bench.root / f"full-sweep{k}", 256 << 20) as disk:
            if disk is None:
                return Row("full disk in a sweep", 0, 0, "not tried: no tmpfs can be mounted here")
            sweep = TinySweep(disk / "sweep", bench.images)
            ballast: Path = fill(disk, 6 << 20)
            process = harness.start(sweep)
            status, said = process.wait(), process.said()
            alone = sorted(path.name for path in sweep.run.iterdir() if path.is_dir())
            told = said.count("No space left on device") == said.count("the sweep ends") == 1
            ballast.unlink()
            harness.finish(sweep)
            quiet = "Traceback" not in said and "Logging error" not in said
            survived += status == 2 and told and quiet and len(alone) == 1 and len(sweep.runs()) == 4
    return Row("full disk in a sweep", tries, survived, "one line, exit 2, no other run tried; with room it goes on")
