"""Encoding, decoding and describing many files; one that fails is reported in a line, and the others are processed."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from regicomp.data.images import Pixels
from regicomp.image_codec import container as bitstream
from regicomp.image_codec import picture
from regicomp.image_codec.folders import Job, is_stream, read_bytes, write_bytes
from regicomp.image_codec.picture import Picture

if TYPE_CHECKING:  # loads PyTorch, which `info` does without
    from regicomp.image_codec.codec import Codec


class Row(NamedTuple):
    """A line of the report."""

    name: str
    width: int  # pixels
    height: int
    bytes: int
    psnr_db: float | None = None
    ms_ssim: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None


Compare = Callable[[Pixels, Pixels], tuple[float, float | None]]
"""PSNR in dB and MS-SSIM of two pictures, (H, W, 3) of 8 bits."""


def encode(
    jobs: Sequence[Job], codec: Codec, compare: Compare | None = None, aim: Callable[[Picture], bytes] | None = None
) -> int:
    """Compress pictures to .rgc files.

    Args:
        jobs: from pictures to .rgc files.
        codec: that compresses.
        compare: decode again, compare, and print a table of sizes, quality and seconds.
        aim: compresses a picture in place of the codec, to meet an aim.

    Returns:
        The command's exit status.
    """

    def work(job: Job) -> Row:
        if is_stream(job.source):
            read = picture.decode(read_bytes(job.source), job.source, codec.max_pixels)
        else:
            read = picture.read(job.source, codec.max_pixels)
        started = time.perf_counter()
        data = codec.compress(read) if aim is None else aim(read)
        seconds = time.perf_counter() - started
        write_bytes(job.target, data)
        height, width = read.pixels.shape[:2]
        row = Row(job.source.name, width, height, len(data), encode_seconds=seconds)
        if compare is None:
            return row
        started = time.perf_counter()
        back = codec.decompress_picture(data)
        seconds = time.perf_counter() - started
        psnr, similarity = compare(read.pixels, back.pixels)
        return row._replace(psnr_db=psnr, ms_ssim=similarity, decode_seconds=seconds)

    return _each(jobs, "compressing", work, compare is not None)


def decode(jobs: Sequence[Job], decompress: Callable[[bytes], Picture], report: bool = False) -> int:
    """Decompress .rgc files to pictures; a stream gets a PNG.

    Args:
        jobs: from .rgc files to pictures.
        decompress: a codec's or an isolated decoder's.
        report: print a table of sizes and seconds.

    Returns:
        The command's exit status.
    """

    def work(job: Job) -> Row:
        data = read_bytes(job.source)
        started = time.perf_counter()
        back = decompress(data)
        seconds = time.perf_counter() - started
        form = Path("stream.png") if is_stream(job.target) else job.target
        write_bytes(job.target, picture.file_bytes(picture.to_pillow(back), form))
        height, width = back.pixels.shape[:2]
        return Row(job.source.name, width, height, len(data), decode_seconds=seconds)

    return _each(jobs, "decompressing", work, report)


def info(sources: Sequence[Path], max_pixels: int) -> int:
    """Print the descriptions of .rgc files; the command's exit status."""

    def work(job: Job) -> Row:
        lines = describe(read_bytes(job.source), max_pixels)
        tqdm.write("\n".join([str(job.source), *lines]))
        return Row(job.source.name, 1, 1, 0)

    return _each([Job(path, path) for path in sources], "reading", work, report=False)


def describe(data: bytes, max_pixels: int) -> list[str]:
    """Lines that describe a file; its latents are not decoded.

    Raises:
        ValueError: it is no container, or altered.
    """
    container = bitstream.unpack(data, max_pixels)
    pixels = container.width * container.height

    def share(what: str, size: int) -> str:
        return f"  {what:<12}{size:>9} bytes{8 * size / pixels:>9.4f} bpp"

    beside = [("alpha", container.alpha), ("ICC profile", container.profile)]
    parts = [share(f"stream {k + 1}", len(stream)) for k, stream in enumerate(container.streams)]
    parts += [share(what, len(packed)) for what, packed in beside if packed is not None]
    known = sum(len(s) for s in container.streams) + sum(len(packed) for _, packed in beside if packed is not None)
    mode = ("grey" if container.grey else "RGB") + (" with alpha" if container.alpha is not None else "")
    tiles = f", transforms in tiles of {container.tile}" if container.tile else ""
    quality = "" if container.quality is None else f", quality {container.quality / bitstream.QUALITY_UNIT:g}"
    return [
        f"  {container.width}x{container.height} {mode}, format {container.version}, "
        f"codec {container.fingerprint.hex()}{tiles}{quality}",
        *parts,
        share("header", len(data) - known),
        share("all", len(data)),
    ]


@contextlib.contextmanager
def _its_error(path: Path) -> Iterator[None]:
    """Begin a mistake's message with the file's path."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _each(jobs: Sequence[Job], what: str, work: Callable[[Job], Row], report: bool) -> int:
    """Do all jobs, report a failed one in a line and go on; the exit status."""
    rows: list[Row] = []
    failed = 0
    for job in tqdm(jobs, desc=what, unit="file", leave=False, disable=None if len(jobs) > 1 else True):
        try:
            with _its_error(job.source):
                rows.append(work(job))
        except (ValueError, OSError) as error:
            failed += 1
            tqdm.write(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    if report and rows:
        streamed = any(is_stream(job.target) for job in jobs)
        print(table(rows), file=sys.stderr if streamed else sys.stdout)
    return 2 if failed else 0


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def table(rows: Sequence[Row]) -> str:
    """The report: a line a file, and their means if there are several."""
    lines: list[tuple[str, ...]] = [("file", "size", "bytes", "bpp", "PSNR dB", "MS-SSIM", "encode s", "decode s")]
    measured = [
        (8 * row.bytes / (row.width * row.height), row.psnr_db, row.ms_ssim, row.encode_seconds, row.decode_seconds)
        for row in rows
    ]
    digits = (4, 3, 5, 3, 3)
    for row, numbers in zip(rows, measured, strict=True):
        size = (row.name, f"{row.width}x{row.height}", str(row.bytes))
        lines.append((*size, *(_number(n, d) for n, d in zip(numbers, digits, strict=True))))
    if len(rows) > 1:
        means = []
        for column, d in zip(zip(*measured, strict=True), digits, strict=True):
            known = [n for n in column if n is not None]
            means.append(_number(sum(known) / len(known) if known else None, d))
        lines.append(("mean", "", str(sum(row.bytes for row in rows) // len(rows)), *means))
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
