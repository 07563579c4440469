"""Faults done to tiny runs on purpose, and a table of what survived: `make test-faults`.

A try survives if the run, started again where that is needed, ends with the very files of an undisturbed run (or, where
a number was spoilt, with finite weights and the spoilt updates counted). It is lost if results are missing, half
written or different.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import injections
import torch
from harness import Tiny, TinySweep

from regicomp import checkpointing, export, guard


class Row(NamedTuple):
    """One line of the table."""

    fault: str
    tries: int
    survived: int
    note: str

    @property
    def lost(self) -> int:
        """Tries that did not survive."""
        return self.tries - self.survived


class Bench(NamedTuple):
    """Where runs are made, and the undisturbed one they are held against."""

    root: Path
    images: Path
    reference: Path
    random: random.Random

    def tiny(self, name: str) -> Tiny:
        """A run in a new directory."""
        return Tiny(self.root / name, self.images)

    def copy(self, name: str, *without: str) -> Tiny:
        """A copy of the undisturbed run, lacking some files: it was killed before they were written."""
        tiny = self.tiny(name)
        shutil.copytree(self.reference, tiny.run)
        for missing in without:
            (tiny.run / missing).unlink()
        return tiny


def prepare(root: Path, seed: int = 0) -> Bench:
    """Images, and the undisturbed run."""
    images = harness.make_images(root / "images")
    bench = Bench(root, images, root / "reference", random.Random(seed))
    harness.finish(bench.tiny("reference"))
    return bench


AFTER_TRAINING = ("codec.safetensors", "source.safetensors", "summary.png", "results.json")


def kills(bench: Bench, count: int) -> Row:
    """SIGKILL at random moments until `count` have hit; whatever run is then under way is finished and compared."""
    hit, runs, good, kept = 0, 0, 0, True
    length = 3.0  # seconds that an unhindered rest of the run may take; adapted to what is seen
    while hit < count:
        tiny = bench.tiny(f"kills{runs}")
        runs += 1
        step = 0
        while hit < count:
            process = harness.start(tiny)
            started = time.monotonic()
            process.process.join(bench.random.uniform(0.2, 1.2 * length))
            process.signal(signal.SIGKILL)
            status = process.wait()
            if status == 0:
                length = time.monotonic() - started
                break
            if status != -signal.SIGKILL:
                raise RuntimeError(process.said()[-2000:])
            length = min(60.0, max(length, 1.1 * (time.monotonic() - started)))
            hit += 1
            now = harness.newest_step(tiny.run)
            kept = kept and now >= step  # nothing that was stored is gone
            step = now
        harness.finish(tiny)
        good += not harness.differences(tiny.run, bench.reference)
        print(f"  {hit} kills, {runs} runs, {good} of them right", flush=True)
    note = f"{runs} runs with their evaluation; each then equal to the undisturbed one to the bit"
    return Row("SIGKILL at a random moment", count, count if kept and good == runs else 0, note)


def sweep_kills(bench: Bench, count: int) -> Row:
    """SIGKILL of a sweep at random moments until `count` have hit, then one more start: runs and report compared."""
    reference = TinySweep(bench.root / "sweep-reference", bench.images)
    started = time.monotonic()
    harness.finish(reference)
    length = time.monotonic() - started
    expected = harness.report(reference.run, bench.root / "sweep-report-reference")
    hit, sweeps, good, kept = 0, 0, 0, True
    while hit < count:
        sweep = TinySweep(bench.root / f"sweep{sweeps}", bench.images)
        sweeps += 1
        finished: list[str] = []
        while hit < count:
            process = harness.start(sweep)
            process.process.join(bench.random.uniform(0.1, 0.7) * length)
            process.signal(signal.SIGKILL)
            status = process.wait()
            if status == 0:
                break
            if status != -signal.SIGKILL:
                raise RuntimeError(process.said()[-2000:])
            hit += 1
            kept = kept and set(finished) <= set(sweep.runs())
            finished = sweep.runs()
        said = harness.finish(sweep)
        kept = kept and said.count("holds the finished run") >= len(finished)
        same = sweep.runs() == reference.runs() and not any(
            harness.differences(sweep.run / name, reference.run / name, _results_of(reference.run / name))
            for name in reference.runs()
        )
        report = harness.report(sweep.run, bench.root / f"sweep-report{sweeps}")
        good += same and report == expected
        print(f"  {hit} kills, {sweeps} sweeps of {len(reference.runs())} runs, {good} of them right", flush=True)
    note = f"{sweeps} sweeps of {len(reference.runs())} runs; each then, and its report, equal to the undisturbed one's"
    return Row("SIGKILL of a sweep", count, count if kept and good == sweeps else 0, note)


def _results_of(run: Path) -> list[str]:
    """The results that a run has: one without α has no q_θ."""
    return [name for name in harness.RESULTS if (run / name).exists()]


def signals(bench: Bench, tries: int) -> Row:
    """SIGTERM and SIGUSR1 in turn while training: exit 75 with a checkpoint of that very update; then resumed."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"signal{k}")
        process = harness.start(tiny)
        harness.wait_for_rows(tiny, bench.random.randrange(3, harness.STEPS - 4), process)
        process.signal((signal.SIGTERM, signal.SIGUSR1)[k % 2])
        status = process.wait()
        rows = (tiny.run / "metrics.csv").read_text().splitlines()
        at_once = harness.newest_step(tiny.run) == int(rows[-1].split(",")[0])
        harness.finish(tiny)
        survived += status == 75 and at_once and not harness.differences(tiny.run, bench.reference)
    return Row(
        "SIGTERM, SIGUSR1", tries, survived, "exit status 75, checkpoint of that update; resumed to the same bits"
    )


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A tmpfs of `size` bytes at `folder`, or None where it cannot be mounted."""
    folder.mkdir(parents=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder if mount.returncode == 0 else None
    finally:
        if mount.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path, free: int) -> Path:
    """Leave `free` bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while (left := shutil.disk_usage(folder).free - free) > 0:
            file.write(b"0" * min(left, 1 << 20))
            file.flush()
    return ballast


