"""Turn a finished run into the codec that comes with regicomp: `python -m experiments.shipped RUN` (README.md).

Writes regicomp/pretrained/: codec.safetensors in float16, training.yaml, and results.json of the rounded codec,
measured again on the test sets of the run. With `--latents`, a hyperprior's least used latent channels are left out.
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

from experiments.shipped import narrowing  # noqa: E402
from regicomp.backbone.hyperprior import Hyperprior  # noqa: E402
from regicomp.data import images  # noqa: E402
from regicomp.evaluation import record  # noqa: E402
from regicomp.image_codec import model_file  # noqa: E402
from regicomp.image_codec.codec import to_tensor  # noqa: E402
from regicomp.utils import cli, files  # noqa: E402

LARGEST_BYTES = 10_000_000


def narrow(loaded: model_file.Loaded, latents: int, folder: Path) -> model_file.Loaded:
    """The codec with its `latents` most used channels, as counted on a folder's images.

    Raises:
        ValueError: it is no hyperprior, or has not as many.
    """
    codec = loaded.network
    if not isinstance(codec, Hyperprior) or not 1 <= latents <= codec.M:
        raise ValueError(f"`--latents` (={latents}) must be at most the M of a hyperprior; the codec is {loaded.spec}")
    counts = narrowing.usage(codec, (to_tensor(images.read(path)) for path in images.find(folder)))
    keep = narrowing.most_used(counts, latents)
    print(
        f"{int(counts.count_nonzero())} of {codec.M} channels have latents that are not 0; of {int(counts.sum())} such "
        f"latents, {int(counts.sum() - counts[keep].sum())} are in the {codec.M - latents} channels left out"
    )
    kept = narrowing.narrowed(codec, keep)
    run = {**loaded.run, "parameters": sum(p.numel() for p in kept.parameters())}
    return loaded._replace(
        network=kept, spec=model_file.Spec(loaded.spec.target, {"N": codec.N, "M": latents}), run=run
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory with a record")
    parser.add_argument("--out", type=Path, default=regicomp.SHIPPED.parent, help="the folder to make")
    parser.add_argument("--latents", type=int, help="channels of the latent to keep; default: all")
    parser.add_argument("--images", type=Path, help="a folder of training images on which --latents is decided")
    arguments = parser.parse_args()
    if (arguments.latents is None) != (arguments.images is None):
        parser.error("--latents and --images go together")
    with cli.told_in_one_line():
        known = record.read(arguments.run / "results.json")
        loaded = model_file.load_codec(arguments.run / "codec.safetensors")
        if arguments.latents is not None:
            loaded = narrow(loaded, arguments.latents, arguments.images)
        path = arguments.out / "codec.safetensors"
        model_file.save_codec(path, loaded.network, loaded.spec, loaded.run, half=True)
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"{path}: has {path.stat().st_size} bytes; at most {LARGEST_BYTES} may come with regicomp")
    training: Any = OmegaConf.load(arguments.run / ".hydra" / "config.yaml")
    if training.init_from is not None:
        training.init_from = Path(*Path(training.init_from).parts[-2:]).as_posix()  # not the whole path of this machine
    files.write_bytes(arguments.out / "training.yaml", OmegaConf.to_yaml(training).encode())
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
