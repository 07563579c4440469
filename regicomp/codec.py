"""`python -m regicomp.codec`: compress pictures with a trained codec, decompress them, and look into files."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

import regicomp
from regicomp.image_codec import container as bitstream
from regicomp.image_codec import picture
from regicomp.utils import files

if TYPE_CHECKING:
    from regicomp.image_codec.codec import Codec

SUFFIX = ".rgc"


class Job(NamedTuple):
    """One file to make of another."""

    source: Path
    target: Path


class Row(NamedTuple):
    """A line of the report."""

    name: str
    width: int  # pixels
    height: int
    bytes: int
    psnr_db: float | None
    ms_ssim: float | None
    encode_seconds: float | None
    decode_seconds: float | None


def find(sources: Sequence[Path], reads: frozenset[str]) -> list[tuple[Path, Path]]:
    """The files that are meant, each with its path below the folder it was found in.

    Args:
        sources: files and folders; folders are searched through.
        reads: suffixes of what is taken from folders.

    Raises:
        ValueError: a source is missing, or a folder holds nothing to read.
    """
    found: list[tuple[Path, Path]] = []
    for source in sources:
        if source.is_dir():
            inside = sorted(p for p in source.rglob("*") if p.suffix.lower() in reads and p.is_file())
            if not inside:
                raise ValueError(f"{source}: holds no file to read ({', '.join(sorted(reads))})")
            found += [(p, p.relative_to(source)) for p in inside]
        elif source.is_file():
            found.append((source, Path(source.name)))
        else:
            raise ValueError(f"{source}: no such file or folder")
    return found


def plan(sources: Sequence[Path], out: Path, reads: frozenset[str], writes: str, force: bool) -> list[Job]:
    """Which file becomes which.

    Args:
        sources: see `find`.
        out: a file if there is one source file and `out` has a suffix, else a folder.
        reads: see `find`.
        writes: suffix of what is made in a folder.
        force: whether files may be replaced.

    Raises:
        ValueError: see `find`; or two sources would make one file, or a file would be replaced.
    """
    found = find(sources, reads)
    if len(found) == 1 and sources[0].is_file() and out.suffix and not out.is_dir():
        jobs = [Job(found[0][0], out)]
    else:
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out}: must be a folder, since there are several pictures")
        jobs = [Job(source, out / below.with_suffix(writes)) for source, below in found]
    made: dict[Path, Path] = {}
    for job in jobs:
        if (other := made.setdefault(job.target, job.source)) != job.source:
            raise ValueError(f"{job.source} and {other} would both become {job.target}")
        if job.target.exists() and job.target.samefile(job.source):
            raise ValueError(f"{job.target}: would replace its own source")
        if job.target.exists() and not force:
            raise ValueError(f"{job.target}: exists; --force replaces it")
    return jobs


@contextlib.contextmanager
def _its_error(path: Path) -> Iterator[None]:
    """Begin a mistake's message with the file's path."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _each(jobs: Sequence[Job], what: str, work: Callable[[Job], Row], report: bool) -> int:
    """Do all jobs, telling a failed one in a line and going on; the exit status."""
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
        print(table(rows))
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


def _codec(args: argparse.Namespace) -> Codec:
    return regicomp.load(args.model, precision=args.precision, tile=args.tile, max_pixels=args.max_pixels)


def _encode(args: argparse.Namespace) -> int:
    jobs = plan(args.input, args.output, picture.INPUTS, SUFFIX, args.force)
    codec = _codec(args)

    def work(job: Job) -> Row:
        read = picture.read(job.source, args.max_pixels)
        started = time.perf_counter()
        data = codec.compress(read)
        seconds = time.perf_counter() - started
        files.write_bytes(job.target, data)
        psnr = similarity = decoding = None
        if args.report:
            from regicomp.evaluation import round_trip

            started = time.perf_counter()
            back = codec.decompress_picture(data)
            decoding = time.perf_counter() - started
            psnr = round_trip.psnr_of(read.pixels, back.pixels)
            similarity = round_trip.ms_ssim_of(read.pixels, back.pixels)[0]
        height, width = read.pixels.shape[:2]
        return Row(job.source.name, width, height, len(data), psnr, similarity, seconds, decoding)

    return _each(jobs, "compressing", work, args.report)