def full_disk(bench: Bench, stage: str, free: int, without: tuple[str, ...], tries: int) -> Row:
    """The disk fills up at a stage: an error in a line, nothing half-written; with room again the run goes on.

    Args:
        free: bytes that are free when the run starts.
        without: what the copy of the undisturbed run lacks that is then gone on with; nothing: a new run.
    """
    inject = injections.disk_full_at_record if stage == "record" else None
    survived = 0
    for k in range(tries):
        with small_disk(bench.root / f"full-{stage}{k}", 48 << 20) as disk:
            if disk is None:
                return Row(f"full disk at {stage}", 0, 0, "not tried: no tmpfs can be mounted here")
            tiny = Tiny(disk / "run", bench.images)
            if without:
                shutil.copytree(bench.copy(f"copy-{stage}{k}", *without).run, tiny.run)
            ballast = _fill(disk, free + k * 4096)
            process = harness.start(tiny, before=inject)
            status = process.wait()
            said = process.said()
            ballast.unlink(missing_ok=True)
            told = status == 2 and f"error: [Errno {errno.ENOSPC}]" in said and "Traceback" not in said
            whole = harness.newest_step(tiny.run) >= 0 and not list(tiny.run.rglob(".*.regicomp.tmp"))
            harness.finish(tiny)
            survived += told and whole and not harness.differences(tiny.run, bench.reference)
    return Row(f"full disk at {stage}", tries, survived, "tmpfs; one line, exit 2; with room again, the same bits")


def flipped_bytes(bench: Bench, tries: int) -> Row:
    """A byte of the newest checkpoint altered, anywhere: it is named and the one before used."""
    tiny = bench.copy("flipped", *AFTER_TRAINING)
    before, newest = sorted((tiny.run / "checkpoints").iterdir())
    content = newest.read_bytes()
    identity = checkpointing.read(before)["regicomp"]
    survived = 0
    for _ in range(tries):
        spoilt = bytearray(content)
        spoilt[bench.random.randrange(len(spoilt))] ^= 1 << bench.random.randrange(8)
        newest.write_bytes(spoilt)
        survived += checkpointing.find("last", newest.parent, identity) == before
    named = newest.name in harness.finish(tiny)
    if not named or harness.differences(tiny.run, bench.reference):
        survived = 0
    return Row("flipped byte in the newest checkpoint", tries, survived, "named, the one before used; the same bits")


def spoilt_numbers(bench: Bench) -> list[Row]:
    """NaN and infinity in the loss and in the gradients of φ and θ."""
    rows: list[Row] = []
    for name, inject in (
        ("NaN in the loss", injections.nan_in_loss),
        ("NaN in the gradient of φ", injections.nan_in_phi),
        ("NaN in the gradient of θ", injections.nan_in_theta),
        ("infinity in the gradient of θ", injections.inf_in_theta),
    ):
        tiny = bench.tiny(inject.__name__)
        said = harness.finish(tiny, before=inject)
        good = _finite(tiny.run) and harness.record(tiny.run)["run"]["skipped_updates"] == 2 and "skipped" in said
        rows.append(Row(f"{name}, 2 updates", 1, int(good), "skipped for both networks, counted, told; weights finite"))
    return rows


