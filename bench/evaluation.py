"""Images a second of our evaluation against `compressai.utils.eval_model`, on the same codec in one run.

`python -m bench.evaluation [--codec FILE] [--images 24] [--threads 1] [--workers N]`

Both take turns on each Kodak image in one process: eval_model codes, decodes, and computes PSNR and MS-SSIM; ours does
that in float32 and with g_a and g_s in bf16, and also writes and reads the file, estimates the rate, and checks the
decoded image against the encoder's reconstruction. Without `--codec`, random weights of the full-size hyperprior are
made lifelike as in `bench.coding`. eval_model computes with one thread, so that is the default here. `--workers`
measures all images once more in so many processes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from regicomp.config import resolvers
from regicomp.utils import cli

cli.quiet_libraries()

import compressai.utils.eval_model.__main__ as theirs  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from bench.coding import enliven, kodak, spec_of  # noqa: E402
from bench.train_step import this_machine  # noqa: E402
from regicomp.data import images  # noqa: E402
from regicomp.data.testsets import TestImage  # noqa: E402
from regicomp.evaluation import round_trip  # noqa: E402
from regicomp.evaluation import workers as parallel  # noqa: E402
from regicomp.image_codec import container, model_file  # noqa: E402
from regicomp.utils import files  # noqa: E402

RESULTS = Path(__file__).parent / "evaluation.json"
PRECISIONS = ("float32", "bf16")
EVAL_MODEL = "eval_model"


class Measured(NamedTuple):
    """One image, as one of them measured it."""

    seconds: float
    cpu_seconds: float  # of all cores together, which other programs on the machine disturb less
    psnr_db: float
    ms_ssim: float | None
    strings: tuple[bytes, ...]  # of z and y, in any order
    container_bytes: int | None

    @property
    def string_bytes(self) -> int:
        """Bytes of the strings alone, without a container."""
        return sum(map(len, self.strings))


def example(folder: Path) -> Path:
    """The full-size hyperprior with lifelike random weights, exported."""
    torch.manual_seed(0)
    spec = spec_of("hyperprior")
    codec: Any = model_file.build(spec, "backbone").eval()
    enliven(codec, "hyperprior", round_trip.to_tensor(images.read(kodak(1)[0])))
    model_file.save_codec(folder / "codec.safetensors", codec, spec, {})
    return folder / "codec.safetensors"


def compressai_s(loaded: model_file.Loaded) -> Any:
    """CompressAI's own class with the codec's weights and tables."""
    cls = next(c for c in type(loaded.network).__mro__ if c.__module__.startswith("compressai."))
    model: Any = cls(**loaded.spec.arguments)
    model.load_state_dict(loaded.network.state_dict())
    return model.eval()


class _Watched:
    """Within the block, what `coder`'s method `name` returns is kept, and the block is timed."""

    def __init__(self, coder: Any, name: str) -> None:
        self._coder, self._name = coder, name
        self.returned: list[Any] = []

    def __enter__(self) -> Self:
        method = getattr(type(self._coder), self._name)

        def noted(given: Any) -> Any:
            self.returned.append(method(self._coder, given))
            return self.returned[-1]

        setattr(self._coder, self._name, noted)
        self.seconds, self.cpu_seconds = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter()
        self.cpu_seconds += time.process_time()
        delattr(self._coder, self._name)


def by_eval_model(model: Any, path: Path) -> Measured:
    """One image by CompressAI's evaluation."""
    with _Watched(model, "compress") as seen:
        found = theirs.eval_model(
            model, path.parent, path.parent, [path], architecture="bmshj2018-hyperprior", half=False, per_image=False
        )
    strings = tuple(sorted(s for part in seen.returned[0]["strings"] for s in part))
    return Measured(seen.seconds, seen.cpu_seconds, found["psnr-rgb"], found["ms-ssim-rgb"], strings, None)


def by_ours(codec: Any, path: Path) -> Measured:
    """One image by our evaluation."""
    with _Watched(codec, "encode") as seen:
        found = round_trip.measure(codec, TestImage(path.name, partial(images.read, path)))
    strings = tuple(sorted(container.unpack(seen.returned[0], codec.max_pixels).streams))
    return Measured(seen.seconds, seen.cpu_seconds, found.psnr_db, found.ms_ssim, strings, found.bytes)


