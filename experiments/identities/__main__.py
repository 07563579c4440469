"""`python -m experiments.identities`: every table and figure of this folder.

Without --codec and --source a small pair is trained first (conf/experiment/identities.yaml) and compared with PNG and
lossless WebP on the photographs that ship; with them, the given pair is, on the given images.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from experiments.identities import figures, games, lossless, tables
from regicomp.utils import cli, files

HERE = Path(__file__).parent
PAIR = Path("outputs/identities/pair")


def _train_pair() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "regicomp.train", "experiment=identities", f"hydra.run.dir={PAIR}", "ckpt=last"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def main(argv: list[str] | None = None) -> None:
    """Entry point.

    Raises:
        ValueError: an argument is out of range, or a file is missing.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="games at a time, one thread each (2)")
    parser.add_argument("--seeds", type=int, default=6, help="of the sweep (6)")
    parser.add_argument("--steps", type=int, default=600, help="codec updates a game (600)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder that everything is written to")
    parser.add_argument("--codec", type=Path, help="codec.safetensors of a run")
    parser.add_argument("--source", type=Path, help="source.safetensors of the same run")
    parser.add_argument("--images", default="photos", help="folder of images, or photos (those that ship)")
    parser.add_argument("--reuse", action="store_true", help="draw from the results.csv that is there")
    args = parser.parse_args(argv)
    for name in ("jobs", "seeds", "steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"`--{name}` (={getattr(args, name)}) must be an integer of at least 1")
    if (args.codec is None) != (args.source is None):
        raise ValueError("`--codec` and `--source` must be given together")
    started = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.csv"
    if not args.reuse:
        played, cpu_seconds = games.run(games.plan(args.seeds, args.steps), args.jobs)
        games.write(results, games.rows_of(played))
        print(f"games: {time.perf_counter() - started:.0f} s, of the processors {cpu_seconds:.0f} s")
    pair = None if args.codec else _train_pair()
    rows = games.read(results)
    files.write_bytes(args.out / "table.md", tables.page(rows).encode())
    figures.draw_optima(args.out / "optima.png")
    figures.draw_curves(args.out / "curves.png", rows)
    figures.draw_learning(args.out / "learning.png", rows)
    figures.draw_start(args.out / "start.png", rows)
    figures.draw_codes(args.out / "codes.png", args.steps)
    if pair is not None and pair.wait():
        raise ValueError(
            "the small pair could not be trained: `python -m regicomp.train experiment=identities` says why"
        )
    codec, source = args.codec or PAIR / "codec.safetensors", args.source or PAIR / "source.safetensors"
    print(lossless.run(codec, source, args.images, args.out))
    print(f"everything in {args.out}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    with cli.told_in_one_line():
        main()
