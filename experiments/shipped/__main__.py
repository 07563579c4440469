"""Turn a finished run into the codec that comes with regicomp: `python -m experiments.shipped RUN` (README.md).

Writes regicomp/pretrained/: codec.safetensors in float16, training.yaml, and results.json of the rounded codec,
measured on the test sets of the run and on those of `--also`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import regicomp
from regicomp.utils import cli

cli.quiet_libraries()

from regicomp.evaluation import record  # noqa: E402
from regicomp.image_codec import model_file  # noqa: E402
from regicomp.utils import files  # noqa: E402

LARGEST_BYTES = 10_000_000


def _without_machine_paths(training: Any) -> Any:
    """The run's configuration with folders of images named below data.root."""
    root = Path(training.data.root)
    training.data.root = "${oc.env:REGICOMP_DATA,data}"
    folders = training.data.train_dir
    if folders is not None:
        listed = [folders] if isinstance(folders, str) else list(folders)
        training.data.train_dir = [
            f"${{data.root}}/{Path(f).relative_to(root)}" if Path(f).is_relative_to(root) else Path(f).name
            for f in listed
        ]
    if training.init_from is not None:
        training.init_from = Path(*Path(training.init_from).parts[-2:]).as_posix()
    return training


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory with a record")
    parser.add_argument("--out", type=Path, default=regicomp.SHIPPED.parent, help="the folder to make")
    parser.add_argument("--also", nargs="*", default=[], metavar="NAME", help="test sets besides the run's")
    arguments = parser.parse_args()
    with cli.told_in_one_line():
        known = record.read(arguments.run / "results.json")
        loaded = model_file.load_codec(arguments.run / "codec.safetensors")
        path = arguments.out / "codec.safetensors"
        model_file.save_codec(path, loaded.network, loaded.spec, loaded.run, half=True)
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"{path}: has {path.stat().st_size} bytes; at most {LARGEST_BYTES} may come with regicomp")
    training = _without_machine_paths(OmegaConf.load(arguments.run / "config.yaml"))
    files.write_bytes(arguments.out / "training.yaml", OmegaConf.to_yaml(training).encode())
    before = record.points(known)
    names = [*before[0].testsets, *arguments.also]
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"checkpoint={path.resolve()}", f"testsets=[{','.join(names)}]", f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "regicomp.evaluate", *settings], check=True)
        shutil.copyfile(Path(folder) / "results.json", arguments.out / "results.json")
    after = record.points(record.read(arguments.out / "results.json"))
    for old, new in zip(before, after, strict=True):
        for name, entry in old.testsets.items():
            rounded = new.testsets[name]
            print(
                f"{name}, quality {old.quality:g}: {entry['bpp']:.4f} bpp, {entry['psnr_db']:.3f} dB in float32; "
                f"{rounded['bpp']:.4f} bpp, {rounded['psnr_db']:.3f} dB in float16"
            )


if __name__ == "__main__":
    main()
