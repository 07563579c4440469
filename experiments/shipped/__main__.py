"""Make the codec that comes with regicomp of a finished run: `python -m experiments.shipped RUN` (README.md).

Writes regicomp/pretrained/: codec.safetensors in float16, training.yaml, and results.json of the rounded codec,
measured anew on the test sets of the run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import regicomp
from regicomp import export, files, record

LARGEST_BYTES = 10_000_000


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory with a record")
    parser.add_argument("--out", type=Path, default=regicomp.SHIPPED.parent, help="the folder to make")
    arguments = parser.parse_args()
    with files.told_in_one_line():
        known = record.read(arguments.run / "results.json")
        loaded = export.load_codec(arguments.run / "codec.safetensors")
        path = arguments.out / "codec.safetensors"
        export.save_codec(path, loaded.network, loaded.spec, loaded.run, half=True)
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"{path}: has {path.stat().st_size} bytes; at most {LARGEST_BYTES} may come with regicomp")
    shutil.copyfile(arguments.run / ".hydra" / "config.yaml", arguments.out / "training.yaml")
    with tempfile.TemporaryDirectory() as folder:
        names = ",".join(known["testsets"])
        settings = [f"checkpoint={path.resolve()}", f"testsets=[{names}]", f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "regicomp.evaluate", *settings], check=True)
        shutil.copyfile(Path(folder) / "results.json", arguments.out / "results.json")
    for name, before in known["testsets"].items():
        after = record.read(arguments.out / "results.json")["testsets"][name]
        print(
            f"{name}: {before['bpp']:.4f} bpp, {before['psnr_db']:.3f} dB in float32; "
            f"{after['bpp']:.4f} bpp, {after['psnr_db']:.3f} dB in float16"
        )


if __name__ == "__main__":
    main()
