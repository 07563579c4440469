"""Copies the records of finished runs to the tables: `python -m experiments.branches.collect`.

They lie in multirun/; what a run is, is read from its folder's name, as the commands in the READMEs of branches, kodak
and why give it. A record that is not there yet is left out, so that it can be called between runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from regicomp.evaluation import record
from regicomp.utils import files

EXPERIMENTS = Path(__file__).parents[1]
ARMS = {"off": "plain", "default": "mild", "paper": "paper", "minimized": "minimized"}  # by reg
STAGES = ("first", "second", "source", "source128")  # of what a branch starts from; a codec's end has no name
NAME = "results.json"


def copies(multirun: Path) -> Iterator[tuple[Path, Path]]:
    """The record of each finished run, and its place below experiments/.

    Args:
        multirun: where the runs are.
    """
    for path in sorted([*multirun.glob("b*/*/" + NAME), *multirun.glob("branches_start/" + NAME)]):
        sweep, run = path.relative_to(multirun).parent.parts[0], path.parent.name
        for place in places(sweep, run):
            yield path, Path(place) / NAME


def places(sweep: str, run: str) -> list[str]:
    """Where below experiments/ the record of a run belongs; of some in two tables.

    Args:
        sweep: the name of the folder of a sweep.
        run: that of the run in it.
    """
    if sweep == "branches_start":
        return ["branches/made/source"]
    if sweep == "base":
        *folders, stage = run.split("_") if run.endswith(STAGES) else (*run.split("_"), "codec")
        return ["/".join(["branches", *folders, "made", stage])]
    if sweep == "branches_waste":
        return [f"branches/waste/{ARMS[run]}"]
    arm = _arm(run)
    if sweep == "branches_options":
        by_adam = arm.startswith("adam_")
        return [f"why/adam/runs/{arm.removeprefix('adam_')}" if by_adam else f"why/runs/{arm}"]
    part = sweep.removeprefix("branches").removeprefix("_")
    if part.endswith("control"):
        part = part.removesuffix("control").removesuffix("_")
        arm = f"control_paper_{arm}" if part == "fixed" else f"control_{arm}"
    folders = part.split("_") if part else []
    room = "why" if part.partition("_")[0] in ("alignment", "scarce") else "branches"
    found = ["/".join([room, *folders, "runs", arm])]
    kind = arm.rpartition("_")[0]
    if part == "" and kind in ("plain", "paper", "control_paper"):
        found.append(f"why/runs/{arm}")  # the options are held against these
    if part == "mixed" and kind == "plain":
        found.append(f"branches/runs/{arm.replace('plain', 'mixed')}")
    return found


def _arm(run: str) -> str:
    """ARM_SEED or ARM_LAMBDA_SEED of a run that was named by hand or by its settings."""
    settings = dict(part.split("=", 1) for part in run.split(",") if "=" in part)
    if not settings:
        return run.replace("off_", "plain_")
    level = [settings["objective.lmbda"]] if "objective.lmbda" in settings else []
    return "_".join([ARMS[settings["reg"]], *level, settings["seed"]])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("multirun"))
    found = list(copies(parser.parse_args().runs))
    for path, place in found:
        record.read(path)  # whole, or refused
        files.write_bytes(EXPERIMENTS / place, path.read_bytes())
    print(f"{len(found)} records")


if __name__ == "__main__":
    main()