def summarize(name: str, rows: list[Measured], references: list[Measured], pixels: list[int]) -> dict[str, Any]:
    """Speeds and differences over the images; `references` are eval_model's rows."""
    pairs = list(zip(rows, references, strict=True))
    bpp = [8 * r.string_bytes / p for r, p in zip(rows, pixels, strict=True)]
    reference_bpp = [8 * r.string_bytes / p for r, p in zip(references, pixels, strict=True)]
    differences = [a.psnr_db - b.psnr_db for a, b in pairs]
    return {
        "name": name,
        "images_per_second": len(rows) / sum(r.seconds for r in rows),
        "ratio": statistics.median(b.seconds / a.seconds for a, b in pairs),
        "cpu_ratio": statistics.median(b.cpu_seconds / a.cpu_seconds for a, b in pairs),
        "same_strings": sum(a.strings == b.strings for a, b in pairs),
        "psnr_db": statistics.mean(r.psnr_db for r in rows),
        "psnr_difference_db": statistics.mean(differences),
        "largest_psnr_difference_db": max(differences, key=abs),
        "bpp_of_strings": statistics.mean(bpp),
        "bpp_difference_percent": 100 * (sum(bpp) / sum(reference_bpp) - 1),
        "container_bytes_more": None
        if rows[0].container_bytes is None
        else statistics.mean((r.container_bytes or 0) - r.string_bytes for r in rows),
    }


def in_processes(codec: Path, paths: list[Path], workers: int) -> dict[str, Any]:
    """All images in parallel processes, and whether the rows are those of one process."""
    listed = [TestImage(path.name, partial(images.read, path)) for path in paths]
    alone = round_trip.Codec(model_file.load_codec(codec))
    started = time.perf_counter()
    first = round_trip.measure(alone, listed[0])
    one = time.perf_counter() - started
    with parallel.processes(workers, parallel.Files(codec, None)) as helpers:
        assert helpers is not None
        started = time.perf_counter()
        came: list[float] = []
        rows = {}
        for k, row in helpers.measure(listed):
            came.append(time.perf_counter())
            rows[k] = row
    seconds = came[-1] - started
    timed = ("encode_seconds", "decode_seconds")
    return {
        "workers": workers,
        "images_per_second": len(listed) / seconds,
        "images_per_second_after_the_first": (len(listed) - 1) / max(came[-1] - came[0], 1e-9),
        "seconds_of_one_image_alone": one,
        "first_row_is_equal": first._replace(**dict.fromkeys(timed, 0.0))
        == rows[0]._replace(**dict.fromkeys(timed, 0.0)),
    }


def _table(results: dict[str, Any], count: int) -> Table:
    table = Table(title=f"Kodak, {count} images; ratios are eval_model's time over ours, in brackets of processor time")
    for column in ("evaluation", "images/s", "ratio", "same strings", "PSNR dB", "difference", "largest", "bpp", ""):
        table.add_column(column)
    for row in results["rows"]:
        table.add_row(
            row["name"],
            f"{row['images_per_second']:.3f}",
            f"{row['ratio']:.2f} ({row['cpu_ratio']:.2f})",
            f"{row['same_strings']} of {count}",
            f"{row['psnr_db']:.4f}",
            f"{row['psnr_difference_db']:+.5f}",
            f"{row['largest_psnr_difference_db']:+.5f}",
            f"{row['bpp_of_strings']:.5f}",
            f"{row['bpp_difference_percent']:+.4f} %",
        )
    return table


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, help="a codec.safetensors of a class that CompressAI has too")
    parser.add_argument("--images", type=int, default=24, help="of Kodak")
    parser.add_argument("--threads", type=int, default=1, help="that both compute with")
    parser.add_argument("--workers", type=int, default=1, help="also measure in so many processes")
    arguments = parser.parse_args()
    resolvers.register_resolvers()
    torch.set_num_threads(arguments.threads)
    paths = kodak(arguments.images, wide=False)
    machine = {**this_machine(), "threads": arguments.threads}
    console = Console(width=150)
    console.print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.codec or example(Path(folder))
        model = compressai_s(model_file.load_codec(path))
        ours = {p: round_trip.Codec(model_file.load_codec(path), p) for p in PRECISIONS}
        small = images.read(paths[0])[:128, :128]
        for codec in ours.values():
            codec.decode(codec.encode(small))  # learns its layout, prepares its tables
        rows: dict[str, list[Measured]] = {EVAL_MODEL: [], **{p: [] for p in PRECISIONS}}
        for image in paths:
            rows[EVAL_MODEL].append(by_eval_model(model, image))
            for p in PRECISIONS:
                rows[p].append(by_ours(ours[p], image))
            console.print(image.name, ", ".join(f"{name} {found[-1].seconds:.2f} s" for name, found in rows.items()))
        sizes = [width * height for width, height in map(images.size, paths)]
        results: dict[str, Any] = {
            "machine": machine,
            "codec": str(arguments.codec.name) if arguments.codec else "lifelike random weights",
            "images": [p.name for p in paths],
            "rows": [summarize(name, found, rows[EVAL_MODEL], sizes) for name, found in rows.items()],
        }
        console.print(_table(results, len(paths)))
        if arguments.workers > 1:
            results["processes"] = in_processes(path, paths, arguments.workers)
            console.print(results["processes"])
    files.write_json(RESULTS, results)


if __name__ == "__main__":
    main()
