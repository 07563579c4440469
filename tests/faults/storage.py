"""Faults of storage: full disks, flipped bytes, files that vanish."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import harness
import injections
from benches import AFTER_TRAINING, Bench, Row, finite
from harness import Tiny

from regicomp.training import checkpoint_file, checkpointing


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


def fill(folder: Path, free: int) -> Path:
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
            ballast = fill(disk, free + k * 4096)
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
    identity = checkpoint_file.read(before)["regicomp"]
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
    """A tenth of the training folder vanishes during the run: each file that is missed is named once and counted."""
    survived = 0
    for k in range(tries):
        folder = _photographs(bench, f"photographs{k}")
        more = (f"data.train_dir={folder}", "data.cache=false", "data.batch_size=4", f"seed={k}")
        said = harness.finish(bench.tiny(f"files-lost{k}"), *more, before=injections.files_lost)
        names = [path.name for path in folder.with_name(f"{folder.name}-lost").iterdir()]
        named = len(names) == _FILES // 10 and all(said.count(f"{folder / name}") == 1 for name in names)
        counted = f"{len(names)} of {_FILES} training images could not be read during the run" in said
        whole = len((bench.root / f"files-lost{k}" / "metrics.csv").read_text().splitlines()) == harness.STEPS + 1
        survived += named and counted and whole and finite(bench.root / f"files-lost{k}")
    return Row(
        "a data folder losing a tenth of its files during the run",
        tries,
        survived,
        "each named once, counted, replaced",
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