def _finite(run: Path) -> bool:
    networks = [
        export.load_codec(run / "codec.safetensors").network,
        export.load_source(run / "source.safetensors").network,
    ]
    return all(bool(torch.isfinite(p).all()) for network in networks for p in network.parameters())


def rolled_back(bench: Bench, whence: tuple[str, ...] = ("update 9", "the start")) -> list[Row]:
    """NaN in every gradient: the run goes back to the last good checkpoint, or to the start."""
    injected = {"update 9": injections.nan_for_long, "the start": injections.nan_from_the_start}
    rows: list[Row] = []
    for name in whence:
        inject = injected[name]
        tiny = bench.tiny(inject.__name__)
        said = harness.finish(tiny, "guard.patience=4", before=inject)
        good = "going back" in said and harness.record(tiny.run)["run"]["rollbacks"] == 1 and _finite(tiny.run)
        rows.append(
            Row(f"NaN in every gradient from {name} on", 1, int(good), "gone back, α and rates halved, finished")
        )
    return rows


def stopped(bench: Bench) -> Row:
    """NaN in every gradient with guard.action=stop: an error in one line, and a checkpoint to go on from."""
    tiny = bench.tiny("stopped")
    process = harness.start(tiny, "guard.patience=4", "guard.action=stop", before=injections.nan_for_long)
    told = process.wait() == 2 and "lower `reg.alpha`" in process.said() and "Traceback" not in process.said()
    usable = guard.is_good(checkpointing.read(max((tiny.run / "checkpoints").iterdir()))["state_dict"])
    return Row("the same with guard.action=stop", 1, int(told and usable), "exit 2, one line; checkpoint good")


def nan_in_checkpoint(bench: Bench) -> Row:
    """A number of the newest checkpoint is NaN, its checksum right: named, and the one before used."""
    tiny = bench.copy("nan-checkpoint", *AFTER_TRAINING)
    newest = max((tiny.run / "checkpoints").iterdir())
    checkpoint = checkpointing.read(newest)
    weight = next(t for n, t in checkpoint["state_dict"].items() if n.endswith("weight"))
    weight[(0,) * weight.ndim] = float("nan")
    checkpointing.write(checkpoint, newest)
    named = newest.name in harness.finish(tiny)
    good = named and not harness.differences(tiny.run, bench.reference)
    return Row("NaN in the newest checkpoint", 1, int(good), "named, the one before used; the same bits")


_FILES = 20


def _photographs(bench: Bench, name: str) -> Path:
    """A folder of `_FILES` pictures."""
    folder = bench.root / name
    folder.mkdir()
    pictures = sorted(bench.images.iterdir())
    for k in range(_FILES):
        shutil.copy(pictures[k % len(pictures)], folder / f"photograph{k:02d}.png")
    return folder


def files_lost(bench: Bench, tries: int) -> Row:
    """A tenth of the training folder vanishes in mid-run: each file that is missed is named once and counted."""
    survived = 0
    for k in range(tries):
        folder = _photographs(bench, f"photographs{k}")
        more = (f"data.train_dir={folder}", "data.cache=false", "data.batch_size=4", f"seed={k}")
        said = harness.finish(bench.tiny(f"files-lost{k}"), *more, before=injections.files_lost)
        names = [path.name for path in folder.with_name(f"{folder.name}-lost").iterdir()]
        named = len(names) == _FILES // 10 and all(said.count(f"{folder / name}") == 1 for name in names)
        counted = f"{len(names)} of {_FILES} training images could not be read in mid-run" in said
        whole = len((bench.root / f"files-lost{k}" / "metrics.csv").read_text().splitlines()) == harness.STEPS + 1
        survived += named and counted and whole and _finite(bench.root / f"files-lost{k}")
    return Row(
        "a data folder losing a tenth of its files in mid-run", tries, survived, "each named once, counted, replaced"
    )


def files_lost_and_found(bench: Bench) -> Row:
    """The same with data.on_error=raise: an error in a line; with the files back, the bits of an undisturbed run."""
    folder = _photographs(bench, "photographs-raise")
    more = (f"data.train_dir={folder}", "data.cache=false", "data.batch_size=4", "data.on_error=raise")
    reference, tiny = bench.tiny("files-there"), bench.tiny("files-lost-raise")
    harness.finish(reference, *more)
    process = harness.start(tiny, *more, before=injections.files_lost)
    status, said = process.wait(), process.said()
    away = sorted(folder.with_name(f"{folder.name}-lost").iterdir())
    told = status == 2 and any(f"error: {folder / path.name}" in said for path in away) and "Traceback" not in said
    for path in away:
        path.rename(folder / path.name)
    harness.finish(tiny, *more)
    good = told and not harness.differences(tiny.run, reference.run)
    return Row(
        "the same with data.on_error=raise", 1, int(good), "exit 2, one line; with the files back, the same bits"
    )


