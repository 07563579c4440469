"""`python -m regicomp.codec`: compress pictures with a trained codec, decompress them, and look into files."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Sequence

import regicomp
from regicomp.image_codec import batch, folders, options, picture
from regicomp.utils import cli


def _encode(args: argparse.Namespace) -> int:
    jobs = folders.plan(args.input, args.output, picture.INPUTS, folders.SUFFIX, args.force)
    codec = regicomp.load(args.model, **options.of_codec(args))
    from regicomp.image_codec import aim

    compress = functools.partial(aim.compress, codec, aim=options.aim_of(args))
    if not args.report:
        return batch.encode(jobs, codec, aim=compress)
    from regicomp.evaluation import metrics

    return batch.encode(jobs, codec, metrics.psnr_and_ms_ssim, compress)


def _decode(args: argparse.Namespace) -> int:
    jobs = folders.plan(args.input, args.output, frozenset({folders.SUFFIX}), ".png", args.force)
    for job in jobs:
        if not folders.is_stream(job.target):
            picture.image_format(job.target)
    if not args.isolated:
        return batch.decode(jobs, regicomp.load(args.model, **options.of_codec(args)).decompress_picture, args.report)
    from regicomp.image_codec.sandbox import IsolatedDecoder

    with contextlib.closing(IsolatedDecoder(args.model, options.of_codec(args))) as decoder:
        return batch.decode(jobs, decoder.decompress, args.report)


def _info(args: argparse.Namespace) -> int:
    models, others = folders.models(args.input or [regicomp.SHIPPED])
    if models:
        from regicomp.evaluation import model_card

        model_card.print_all(models, args.trust)
    return batch.info([path for path, _ in folders.find(others, frozenset({folders.SUFFIX}))], args.max_pixels)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    args = options.parser(__doc__, {"encode": _encode, "decode": _decode, "info": _info}).parse_args(argv)
    with cli.told_in_one_line("the files that were written are whole"):
        cli.quiet_libraries()
        if status := args.run(args):
            raise SystemExit(status)


if __name__ == "__main__":
    main()
