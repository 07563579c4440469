"""Classical codecs (through Pillow) measured on the same images: the curves beside a run's point."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features
from tqdm import tqdm

from regicomp.data.images import Pixels
from regicomp.data.testsets import TestSet
from regicomp.evaluation.metrics import ImageResult, average, measured
from regicomp.utils.files import write_json

_FOLDER = "anchors"  # below the cache folder; older releases called classical codecs so, and their files stay valid


class ClassicalCodec(NamedTuple):
    """A classical codec and the qualities its curve is made of."""

    name: str
    format: str  # Pillow's
    qualities: tuple[int, ...]
    options: dict[str, Any]

    def encode(self, pixels: Pixels, quality: int) -> bytes:
        """Compress an 8-bit image (H, W, 3) to a file's bytes."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.format, quality=quality, **self.options)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """Decompress a file's bytes to an 8-bit image (H, W, 3)."""
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)


JPEG = ClassicalCodec("JPEG", "JPEG", (3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 40, 55, 70, 85), {"optimize": True})
WEBP = ClassicalCodec("WebP", "WEBP", (1, 4, 8, 14, 20, 35, 50, 65, 80, 90), {"method": 4})
# One thread and no tiles: the bytes must not depend on the machine's cores.
AVIF = ClassicalCodec(
    "AVIF",
    "AVIF",
    (5, 12, 20, 30, 40, 52, 65, 80),
    {"speed": 6, "subsampling": "4:2:0", "max_threads": 1, "autotiling": False},
)
QUICK = (JPEG, WEBP)  # quick enough to be measured after every training run


def classical() -> tuple[ClassicalCodec, ...]:
    """Every codec that this Pillow can write."""
    return (JPEG, WEBP, *((AVIF,) if features.check("avif") else ()))


def _measure(codec: ClassicalCodec, quality: int, name: str, pixels: Pixels, with_ms_ssim: bool) -> ImageResult:
    started = time.perf_counter()
    data = codec.encode(pixels, quality)
    encoded = time.perf_counter()
    decoded = codec.decode(data)
    finished = time.perf_counter()
    return measured(
        name,
        pixels,
        decoded,
        len(data),
        encode_seconds=encoded - started,
        decode_seconds=finished - encoded,
        with_ms_ssim=with_ms_ssim,
    )


def curve(
    codec: ClassicalCodec, testset: TestSet, with_ms_ssim: bool = False, threads: int = 1, progress: bool = False
) -> list[dict[str, Any]]:
    """The codec's points on a test set, one an encoder quality: like a record's test-set entry, by rising rate.

    Args:
        codec: with the qualities to measure.
        testset: images.
        with_ms_ssim: measure MS-SSIM too, which takes most of the time.
        threads: images coded at once; more than one makes the recorded seconds meaningless, not the sizes.
        progress: show a bar.
    """
    loaded = [(image.name, image.load()) for image in testset.images]
    jobs = [(q, name, pixels) for q in codec.qualities for name, pixels in loaded]
    label = f"{codec.name} on {testset.name}"
    with ThreadPoolExecutor(threads) as pool:
        running = pool.map(lambda job: _measure(codec, job[0], job[1], job[2], with_ms_ssim), jobs)
        results = list(tqdm(running, label, len(jobs), unit="image", leave=False, disable=not progress))
    count = len(loaded)
    points = [{"quality": q, **average(results[k * count : (k + 1) * count])} for k, q in enumerate(codec.qualities)]
    return sorted(points, key=lambda point: point["bpp"])


def cache_dir() -> Path:
    """Where measured curves are kept: $REGICOMP_CACHE, or the user's cache folder."""
    chosen = os.environ.get("REGICOMP_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regicomp"


def _key(codec: ClassicalCodec, testset: TestSet, with_ms_ssim: bool) -> str:
    """A hash of all that a curve depends on: the images' names and pixels, the codec, its settings and versions."""
    library = features.version({"JPEG": "jpg"}.get(codec.format, codec.format.lower()))
    settings = [1, *codec, Image.__version__, library, with_ms_ssim]  # 1: version of what is measured
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for image in testset.images:
        pixels = image.load()
        digest.update(f"{image.name} {pixels.shape}".encode() + pixels.tobytes())
    return digest.hexdigest()[:32]


def cached(codec: ClassicalCodec, testset: TestSet, with_ms_ssim: bool = False) -> list[dict[str, Any]]:
    """`curve`, kept on the disk: measuring takes minutes.

    A file that cannot be read is measured again; where nothing can be written, nothing is kept.
    """
    path = cache_dir() / _FOLDER / f"{codec.name.lower()}-{_key(codec, testset, with_ms_ssim)}.json"
    try:
        known = json.loads(path.read_text())
        if {point["quality"] for point in known} == set(codec.qualities):
            return known
    except (OSError, ValueError, KeyError, TypeError):
        pass
    points = curve(codec, testset, with_ms_ssim, threads=os.cpu_count() or 1, progress=True)
    with contextlib.suppress(OSError):
        write_json(path, points)
    return points


def psnr_at(points: list[dict[str, Any]], bpp: float) -> float | None:
    """PSNR of a curve at a rate, interpolated linearly in log(bpp); None outside the curve's rates."""
    rates = [math.log(point["bpp"]) for point in points]
    if not rates or not rates[0] <= math.log(bpp) <= rates[-1]:
        return None
    return float(np.interp(math.log(bpp), rates, [point["psnr_db"] for point in points]))
