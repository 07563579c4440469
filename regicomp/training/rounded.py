"""The reconstruction from rounded latents, as at inference, beside the noisy one that a codec trains with."""

from __future__ import annotations

from typing import Any

from compressai.entropy_models import GaussianConditional
from torch import Tensor, nn


class RoundedReconstruction:
    """Gives x̂ from rounded latents, straight-through, for the latest forward pass of a codec trained with noise.

    Call it after the codec; the gradient of rounding is taken to be one, so it reaches the analysis transform. Costs a
    second synthesis transform an update.

    Args:
        codec: with a synthesis transform `g_s` and one `gaussian_conditional` for all of its latent, as CompressAI's
            hyperprior, autoregressive and attention codecs; its `quantize` is listened to.

    Raises:
        ValueError: the codec is built otherwise. ELIC and MLIC++ decode rounded latents in training already.
    """

    def __init__(self, codec: nn.Module) -> None:
        model = getattr(codec, "gaussian_conditional", None)
        if not isinstance(model, GaussianConditional) or not hasattr(codec, "g_s"):
            raise ValueError(
                f"`reg.feed` (=rounded) must be noisy with {type(codec).__name__}: only codecs with g_s and one "
                "gaussian_conditional can be decoded a second time (ELIC and MLIC++ train on rounded latents anyway)"
            )
        self.codec: Any = codec
        self._latest: tuple[Tensor, Tensor | None] | None = None
        self._quantize = model.quantize
        model.quantize = self._listen

    def _listen(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        if mode == "noise":
            self._latest = inputs, means
        return self._quantize(inputs, mode, means)

    def __call__(self) -> Tensor:
        """x̂ from the rounded latents of the codec's latest forward pass in training, (B, 3, H, W), float32."""
        if self._latest is None:
            raise RuntimeError("the codec has not run in training mode since its latest rounded reconstruction")
        (y, means), self._latest = self._latest, None
        rounded = self._quantize(y, "dequantize", means)
        return self.codec.g_s(y + (rounded - y).detach()).float()
