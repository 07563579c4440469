"""Train and measure neural image codecs with an information-theoretic regularizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regicomp.image_codec.codec import Codec

# CompressAI 1.2.8 scripts a helper at import, which torch deprecates: nothing that a user could mend.
warnings.filterwarnings("ignore", message=".*torch.jit.script. is deprecated")

__version__ = "0.1.0"

SHIPPED = Path(__file__).parent / "pretrained" / "codec.safetensors"  # made by experiments/shipped


def load(path: str | Path = SHIPPED, *, trust: Iterable[str] = (), **settings: Any) -> Codec:
    """A trained codec, ready to compress and decompress pictures.

    Args:
        path: the folder of a run, its `codec.safetensors`, or a checkpoint of CompressAI's (`.pth.tar`); by default the
            codec that comes with regicomp.
        trust: your own modules whose classes the file may name, beside those of regicomp and CompressAI; they are run.
        settings: `precision`, `tile`, `max_pixels`, `device`; see `regicomp.image_codec.codec.Codec`.

    Raises:
        ValueError: the file is no codec, or a setting is out of range.
    """
    # Loading PyTorch takes seconds, which `import regicomp` alone should not.
    from regicomp.image_codec.codec import Codec
    from regicomp.image_codec.model_file import load_codec
    from regicomp.image_codec.trust import modules

    return Codec(load_codec(Path(path), modules(trust)), **settings)
