"""Noise against rounding: `python -m experiments.branches.rounding [ARM_SEED=CODEC …] --data ROOT`.

Training adds uniform noise to the latents where coding rounds them. rounding.csv gets the rate and the squared error
of each codec and level both ways, averaged over test images; rounding.md says how far they lie apart, and what the
BD-rates of the arms are by either. A name given several times is a curve of so many codecs of fixed rate. Codecs that
rounding.csv has already are not measured again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import regicomp
from experiments import tables
from experiments.branches.tabulate import ARMS, mean_of
from regicomp.backbone import variable_rate
from regicomp.data import testsets
from regicomp.image_codec.codec import Codec, to_tensor
from regicomp.objective.rate_distortion import rate_bpp
from regicomp.report.bd_rate import RdCurve, bd_rate
from regicomp.report.tables import signed
from regicomp.utils import files

HERE = Path(__file__).parent
WAYS = ("noise", "rounding")
VIEWS = {  # of the rate and of the squared error
    "noise": ("noise", "noise"),  # what training sees
    "noise in the rate alone": ("noise", "rounding"),  # what it sees with quantization=mixed
    "rounding": ("rounding", "rounding"),  # what is coded
}
SEEDS = 10  # at most


@torch.no_grad()
def both(codec: Codec, x: Tensor, quality: float | None, seed: int = 0) -> list[tuple[float, float]]:
    """Estimated bits per pixel and squared error in grey levels of `x` (1, 3, H, W), with noise and rounded.

    x̂ is not clamped, as in training.
    """
    found: list[tuple[float, float]] = []
    padded = codec.pad(x)
    for noisy in (True, False):
        codec.network.train(noisy)
        torch.manual_seed(seed)
        with variable_rate.at_quality(codec.network, quality):
            out = codec.network(padded)
        height, width = x.shape[-2:]
        error = float(((out["x_hat"][..., :height, :width] - x) * 255).square().mean())
        found.append((float(rate_bpp(out["likelihoods"].values(), height * width)), error))
    return found


def measure(name: str, codecs: list[Codec], images: list[Tensor]) -> list[dict[str, Any]]:
    """A row for each level of a codec of variable rate, or for each of several of fixed rate.

    It has the rate and the squared error by either way, averaged over the images.
    """
    points = [(c, q) for c in codecs for q in (range(1, c.levels + 1) if c.levels else [None])]
    found: list[dict[str, Any]] = []
    for level, (codec, quality) in enumerate(points, 1):
        means = np.mean([both(codec, x, quality) for x in images], axis=0)
        row: dict[str, Any] = {"codec": name, "level": level}
        for way, (rate, error) in zip(WAYS, means, strict=True):
            row |= {f"bpp, {way}": f"{rate:.6f}", f"squared error, {way}": f"{error:.4f}"}
        found.append(row)
    return found


def _values(rows: list[dict[str, Any]], codec: str, column: str) -> Any:
    return np.array([float(row[column]) for row in rows if row["codec"] == codec])


def _curve(rows: list[dict[str, Any]], codec: str, rate: str, distortion: str) -> RdCurve:
    error = _values(rows, codec, f"squared error, {distortion}")
    return RdCurve(_values(rows, codec, f"bpp, {rate}"), 10 * np.log10(255**2 / error))


def gaps(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Rows of the excess of noise over rounding, in percent by level, for each codec of a seed."""
    found: list[dict[str, Any]] = []
    for codec in dict.fromkeys(row["codec"] for row in rows):
        if codec.endswith(f"_{seed}"):
            for of in ("bpp", "squared error"):
                ratio = _values(rows, codec, f"{of}, noise") / _values(rows, codec, f"{of}, rounding")
                cells = {f"level {k}": signed(100 * float(r - 1)) for k, r in enumerate(ratio, 1)}
                found.append({"codec": _about(codec.rpartition("_")[0]), "of": of} | cells)
    return found


def _about(arm: str) -> str:
    control = arm.startswith("control_")
    name = ARMS.get(arm.removeprefix("control_"), arm)
    return f"λ control of {name}" if control else name


def savings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """BD-rates in PSNR of the mean error, by what training sees and by what is coded, over the seeds that both have."""
    codecs = {row["codec"] for row in rows}
    found: list[dict[str, Any]] = []
    for arm in ARMS:
        for anchor, test in (("plain", arm), ("plain", f"control_{arm}"), (f"control_{arm}", arm)):
            seeds = [s for s in range(SEEDS) if {f"{anchor}_{s}", f"{test}_{s}"} <= codecs]
            if not seeds:
                continue
            row = {"branch": _about(test), "against": "plain" if anchor == "plain" else "its λ control"}
            for view, ways in VIEWS.items():
                pairs = [[_curve(rows, f"{name}_{s}", *ways) for name in (anchor, test)] for s in seeds]
                row[f"BD-rate with {view}"] = mean_of([bd_rate(pair[0], pair[1], "pchip") for pair in pairs])
            found.append(row | {"seeds": str(len(seeds))})
    return found


def page(rows: list[dict[str, Any]]) -> str:
    """Both tables."""
    return (
        tables.markdown(savings(rows))
        + "\nWhat noise has more than rounding, percent:\n\n"
        + tables.markdown(gaps(rows))
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codecs", nargs="*", metavar="ARM_SEED=CODEC")
    parser.add_argument("--data", required=True, help="folder that holds kodak/")
    parser.add_argument("--testset", default="kodak")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of rounding.csv and rounding.md")
    arguments = parser.parse_args()
    (testset,) = testsets.find([arguments.testset], arguments.data, [], arguments.images)
    rows = tables.read_csv(arguments.out / "rounding.csv")
    named = [pair.partition("=")[::2] for pair in arguments.codecs]
    for name in dict.fromkeys(name for name, _ in named):
        if not any(row["codec"] == name for row in rows):
            codecs = [regicomp.load(path) for other, path in named if other == name]
            rows += measure(name, codecs, [to_tensor(image.load()) for image in testset.images])
            tables.write_csv(arguments.out / "rounding.csv", rows)
            print(f"{name} measured", flush=True)
    files.write_bytes(arguments.out / "rounding.md", page(rows).encode())
    print(page(rows))


if __name__ == "__main__":
    main()