def two_runs(bench: Bench, tries: int) -> Row:
    """A second run is started in the directory of one that trains."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"two{k}")
        first = harness.start(tiny)
        harness.wait_for_rows(tiny, 2, first)
        first.signal(signal.SIGSTOP)  # that it does not end before the second begins
        second = harness.start(tiny)
        refused = second.wait() == 2 and "in use by process" in second.said()
        first.signal(signal.SIGCONT)
        survived += refused and first.wait() == 0 and not harness.differences(tiny.run, bench.reference)
    return Row("two runs in one directory", tries, survived, "the second refused in a line; the first undisturbed")


def clock(bench: Bench) -> Row:
    """The clock goes back an hour at each look, in a run that is killed and resumed; checkpoints' dates reversed."""
    tiny = bench.tiny("clock")
    process = harness.start(tiny, before=injections.clock_backwards)
    harness.wait_for_rows(tiny, 10, process)
    process.signal(signal.SIGKILL)
    process.wait()
    for age, path in enumerate(sorted((tiny.run / "checkpoints").iterdir())):
        os.utime(path, (10**9 - age, 10**9 - age))
    harness.finish(tiny, before=injections.clock_backwards)
    good = not harness.differences(tiny.run, bench.reference)
    return Row("clock going backwards", 1, int(good), "killed and resumed under it; the same bits")


def everything(bench: Bench, count: int, only: str = "") -> Iterator[Row]:
    """The whole campaign, with `count` kills; or only the faults whose names begin so."""
    few = max(1, count // 50)
    faults: dict[str, Callable[[], Row | list[Row]]] = {
        "two-runs": lambda: two_runs(bench, few),
        "signals": lambda: signals(bench, 2 * few),
        "full-disk-checkpoint": lambda: full_disk(bench, "checkpoint", 6 << 20, (), few),
        "full-disk-export": lambda: full_disk(bench, "export", 1 << 17, AFTER_TRAINING, few),
        "full-disk-record": lambda: full_disk(bench, "record", 8 << 20, AFTER_TRAINING, few),
        "flipped": lambda: flipped_bytes(bench, count),
        "numbers-skipped": lambda: spoilt_numbers(bench),
        "numbers-back": lambda: rolled_back(bench),
        "numbers-stop": lambda: stopped(bench),
        "numbers-checkpoint": lambda: nan_in_checkpoint(bench),
        "clock": lambda: clock(bench),
        "files-lost": lambda: files_lost(bench, few),
        "files-lost-raise": lambda: files_lost_and_found(bench),
        "kills": lambda: kills(bench, count),
        "sweep-kills": lambda: sweep_kills(bench, max(1, count // 10)),
    }
    for name, fault in faults.items():
        if name.startswith(only):
            rows = fault()
            yield from rows if isinstance(rows, list) else [rows]


def _table(rows: list[Row], command: str) -> str:
    lines = [
        "# Faults injected, and what survived",
        "",
        f"`{command}`, {date.today()}, {platform.machine()}, {os.cpu_count()} processors, torch {torch.__version__}.",
        "A run survives if it ends, started again where needed, with the very files of an undisturbed run; where",
        "numbers were spoilt, with finite weights and the spoilt updates counted.",
        "",
        "| fault | tries | survived | lost | what happens |",
        "|---|---|---|---|---|",
        *(f"| {r.fault} | {r.tries} | {r.survived} | {r.lost} | {r.note} |" for r in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="faults whose names begin so: kills, signals, full-disk, numbers, …")
    parser.add_argument("--out", type=Path, default=None, help="write the table to this Markdown file too")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root:
        for row in everything(prepare(Path(root), given.seed), given.kills, given.only):
            rows.append(row)
            print(f"{row.fault}: {row.tries} tries, {row.survived} survived, {row.lost} lost ({row.note})", flush=True)
            if given.out is not None:
                command = f"python tests/faults/campaign.py --kills {given.kills} --seed {given.seed}"
                given.out.parent.mkdir(parents=True, exist_ok=True)
                given.out.write_text(_table(rows, command), encoding="utf-8")
    raise SystemExit(1 if any(row.lost for row in rows) else 0)


if __name__ == "__main__":
    main()
