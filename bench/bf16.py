"""The effect of transforms in bf16, image by image: PSNR, latents that round otherwise, and where these lie.

`python -m bench.bf16 --codec FILE [--only kodim20] [--float-layers 0 1]` (needs $REGICOMP_DATA/kodak; a codec whose g_a
and g_s are sequences, such as the hyperprior's) prints a table and, measuring all images, writes bf16.json. "Even" is a
16×16 block, the pitch of the latents, that is nearly one colour.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from regicomp.utils import cli

cli.quiet_libraries()

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from bench.coding import kodak  # noqa: E402
from bench.train_step import this_machine  # noqa: E402
from regicomp.data import images  # noqa: E402
from regicomp.data.images import Pixels  # noqa: E402
from regicomp.image_codec import model_file  # noqa: E402
from regicomp.image_codec.codec import to_pixels, to_tensor  # noqa: E402
from regicomp.objective.psnr import psnr_of  # noqa: E402
from regicomp.utils import files  # noqa: E402

RESULTS = Path(__file__).parent / "bf16.json"
_EVEN = 6 / 255  # largest range of a sample within an even block
_BLOCK = 16


def mixed(transform: nn.Sequential, x: Tensor, float_layers: int) -> Tensor:
    """`transform` in bf16 autocast but for its last layers, (B, C, H, W) -> (B, C', H', W')."""
    layers = list(transform)
    cut = len(layers) - float_layers
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        for layer in layers[:cut]:
            x = layer(x)
    x = x.float()
    for layer in layers[cut:]:
        x = layer(x)
    return x.float()


def even_blocks(x: Tensor) -> Tensor:
    """Which blocks of (1, 3, H, W) are nearly one colour, (H/16, W/16)."""
    highest, lowest = F.max_pool2d(x, _BLOCK), -F.max_pool2d(-x, _BLOCK)
    return ((highest - lowest).amax(1) < _EVEN)[0]


def compare(codec: Any, pixels: Pixels, float_layers: int) -> dict[str, Any]:
    """One 8-bit image (H, W, 3) in float32 and in bf16; its sides are multiples of 64, as Kodak's are."""

    def psnr(x_hat: Tensor) -> float:
        return psnr_of(pixels, to_pixels(x_hat))

    x = to_tensor(pixels)
    y = codec.g_a(x)
    symbols, in_bf16 = y.round(), mixed(codec.g_a, x, float_layers).round()
    other = (symbols != in_bf16)[0]
    even = even_blocks(x)
    in_float = psnr(codec.g_s(symbols))
    found = {
        "float_layers": float_layers,
        "psnr_db": in_float,
        "change_db": psnr(mixed(codec.g_s, in_bf16, float_layers)) - in_float,
        "other_symbols": other.float().mean().item(),
        "even_share": even.float().mean().item(),
        "of_other_symbols_in_even": (other[:, even].sum() / other.sum().clamp(min=1)).item(),
    }
    if other[:, even].any():
        channel = int(other[:, even].sum(1).argmax())
        alone = symbols.clone()
        alone[0, channel] = torch.where(even, in_bf16[0, channel], alone[0, channel])
        found["channel"] = {
            "index": channel,
            "latent_mean": y[0, channel][even].mean().item(),
            "changed": int(other[channel, even].sum()),
            "positions": int(even.sum()),
            "change_db_alone": psnr(codec.g_s(alone)) - in_float,
        }
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, required=True, help="a codec.safetensors")
    parser.add_argument("--float-layers", type=int, nargs="+", default=[0], help="last layers kept in float32")
    parser.add_argument("--only", help="one image, such as kodim20")
    arguments = parser.parse_args()
    codec = model_file.load_codec(arguments.codec).network
    chosen = [path for path in kodak(24, wide=False) if arguments.only in (None, path.stem)]
    rows: list[dict[str, Any]] = []
    table = Table("image", "layers in float32", "PSNR dB", "change", "other symbols", "of them even", "even blocks")
    with torch.inference_mode():
        for path in chosen:
            pixels = images.read(path)
            for count in arguments.float_layers:
                row = {"image": path.name, **compare(codec, pixels, count)}
                rows.append(row)
                table.add_row(
                    *(path.stem, str(count), f"{row['psnr_db']:.3f}", f"{row['change_db']:+.4f}"),
                    *(f"{100 * row[k]:.3f} %" for k in ("other_symbols", "of_other_symbols_in_even", "even_share")),
                )
    if not rows:
        raise SystemExit(f"error: `--only` (={arguments.only}) must be the name of a Kodak image, such as kodim20")
    if arguments.only is None:
        files.write_json(RESULTS, {"machine": this_machine(), "codec": arguments.codec.name, "rows": rows})
    console = Console(width=140)
    console.print(table)
    changes = [row["change_db"] for row in rows if row["float_layers"] == arguments.float_layers[0]]
    console.print(f"mean change {statistics.mean(changes):+.4f} dB; largest {max(changes, key=abs):+.4f} dB")


if __name__ == "__main__":
    main()
