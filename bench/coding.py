"""Seconds to encode and decode a Kodak image at full size: ours against CompressAI's classes with the same weights.

`python -m bench.coding [--backbones hyperprior,…] [--images 2] [--rounds 1] [--threads N] [--precision float32]
[--codec FILE]`

Ours and CompressAI's take turns on each image in one process. Both get the same random weights, made lifelike: the last
convolution of g_a is scaled so that the channels of y have standard deviations from 1.5 down to 0.02, as a trained
codec's have, and the biases of the last layers of the entropy model predict them; the rate is then 0.3 to 1 bpp.
MLIC++ stands alone, for CompressAI has none. `--codec` also measures what transforms in bf16 do to a trained codec.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from regicomp.config import resolvers, settings
from regicomp.utils import cli

cli.quiet_libraries()

import compressai.models  # noqa: E402
import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from bench.train_step import this_machine  # noqa: E402
from regicomp.backbone import precision  # noqa: E402
from regicomp.data import images  # noqa: E402
from regicomp.evaluation.round_trip import Codec, to_pixels, to_tensor  # noqa: E402
from regicomp.image_codec import model_file  # noqa: E402
from regicomp.objective.psnr import psnr_of  # noqa: E402

THEIRS = {
    "hyperprior": compressai.models.ScaleHyperprior,
    "autoregressive": compressai.models.JointAutoregressiveHierarchicalPriors,
    "attention": compressai.models.Cheng2020Attention,
    "elic": compressai.models.Elic2022Official,
    "mlicpp": None,
}
RESULTS = Path(__file__).parent / "coding.json"


class Taken(NamedTuple):
    """Times and sizes of coding one image."""

    encode: float  # seconds
    decode: float
    encode_cpu: float  # seconds of all cores together, which other programs on the machine disturb less
    decode_cpu: float
    bytes: int  # of the streams, without a container


def _timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def spec_of(backbone: str) -> model_file.Spec:
    """The backbone at full size, quality 3."""
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[f"backbone={backbone}", "quality=3"])
    return settings.resolve(cfg).backbone


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


@torch.no_grad()
def enliven(codec: Any, backbone: str, x: Tensor) -> None:
    """Make a latent worth coding: see the module's docstring.

    Args:
        codec: any of the five, ours.
        backbone: its name.
        x: the image that y is scaled on, (1, 3, H, W).
    """
    last = [m for m in codec.g_a if isinstance(m, nn.Conv2d)][-1]
    M = last.out_channels
    wanted = 1.5 * (0.02 / 1.5) ** (torch.arange(M) / (M - 1))
    assert last.bias is not None
    until = codec.g_a[: list(codec.g_a).index(last) + 1]
    for _ in range(4):  # ELIC and the attention backbone have a block behind it that is not linear
        last.bias.sub_(until(x)[0].mean((1, 2)))
        factor = (wanted / codec.g_a(x)[0].flatten(1).std(1)).clamp(0.1, 10)
        last.weight.mul_(factor[:, None, None, None])
        last.bias.mul_(factor)

    def predict(layer: nn.Conv2d, channels: slice) -> None:
        layer.weight.mul_(0.1)
        assert layer.bias is not None
        layer.bias.zero_()
        layer.bias[: len(wanted[channels])] = wanted[channels]

    if backbone == "hyperprior":
        predict(_convolutions(codec.h_s)[-1], slice(None))
    elif backbone in ("autoregressive", "attention"):
        predict(_convolutions(codec.entropy_parameters)[-1], slice(None))
    elif backbone == "elic":
        start = 0
        for k, width in enumerate(codec.groups):
            predict(
                _convolutions(codec.latent_codec.y.latent_codec[f"y{k}"].entropy_parameters)[-1],
                slice(start, start + width),
            )
            start += width
    else:
        width = M // len(codec.slices)
        for k, part in enumerate(codec.slices):
            for net in (part.anchor_parameters, part.other_parameters):
                predict(_convolutions(net)[-1], slice(k * width, (k + 1) * width))


def _size(strings: Any) -> int:
    return len(strings) if isinstance(strings, bytes) else sum(map(_size, strings))


@torch.inference_mode()
def take(codec: Any, x: Tensor) -> tuple[Taken, Tensor]:
    """Encode and decode one image, (1, 3, H, W); the decoded one too."""
    coded, encode, encode_cpu = _timed(lambda: codec.compress(x))
    out, decode, decode_cpu = _timed(lambda: codec.decompress(coded["strings"], coded["shape"]))
    return Taken(encode, decode, encode_cpu, decode_cpu, _size(coded["strings"])), out["x_hat"]


def kodak(count: int, wide: bool = True) -> list[Path]:
    """So many Kodak images, spread over the set; or of its 768×512 ones."""
    found = images.find(Path(os.environ.get("REGICOMP_DATA", "data")) / "kodak")
    if wide:
        found = [path for path in found if images.size(path) == (768, 512)]
    return found[:: max(1, len(found) // count)][:count]


def compare(backbone: str, arguments: argparse.Namespace, paths: list[Path]) -> dict[str, Any]:
    """Medians of one backbone, ours and CompressAI's, over images and rounds, and medians of the paired ratios."""
    torch.manual_seed(0)
    spec = spec_of(backbone)
    ours: Any = model_file.build(spec, "backbone").eval()
    pixels = [images.read(path) for path in paths]
    enliven(ours, backbone, to_tensor(pixels[0]))
    ours.update(force=True, update_quantiles=True)
    theirs: Any = None
    if THEIRS[backbone] is not None:
        theirs = THEIRS[backbone](**spec.arguments).eval()
        theirs.load_state_dict(ours.state_dict())
    runs: dict[str, list[Taken]] = {"ours": [], "compressai": []}
    worst = 0.0
    with precision.transforms_in(ours, arguments.precision):
        take(ours, to_tensor(pixels[0][:64, :64]))
        for x in [to_tensor(p) for p in pixels] * arguments.rounds:
            taken, x_hat = take(ours, x)
            runs["ours"].append(taken)
            with torch.inference_mode():
                if not torch.equal(ours(x)["x_hat"].clamp(0, 1), x_hat):
                    raise RuntimeError(f"{backbone}: the decoded image is not the encoder's reconstruction")
            if theirs is not None:
                taken, reference = take(theirs, x)
                runs["compressai"].append(taken)
                worst = max(worst, float((x_hat - reference).abs().max()) * 255)
    result: dict[str, Any] = {
        who: {field: statistics.median(getattr(t, field) for t in taken) for field in Taken._fields}
        for who, taken in runs.items()
        if taken
    }
    if theirs is not None:
        pairs = list(zip(runs["compressai"], runs["ours"], strict=True))
        result["ratios"] = {
            field: statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs)
            for field in Taken._fields[:-1]
        }
        result["bytes_difference_percent"] = [100 * (b.bytes / a.bytes - 1) for a, b in pairs]
        result["worst_difference_grey_levels"] = worst
    result["images"], result["rounds"] = [path.name for path in paths], arguments.rounds
    result["bpp"] = statistics.mean(8 * t.bytes / (768 * 512) for t in runs["ours"])
    return result


