"""Milliseconds of an update under several optimizers, precisions and batches: `python -m bench.device --out DIR`.

All in one process, one after another: each setting is built anew, takes twelve updates first (kernels are chosen, SOAP
sets up its bases), then twenty that count, each waited for. Meant for a GPU, where the crops are cut too; needs no
images. Writes device.csv, a row as soon as it is measured; what does not fit into `--seconds` is left out.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from regicomp.utils import cli

cli.quiet_libraries()

import torch  # noqa: E402

from bench.rows import Setting, example_loop, our_loop  # noqa: E402

SKIPPED, COUNTED = 12, 20
COLUMNS = ("backbone", "loop", "optimizer", "precision", "batch", "crop", "mean_ms", "median_ms", "peak_gib")
_VARIABLE = ("rate=variable", "optimizer.lr=1.0e-4")


class Case(NamedTuple):
    """One row."""

    setting: Setting
    loop: str  # example, plain or regularized
    overrides: tuple[str, ...] = ()


def cases(size: str) -> Iterator[Case]:
    """The hyperprior at variable rate in several ways, then the other backbones under SOAP."""
    usual = Setting("hyperprior", "bf16", 16, 256, size, optimizer="soap")
    adam = usual._replace(optimizer="adam")
    yield Case(usual, "plain", _VARIABLE)
    yield Case(usual, "regularized", _VARIABLE)
    for backbone in ("hyperprior", "elic", "mlicpp"):
        yield Case(usual._replace(backbone=backbone), "regularized, replayed", (*_VARIABLE, "cuda_graph=true"))
    yield Case(usual, "plain, new bases every 20", (*_VARIABLE, "optimizer.every=20"))
    yield Case(usual._replace(optimizer="muon"), "plain", _VARIABLE)
    for precision in ("bf16", "float32", "tf32"):
        yield Case(adam._replace(precision=precision), "plain", _VARIABLE)
    yield Case(usual._replace(batch=32), "plain", _VARIABLE)
    yield Case(adam._replace(precision="tf32"), "example")
    for backbone in ("elic", "mlicpp", "autoregressive", "attention"):
        for loop in ("plain", "regularized"):
            yield Case(usual._replace(backbone=backbone, batch=8), loop, ("optimizer.lr=1.0e-4",))
    yield Case(adam, "plain, compiled", (*_VARIABLE, "compile=true"))


def measure(case: Case, skipped: int = SKIPPED, counted: int = COUNTED) -> dict[str, str]:
    """The row of one case; the peak is the GPU's memory, and left out without one."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    if case.loop == "example":
        run = example_loop(case.setting)
    else:
        alpha = "reg.alpha=0.1" if case.loop.startswith("regularized") else "reg.alpha=0"
        run = our_loop(case.setting, alpha, *case.overrides)
    milliseconds = [1e3 * s for s in run(skipped + counted)[skipped:]]
    return {
        **{name: str(getattr(case.setting, name)) for name in ("backbone", "optimizer", "precision", "batch", "crop")},
        "loop": case.loop,
        "mean_ms": f"{statistics.mean(milliseconds):.1f}",
        "median_ms": f"{statistics.median(milliseconds):.1f}",
        "peak_gib": f"{torch.cuda.max_memory_allocated() / 2**30:.2f}" if on_gpu else "",
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder of device.csv")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--size", default="paper")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with (arguments.out / "device.csv").open("w", newline="") as file:
        table = csv.DictWriter[str](file, COLUMNS)
        table.writeheader()
        for case in cases(arguments.size):
            if time.monotonic() - started > arguments.seconds:
                print("out of time", file=sys.stderr)
                break
            row = measure(case)
            table.writerow(row)
            file.flush()
            print(row, flush=True)


if __name__ == "__main__":
    main()
