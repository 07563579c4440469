"""Cost of the regularizer at inference: codecs trained with α > 0 against their baselines, trained with α = 0.

`python -m bench.overhead multirun/kodak-tiny [--lmbda 0.025] [--images 2] [--rounds 8]`

For each backbone of a sweep, the run with α > 0 and the one without, of one λ: the names and shapes of weights and the
bytes of files are compared, FLOPs counted, and images encoded and decoded in pairs that take turns. A rate that differs
changes what there is to code; take a λ at which the two are close.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from regicomp.utils import cli

cli.quiet_libraries()

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from bench.coding import Taken, kodak, take  # noqa: E402
from bench.train_step import this_machine  # noqa: E402
from regicomp.data import images  # noqa: E402
from regicomp.evaluation import record  # noqa: E402
from regicomp.evaluation.round_trip import to_tensor  # noqa: E402
from regicomp.image_codec import model_file  # noqa: E402
from regicomp.utils import cli, files  # noqa: E402

RESULTS = Path(__file__).parent / "overhead.json"


class Pair(NamedTuple):
    """Run directories of one backbone and λ."""

    baseline: Path  # α = 0
    regularized: Path


def pairs(sweep: Path, lmbda: float | None) -> dict[str, Pair]:
    """By backbone, the pair of the given λ, or of the largest.

    Raises:
        ValueError: there is none.
    """
    runs: dict[str, dict[float, dict[bool, Path]]] = {}
    for path in sorted(sweep.glob("*/results.json")):
        about = record.read(path)["run"]
        runs.setdefault(about["backbone"], {}).setdefault(about["lmbda"], {})[about["alpha"] > 0] = path.parent
    found: dict[str, Pair] = {}
    for backbone, by_lmbda in runs.items():
        whole = {value: kinds for value, kinds in by_lmbda.items() if len(kinds) == 2 and lmbda in (None, value)}
        if whole:
            kinds = whole[max(whole)]
            found[backbone] = Pair(kinds[False], kinds[True])
    if not found:
        raise ValueError(f"`sweep` (={sweep}) has no backbone with runs of α = 0 and α > 0 at one λ (--lmbda {lmbda})")
    return found


def _gflops(codec: Any, x: Tensor) -> float:
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        codec(x)
    return counted.get_total_flops() / 1e9


def compare(pair: Pair, pixels: list[Tensor], rounds: int) -> dict[str, Any]:
    """Regularized against baseline: what is equal, and medians and quartiles of the paired ratios of processor time."""
    loaded = [model_file.load_codec(folder / "codec.safetensors").network for folder in pair]
    shapes = [{name: tuple(t.shape) for name, t in codec.named_parameters()} for codec in loaded]
    taken: list[tuple[Taken, Taken]] = []
    for codec in loaded:
        take(codec, pixels[0])
    for k in range(rounds):
        for x in pixels:
            order = (0, 1) if k % 2 else (1, 0)
            both = {which: take(loaded[which], x)[0] for which in order}
            taken.append((both[0], both[1]))
    found: dict[str, Any] = {
        "same_parameters": shapes[0] == shapes[1],
        "file_bytes": [(folder / "codec.safetensors").stat().st_size for folder in pair],
        "gflops": [_gflops(codec, pixels[0]) for codec in loaded],
        "bytes": [sum(t[which].bytes for t in taken) // rounds for which in (0, 1)],
    }
    for what in ("encode_cpu", "decode_cpu"):
        ratios = [getattr(after, what) / getattr(before, what) for before, after in taken]
        found[what] = [statistics.median(getattr(t[which], what) for t in taken) for which in (0, 1)]
        found[f"{what}_ratio"] = statistics.median(ratios)
        found[f"{what}_quartiles"] = statistics.quantiles(ratios)[::2]
    return found


def _row(backbone: str, found: dict[str, Any]) -> list[str]:
    cells = [backbone, "yes" if found["same_parameters"] else "NO", "{:,} {:,}".format(*found["file_bytes"])]
    cells += ["{:.3f} {:.3f}".format(*found["gflops"]), "{:,} {:,}".format(*found["bytes"])]
    for what in ("encode_cpu", "decode_cpu"):
        low, high = found[f"{what}_quartiles"]
        cells.append(f"{found[f'{what}_ratio']:.3f} [{low:.3f}, {high:.3f}]")
    return cells


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--lmbda", type=float, help="default: the largest that has both")
    parser.add_argument("--images", type=int, default=2, help="of Kodak's 768×512 ones")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = {**this_machine(), "threads": arguments.threads}
    with cli.told_in_one_line():
        chosen = pairs(arguments.sweep, arguments.lmbda)
        paths = kodak(arguments.images)
        pixels = [to_tensor(images.read(path)) for path in paths]
        table = Table(title="α = 0 and α > 0; ratios of processor time, median and quartiles of the pairs")
        for column in ("backbone", "same weights' names and shapes", "file bytes", "GFLOPs", "stream bytes"):
            table.add_column(column)
        table.add_column("encode")
        table.add_column("decode")
        results: dict[str, Any] = {}
        for backbone, pair in chosen.items():
            results[backbone] = compare(pair, pixels, arguments.rounds)
            table.add_row(*_row(backbone, results[backbone]))
    console = Console(width=150)
    console.print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    console.print(table)
    written = {"machine": machine, "images": [p.name for p in paths], "rounds": arguments.rounds, "backbones": results}
    files.write_bytes(RESULTS, (json.dumps(written, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
