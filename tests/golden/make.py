"""Makes the golden files of this folder: `python tests/golden/make.py`. To be run only when the format changes.

The codec's h_s has weights of few bits, so that its sums are exact in float32 in any order: the latents of the golden
files are the same on every machine, and only the last bits of g_s are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms

import regicomp
from regicomp.backbone import variable_rate
from regicomp.image_codec import container, model_file, picture
from regicomp.image_codec.model_file import Spec

HERE = Path(__file__).parent
SPEC = Spec("compressai.models.ScaleHyperprior", {"N": 4, "M": 6})
SCALES = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]


def make_codec(path: Path) -> None:
    """A codec whose entropy model is exact and whose latents are lively."""
    torch.manual_seed(0)
    codec = model_file.build(SPEC, "backbone")
    with torch.no_grad():
        codec.g_a[-1].weight.mul_(40)  # pyright: ignore
        codec.g_s[-1].weight.mul_(4)  # pyright: ignore
        for layer in codec.h_s:  # pyright: ignore
            if hasattr(layer, "weight"):
                layer.weight.copy_((layer.weight * 16).round() / 16)
                layer.bias.fill_(0.5)
        codec.h_a[-1].weight.mul_(300)  # pyright: ignore
    codec.entropy_bottleneck.update(force=True, update_quantiles=True)  # pyright: ignore
    with torch.no_grad():
        bottleneck = codec.entropy_bottleneck
        bottleneck.quantiles.copy_((bottleneck.quantiles * 16).round() / 16)  # pyright: ignore
    codec.update(scale_table=torch.tensor(SCALES), force=True)  # pyright: ignore
    model_file._write(path, codec.eval(), SPEC, "codec", {"backbone": "hyperprior"})


def add_levels(path: Path, fixed: Path) -> None:
    """The codec of `fixed` with gains of three levels, of one file with a quality."""
    network: Any = regicomp.load(fixed).network
    gains = variable_rate.install(network, [0.01, 0.02, 0.04], 0.5, 2.0)
    with torch.no_grad():
        gains.log_inverse.add_(torch.linspace(-0.1, 0.1, len(gains.log_inverse)))
    model_file._write(path, network.eval(), SPEC, "codec", {"backbone": "hyperprior"})


def make_levels() -> None:
    """Write the codec with levels, a file of it, and what that decodes to."""
    model = HERE / "codec_levels.safetensors"
    add_levels(model, HERE / "codec.safetensors")
    codec = regicomp.load(model, threads=1)
    data = codec.compress(pictures()["rgb"], quality=1.5)
    (HERE / "level.rgc").write_bytes(data)
    (HERE / "level.png").write_bytes(picture.file_bytes(codec.decompress(data), Path("a.png")))
    print("level", len(data))


def pictures() -> dict[str, Image.Image]:
    """Small pictures of every mode that a container knows."""
    rng = np.random.default_rng(0)

    def draw(width: int, height: int, channels: int) -> np.ndarray:
        y, x = np.mgrid[0:height, 0:width]
        waves = [127 + 100 * np.sin(0.1 * (k + 1) * x + 0.07 * y + k) for k in range(channels)]
        return np.clip(np.stack(waves, -1) + rng.normal(0, 8, (height, width, channels)), 0, 255).astype(np.uint8)

    profiled = Image.fromarray(draw(33, 17, 4))
    profiled.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "rgb": Image.fromarray(draw(40, 30, 3)),
        "one": Image.fromarray(draw(1, 1, 3)),
        "grey": Image.fromarray(draw(65, 9, 1)[..., 0]),
        "rgba_icc": profiled,
        "tiles": Image.fromarray(draw(600, 300, 3)),
    }


def main() -> None:
    """Write the codec, the files, and what they decode to."""
    model = HERE / "codec.safetensors"
    make_codec(model)
    for name, image in pictures().items():
        codec = regicomp.load(model, tile=256 if name == "tiles" else None, threads=1)
        data = codec.compress(image)
        (HERE / f"{name}.rgc").write_bytes(data)
        decoded = codec.decompress(data)
        (HERE / f"{name}.png").write_bytes(picture.file_bytes(decoded, Path("a.png")))
        print(name, image.size, image.mode, len(data), [len(s) for s in container.unpack(data).streams])
    make_levels()


if __name__ == "__main__":
    main()