def _decode(args: argparse.Namespace) -> int:
    jobs = plan(args.input, args.output, frozenset({SUFFIX}), ".png", args.force)
    for job in jobs:
        picture.image_format(job.target)
    with contextlib.ExitStack() as stack:
        if args.isolated:
            from regicomp.image_codec.sandbox import IsolatedDecoder

            settings = {"precision": args.precision, "tile": args.tile, "max_pixels": args.max_pixels}
            decompress = stack.enter_context(IsolatedDecoder(args.model, settings)).decompress
        else:
            decompress = _codec(args).decompress_picture

        def work(job: Job) -> Row:
            data = job.source.read_bytes()
            started = time.perf_counter()
            back = decompress(data)
            seconds = time.perf_counter() - started
            files.write_bytes(job.target, picture.file_bytes(picture.to_pillow(back), job.target))
            height, width = back.pixels.shape[:2]
            return Row(job.source.name, width, height, len(data), None, None, None, seconds)

        return _each(jobs, "decompressing", work, args.report)


def describe(data: bytes, max_pixels: int) -> list[str]:
    """What a file says of itself; its latents are not decoded.

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
    return [
        f"  {container.width}x{container.height} {mode}, format {bitstream.VERSION}, "
        f"codec {container.fingerprint.hex()}{tiles}",
        *parts,
        share("header", len(data) - known),
        share("all", len(data)),
    ]


def _info(args: argparse.Namespace) -> int:
    jobs = [Job(path, path) for path, _ in find(args.input, frozenset({SUFFIX}))]

    def work(job: Job) -> Row:
        lines = describe(job.source.read_bytes(), args.max_pixels)
        tqdm.write("\n".join([str(job.source), *lines]))
        return Row(job.source.name, 1, 1, 0, None, None, None, None)

    return _each(jobs, "reading", work, report=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m regicomp.codec", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, told in (
        ("encode", _encode, "pictures to .rgc files"),
        ("decode", _decode, ".rgc files to pictures"),
        ("info", _info, "size, codec and bits by stream of .rgc files, without decoding them"),
    ):
        command = commands.add_parser(name, help=told, description=told)
        command.set_defaults(run=run)
        command.add_argument("input", nargs="+", type=Path, help="files and folders")
        command.add_argument(
            "--max-pixels", type=int, default=bitstream.MAX_PIXELS, help="larger pictures are refused (%(default)s)"
        )
        if name == "info":
            continue
        command.add_argument("output", type=Path, help="a file, or a folder where there are several pictures")
        command.add_argument(
            "--model",
            default=regicomp.SHIPPED,
            type=Path,
            help="the codec.safetensors of a run (default: the codec that comes with regicomp)",
        )
        command.add_argument("--force", action="store_true", help="replace files that exist")
        command.add_argument("--report", action="store_true", help="print a table of sizes, quality and seconds")
        command.add_argument(
            "--precision",
            choices=("auto", "float32", "bf16"),
            default="auto",
            help="of the transforms; auto: bf16 where the hardware is fast at it",
        )
        command.add_argument(
            "--tile",
            type=int,
            metavar="N",
            help="side in pixels of the tiles the transforms are computed in, which bounds their memory "
            "(default: 1024 above 4,194,304 pixels); decoding takes what the file says",
        )
        if name == "decode":
            command.add_argument("--isolated", action="store_true", help="decode in a child process of bounded memory")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    args = _parser().parse_args(argv)
    with files.told_in_one_line():
        from regicomp.config import settings as config

        config.quiet_libraries()
        status = args.run(args)
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
