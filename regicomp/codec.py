"""`python -m regicomp.codec`: compress pictures with a trained codec, decompress them, and look into files."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

import regicomp
from regicomp.image_codec import container as bitstream
from regicomp.image_codec import picture
from regicomp.image_codec.folders import SUFFIX, Job, Row, _each, find, plan
from regicomp.utils import cli, files

if TYPE_CHECKING:
    from regicomp.image_codec.codec import Codec


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
            from regicomp.evaluation import metrics

            started = time.perf_counter()
            back = codec.decompress_picture(data)
            decoding = time.perf_counter() - started
            psnr = metrics.psnr_of(read.pixels, back.pixels)
            similarity = metrics.ms_ssim_of(read.pixels, back.pixels)[0]
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
    with cli.told_in_one_line():
        cli.quiet_libraries()
        status = args.run(args)
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
