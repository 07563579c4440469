"""One image at a time: pixels -> bytes on disk -> pixels -> numbers; several at once in `parallel`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from regicomp.data.images import Pixels
from regicomp.data.testsets import TestImage, TestSet
from regicomp.distributed import collectives
from regicomp.evaluation.metrics import ImageResult, average, measured
from regicomp.image_codec.codec import Codec, to_pixels, to_tensor
from regicomp.objective.psnr import psnr_db
from regicomp.source.base import SourceModel
from regicomp.source.told_level import told_of


@torch.inference_mode()
def evaluate_image(
    codec: Codec, name: str, pixels: Pixels, source: SourceModel | None = None, quality: float | None = None
) -> ImageResult:
    """Code an image to a file and back, and measure; at `quality`, where the codec is of variable rate.

    The encoder's reconstruction takes y and what was predicted of it from `encode`, and x̂ from `decode` if ŷ is equal
    to the bit.

    Raises:
        RuntimeError: the decoded image is not the encoder's reconstruction.
    """
    with tempfile.TemporaryDirectory() as folder, codec.remembering():
        path = Path(folder) / "image.rgc"
        started = time.perf_counter()
        path.write_bytes(codec.encode(pixels, quality))
        encoded = time.perf_counter()
        x_hat = codec.decode(path.read_bytes())
        decoded = time.perf_counter()
        size = path.stat().st_size
        expected, estimated = codec.reconstruct(pixels, quality)
    rounded = to_pixels(x_hat)
    if not np.array_equal(rounded, to_pixels(expected)):
        worst = float((x_hat - expected).abs().max()) * 255
        raise RuntimeError(
            f"{name}: the decoded image differs from the encoder's reconstruction by up to {worst:.3g} grey levels; "
            "encoder and decoder are out of step"
        )
    x = to_tensor(pixels)
    if quality is not None and source is not None and (told := told_of(source)) is not None:
        told.set(torch.tensor([quality]))
    return measured(
        name,
        pixels,
        rounded,
        size,
        encode_seconds=encoded - started,
        decode_seconds=decoded - encoded,
        bpp_estimated=estimated,
        psnr_db_float=psnr_db(float(torch.mean((255 * (x_hat - x).double()) ** 2))),
        source_bpp=float(source(x, x_hat)) if source is not None else None,
    )


def measure(
    codec: Codec, image: TestImage, source: SourceModel | None = None, quality: float | None = None
) -> ImageResult:
    """Load an image and measure it; at `quality`, where the codec is of variable rate.

    Raises:
        ValueError: the image or its container is refused; the image is named.
        RuntimeError: anything else failed; the image is named.
        OSError: the disk failed.
    """
    try:
        return evaluate_image(codec, image.name, image.load(), source, quality)
    except OSError:
        raise
    except Exception as error:
        text = str(error) or type(error).__name__
        if f"{image.name}:" not in text:
            text = f"{image.name}: {text}"
        raise (ValueError if isinstance(error, ValueError) else RuntimeError)(text) from error


class Helpers(Protocol):
    """Processes that measure images."""

    def measure(self, images: Sequence[TestImage], quality: float | None = None) -> Iterator[tuple[int, ImageResult]]:
        """Each image's number in the list and its result, as they come."""
        ...


def evaluate(
    codec: Codec,
    testset: TestSet,
    source: SourceModel | None = None,
    bar: tqdm[Any] | None = None,
    helpers: Helpers | None = None,
    quality: float | None = None,
) -> dict[str, Any]:
    """Measure a codec on a test set; the test set's entry in the record.

    The processes of a run share the images out; every one of them returns the whole entry.

    Args:
        codec: what is measured.
        testset: images of any sizes.
        source: q_θ, to measure H_θ(X|X̂) too.
        bar: moved on after each image.
        helpers: processes that measure this process's share with the same codec and q_θ; None: this one does.
        quality: at which a codec of variable rate is measured.
    """
    world = collectives.world()
    share = testset.images[collectives.rank() :: world]
    if helpers:
        measured = helpers.measure(share, quality)
    else:
        measured = ((k, measure(codec, image, source, quality)) for k, image in enumerate(share))
    results: dict[int, ImageResult] = {}
    for k, result in measured:
        results[k] = result
        if bar is not None:
            bar.update(world)
    shares = collectives.gather(results)
    return average(shares[k % world][k // world] for k in range(len(testset.images)))
