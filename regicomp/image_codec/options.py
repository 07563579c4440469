"""The options of `python -m regicomp.codec`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regicomp
from regicomp.image_codec.container import MAX_PIXELS

if TYPE_CHECKING:  # it loads the codec, and torch
    from regicomp.image_codec.aim import Aim

_TOLD = {
    "encode": "pictures to .rgc files",
    "decode": ".rgc files to pictures",
    "info": "size, codec and bits by stream of .rgc files, without decoding them; the card of a model",
}


def parser(about: str | None, runs: Mapping[str, Callable[[argparse.Namespace], int]]) -> argparse.ArgumentParser:
    """The command's parser.

    Args:
        about: the command's description.
        runs: what runs a subcommand (the parsed `run`), by name.
    """
    made = argparse.ArgumentParser(prog="python -m regicomp.codec", description=about)
    commands = made.add_subparsers(dest="command", required=True)
    for name, told in _TOLD.items():
        command = commands.add_parser(name, help=told, description=told)
        command.set_defaults(run=runs[name])
        nargs, models = (
            ("*", "; or models (default: the codec that comes with regicomp)") if name == "info" else ("+", "")
        )
        command.add_argument("input", nargs=nargs, type=Path, help=f"files and folders; -: standard input{models}")
        command.add_argument(
            "--trust",
            action="append",
            default=[],
            metavar="MODULE",
            help="a module of your own whose class a model may name",
        )
        command.add_argument(
            "--max-pixels", type=int, default=MAX_PIXELS, help="larger pictures are refused (%(default)s)"
        )
        if name != "info":
            _add_common(command)
        if name == "encode":
            _add_aims(command)
        if name == "decode":
            command.add_argument("--isolated", action="store_true", help="decode in a child process of bounded memory")
    return made


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "output",
        type=Path,
        help="a file, or a folder where there are several pictures; -: standard output (a decoded picture is a PNG)",
    )
    command.add_argument(
        "--model",
        default=regicomp.SHIPPED,
        type=Path,
        help="a run's folder, its codec.safetensors, or CompressAI's .pth.tar (default: the codec that comes with "
        "regicomp)",
    )
    command.add_argument("--force", action="store_true", help="replace files that exist")
    command.add_argument("--report", action="store_true", help="print a table of sizes, quality and seconds")
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bf16"),
        default="float32",
        help="of the transforms; auto: bf16 where the hardware is fast at it (default: float32, as for regicomp.load)",
    )
    command.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="side in pixels of the tiles the transforms are computed in, which bounds their memory "
        "(default: 1024 above 4,194,304 pixels); decoding takes what the file says",
    )


def _add_aims(command: argparse.ArgumentParser) -> None:
    aims = command.add_mutually_exclusive_group()
    aims.add_argument(
        "--quality", type=float, metavar="Q", help="of a codec of variable rate: from 1 to its levels, such as 3.5"
    )
    aims.add_argument("--bpp", type=float, metavar="R", help="the quality that gives so many bits a pixel")
    aims.add_argument("--psnr", type=float, metavar="DB", help="the quality that gives so many dB")
    aims.add_argument("--max-bytes", type=int, metavar="N", help="the best quality that takes no more bytes")


def of_codec(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that `regicomp.load` takes."""
    return {"trust": args.trust, "precision": args.precision, "tile": args.tile, "max_pixels": args.max_pixels}


def aim_of(args: argparse.Namespace) -> Aim:
    """The goal for every file.

    Raises:
        ValueError: it is not greater than 0.
    """
    from regicomp.image_codec.aim import Aim

    wanted = Aim(args.quality, args.bpp, args.psnr, args.max_bytes)
    if any(value is not None and value <= 0 for value in wanted):
        raise ValueError("`--quality`, `--bpp`, `--psnr` and `--max-bytes` must be greater than 0")
    return wanted
