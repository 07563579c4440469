"""Faults done to tiny runs on purpose, and a table of what survived: `make test-faults`.

A try survives if the run, started again where that is needed, ends with the very files of an undisturbed run (or, where
a number was spoilt, with finite weights and the spoilt updates counted). It is lost if results are missing, half
written or different.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import processes
import spoilt
import storage
import surroundings
import torch
from benches import AFTER_TRAINING, Bench, Row, prepare


def everything(bench: Bench, count: int, only: str = "") -> Iterator[Row]:
    """The whole campaign, with `count` kills; or only the faults whose names begin so."""
    few = max(1, count // 50)
    faults: dict[str, Callable[[], Row | list[Row]]] = {
        "two-runs": lambda: processes.two_runs(bench, few),
        "signals": lambda: processes.signals(bench, 2 * few),
        "interrupts": lambda: processes.interrupts(bench, few),
        "group": lambda: processes.group(bench, 2 * few),
        "frozen": lambda: processes.frozen(bench, few),
        "worker-killed": lambda: processes.killed_worker(bench, few),
        "full-disk-checkpoint": lambda: storage.full_disk(bench, "checkpoint", 6 << 20, (), few),
        "full-disk-export": lambda: storage.full_disk(bench, "export", 1 << 17, AFTER_TRAINING, few),
        "full-disk-record": lambda: storage.full_disk(bench, "record", 8 << 20, AFTER_TRAINING, few),
        "full-disk-sweep": lambda: surroundings.full_disk_in_a_sweep(bench, few),
        "no-network": lambda: surroundings.no_network(bench, few),
        "no-home": lambda: surroundings.unwritable_home(bench, 2 * few),
        "tiny-shm": lambda: surroundings.tiny_shm(bench, 2 * few),
        "flipped": lambda: storage.flipped_bytes(bench, count),
        "numbers-skipped": lambda: spoilt.spoilt_numbers(bench),
        "numbers-back": lambda: spoilt.rolled_back(bench),
        "numbers-stop": lambda: spoilt.stopped(bench),
        "numbers-checkpoint": lambda: spoilt.nan_in_checkpoint(bench),
        "clock": lambda: processes.clock(bench),
        "files-lost": lambda: storage.files_lost(bench, few),
        "files-lost-raise": lambda: storage.files_lost_and_found(bench),
        "kills": lambda: processes.kills(bench, count),
        "sweep-kills": lambda: processes.sweep_kills(bench, max(1, count // 10)),
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