@torch.inference_mode()
def bf16_shift(path: Path, paths: list[Path]) -> dict[str, float]:
    """Mean PSNR of a trained codec with its transforms in float32 and in bf16, and the largest change of an image."""
    codec = Codec(model_file.load_codec(path))
    psnr: dict[str, list[float]] = {}
    for mode in ("float32", "bf16"):
        with precision.transforms_in(codec.network, mode):
            pixels = [images.read(p) for p in paths]
            psnr[mode] = [psnr_of(p, to_pixels(codec.decode(codec.encode(p)))) for p in pixels]
    changes = [b - a for a, b in zip(psnr["float32"], psnr["bf16"], strict=True)]
    return {
        **{f"psnr_db_{mode}": statistics.mean(values) for mode, values in psnr.items()},
        "largest_change_db": max(changes, key=abs),
    }


def _row(name: str, result: dict[str, Any]) -> list[str]:
    ours, theirs, ratios = result["ours"], result.get("compressai"), result.get("ratios")
    cells = [name]
    for what in ("encode", "decode"):
        cells += [f"{theirs[what]:.2f}" if theirs else "—", f"{ours[what]:.2f}"]
        cells += [f"{ratios[what]:.2f} ({ratios[what + '_cpu']:.2f})" if ratios else "—"]
    change = max(result.get("bytes_difference_percent", []), key=abs, default=None)
    return [
        *cells,
        f"{theirs['bytes']:.0f}" if theirs else "—",
        f"{ours['bytes']:.0f}",
        "—" if change is None else f"{change:+.3f} %",
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default=",".join(THEIRS))
    parser.add_argument("--images", type=int, default=2, help="of Kodak's 768×512 ones")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="float32", help="of our g_a and g_s: auto, bf16 or float32")
    parser.add_argument("--codec", type=Path, help="a trained codec.safetensors, to measure bf16's effect on PSNR")
    arguments = parser.parse_args()
    resolvers.register_resolvers()
    torch.set_num_threads(arguments.threads)
    machine = {**this_machine(), "threads": arguments.threads, "precision": arguments.precision}
    paths = kodak(arguments.images)
    console = Console(width=150)
    console.print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    table = Table(title=f"seconds an image of 768×512 ({len(paths)} of Kodak); in brackets the ratio of processor time")
    for column in (
        "backbone",
        *("CompressAI encode", "ours", "ratio", "decode", "ours", "ratio"),
        *("bytes", "ours", ""),
    ):
        table.add_column(column)
    results: dict[str, Any] = {}
    for backbone in filter(None, arguments.backbones.split(",")):
        results[backbone] = compare(backbone, arguments, paths)
        console.print(backbone, results[backbone])
        table.add_row(*_row(backbone, results[backbone]))
    written: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if results:
        written["machine"] = machine
        written["backbones"] = {**written.get("backbones", {}), **results}  # those of an earlier run stay
        console.print(table)
    if arguments.codec is not None:
        written["bf16"] = {"images": [p.name for p in paths], **bf16_shift(arguments.codec, paths)}
        console.print("transforms in bf16:", written["bf16"])
    RESULTS.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
