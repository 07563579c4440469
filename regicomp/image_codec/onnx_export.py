"""A codec's transforms as ONNX graphs; entropy coding stays with regicomp.

The graphs take any batch and any size whose latents are whole: sides of images in multiples of 64, the codec's
downsampling. Quantization and entropy models are left out: their results must agree bit for bit between encoder and
decoder, which other runtimes do not guarantee.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regicomp.utils import files

TRANSFORMS = ("g_a", "g_s", "h_a", "h_s")
_SIDES = (128, 192)  # of the traced image, pixels: unequal, and more than one position in every latent


class Transform(NamedTuple):
    """A transform and an input it was traced with."""

    module: nn.Module
    example: Tensor  # (1, C, h, w)
    takes: str  # its input, in the letters of the field
    gives: str


def transforms(codec: nn.Module) -> dict[str, Transform]:
    """The four transforms of a codec: its own, or, as in ELIC, those of its latent codec.

    Raises:
        ValueError: the codec lacks one of them.
    """
    found: dict[str, nn.Module] = {}
    for path, module in codec.named_modules():
        if (name := path.rsplit(".", 1)[-1]) in TRANSFORMS:
            found.setdefault(name, module)
    lacking = [name for name in TRANSFORMS if name not in found]
    if lacking:
        raise ValueError(
            f"{type(codec).__name__} has no {', '.join(lacking)}; ONNX export needs {', '.join(TRANSFORMS)}"
        )
    given: list[Tensor] = []
    hook = found["h_a"].register_forward_pre_hook(lambda module, args: given.append(args[0]))
    try:
        with torch.no_grad():
            x = torch.rand(1, 3, *_SIDES, generator=torch.Generator().manual_seed(0))
            codec(x)  # for what it hands to h_a: y, or its magnitude, as the scale hyperprior does
            y = found["g_a"](x)
            z = found["h_a"](given[0])
    finally:
        hook.remove()
    magnitude = bool((y < 0).any() and (given[0] >= 0).all())
    return {
        "g_a": Transform(found["g_a"], x, "x in [0, 1]", "y"),
        "g_s": Transform(found["g_s"], y, "y_hat", "x_hat"),
        "h_a": Transform(found["h_a"], y, "abs(y)" if magnitude else "y", "z"),
        "h_s": Transform(found["h_s"], z, "z_hat", "parameters of the entropy model of y"),
    }


def export(codec: nn.Module, folder: Path) -> list[Path]:
    """Write g_a, g_s, h_a and h_s of `codec` to `folder`, as NAME.onnx.

    Args:
        codec: in evaluation mode, on the CPU.
        folder: made where missing; files of these names are replaced.

    Returns:
        The files written.

    Raises:
        ValueError: the codec lacks a transform, or the packages for ONNX are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"ONNX export needs {error.name}: pip install 'regicomp[onnx]'") from error
    any_size = torch.export.Dim.DYNAMIC
    written: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, transform in transforms(codec).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's remarks on its own deprecated calls
            program = torch.onnx.export(
                transform.module,
                (transform.example,),
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: any_size, 2: any_size, 3: any_size},),
                dynamo=True,
                verbose=False,
            )
        if program is None:
            raise RuntimeError(f"torch.onnx.export gave no program for {name}")
        program.model.doc_string = f"{name}: takes {transform.takes}, gives {transform.gives}"
        path = folder / f"{name}.onnx"
        files.write_bytes(path, program.model_proto.SerializeToString())
        written.append(path)
    return written
