"""Believable records of sweeps that were never run."""

from __future__ import annotations

import csv
import json
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

LMBDAS = {1: 0.0018, 2: 0.0035, 3: 0.0067, 4: 0.013, 5: 0.025, 6: 0.0483}
_OFFSETS = {"hyperprior": 0.0, "autoregressive": -0.12, "attention": -0.2, "elic": -0.3, "mlicpp": -0.4}
SIZES = {"kodak": (768, 512), "photos": (512, 400)}


def record(
    backbone: str = "hyperprior",
    alpha: float = 0.0,
    quality: int = 3,
    seed: int = 0,
    saving: float = 0.0,
    testsets: Iterable[str] = ("kodak",),
    images: int = 6,
    jitter: float = 0.01,
    **run: Any,
) -> dict[str, Any]:
    """A record whose rate is `saving` (0.02: two percent) below the plain codec's, up to `jitter` by run and image."""
    lmbda = LMBDAS[quality]
    entries: dict[str, Any] = {}
    for testset in testsets:
        noise = np.random.default_rng(zlib.crc32(f"{testset} {seed} {backbone}".encode()))
        own = np.random.default_rng(zlib.crc32(f"{testset} {seed} {backbone} {alpha} {quality}".encode()))
        rows: list[dict[str, Any]] = []
        for k in range(images):
            harder = math.sin(3 * k) + 0.3 * noise.normal()
            psnr = 38.5 + 4.3 * math.log10(lmbda / LMBDAS[6]) * 1.8 - 1.5 * harder + 0.02 * noise.normal()
            rate = 0.95 * (lmbda / LMBDAS[6]) ** 0.62 * math.exp(0.35 * harder + _OFFSETS.get(backbone, 0))
            rate *= (1 - saving) * math.exp(jitter * (own.normal() + 0.4))
            width, height = SIZES.get(testset, (320, 240))
            similarity = 1 - 10 ** (-(8 + 0.33 * (psnr - 20)) / 10)
            rows.append(
                {
                    "name": f"kodim{k + 1:02d}.png" if testset == "kodak" else f"{k}.png",
                    "width": width,
                    "height": height,
                    "bytes": round(rate * width * height / 8),
                    "bpp": rate,
                    "bpp_estimated": rate * 0.99,
                    "psnr_db": psnr,
                    "psnr_db_float": psnr + 0.001,
                    "ms_ssim": similarity,
                    "ms_ssim_db": -10 * math.log10(1 - similarity),
                    "source_bpp": 14 - 0.3 * psnr if alpha else None,
                    "encode_seconds": 0.4,
                    "decode_seconds": 0.6,
                }
            )
        averages: dict[str, float | None] = {}
        for metric in ("bpp", "bpp_estimated", "psnr_db", "psnr_db_float", "ms_ssim", "ms_ssim_db", "source_bpp"):
            values = [row[metric] for row in rows if row[metric] is not None]
            averages[metric] = sum(values) / len(values) if values else None
        entries[testset] = {**averages, "images": rows}
    about = {
        "backbone": backbone,
        "source": backbone if alpha else None,
        "alpha": alpha,
        "lmbda": lmbda,
        "distortion": "mse",
        "quality": quality,
        "seed": seed,
        "steps": 20000,
        "data": ["photographs", "scans"],
        "parameters": 5_000_000,
        "source_parameters": 900_000 if alpha else 0,
        "config_hash": f"{zlib.crc32(repr((backbone, alpha, quality, seed, run)).encode()):08x}",
        "versions": {"regicomp": "0.1.0", "torch": "2.15.0"},
        **run,
    }
    return {"schema": 1, "run": about, "testsets": entries, "timing": {"training_seconds": 3600.0}}


def write(folder: Path, content: dict[str, Any], history: bool = False) -> Path:
    """Write a record, and a training history if asked, as a run directory; the record's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    if history:
        run = content["run"]
        noise = np.random.default_rng(run["seed"])
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "loss", "rate_bpp", "mse_255", "psnr_db", "source_bpp", "alpha", "pressure"])
            for step in range(100, 20001, 100):
                fall = math.exp(-step / 3000)
                mse = (40 + 900 * fall) * (0.0067 / run["lmbda"]) ** 0.6 * math.exp(0.1 * noise.normal())
                rate = (0.5 + fall) * (run["lmbda"] / 0.0067) ** 0.5 * math.exp(0.05 * noise.normal())
                source, pressure = ("", "") if not run["alpha"] else (6 + 4 * fall, run["alpha"] * (1.5 - fall))
                writer.writerow([step, rate + run["lmbda"] * mse, rate, mse, 30, source, run["alpha"], pressure])
    return path


def sweep(
    folder: Path,
    backbones: Iterable[str] = ("hyperprior",),
    savings: dict[float, float] | None = None,
    qualities: Iterable[int] = (1, 2, 3, 4),
    seeds: Iterable[int] = (0, 1),
    history: bool = False,
    **about: Any,
) -> Path:
    """Write a sweep; `savings` gives the share of the rate that each α saves. Returns `folder`."""
    for backbone in backbones:
        for alpha, saving in (savings or {0.0: 0.0, 0.1: 0.02}).items():
            for quality in qualities:
                for seed in seeds:
                    name = f"{backbone}/alpha={alpha:g},quality={quality},seed={seed}"
                    write(folder / name, record(backbone, alpha, quality, seed, saving, **about), history)
    return folder
