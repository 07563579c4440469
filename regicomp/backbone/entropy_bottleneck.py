"""CompressAI's entropy bottleneck, without its waits for the device, and with one lattice for ẑ.

*Waits.* Its forward pass keeps the order of axes in a tensor and iterates over it: twelve values that are read back in
every update, each after all that was queued before. Here the order is one of Python's integers.

*Lattice.* ẑ is z rounded to an integer number of steps from its median. Codecs that round z in training,
straight-through, have learned with a median that training leaves alone; a median solved for afterwards would move every
ẑ by up to half a step, to values that h_s was not trained on. Codecs that add noise instead were trained on all values
of z, without a lattice.

Legend: B batch, C channels.
"""

from __future__ import annotations

from types import MethodType

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn


def _forward(self: EntropyBottleneck, x: Tensor, training: bool | None = None) -> tuple[Tensor, Tensor]:
    """Quantized values and their likelihoods, each (B, C, …), as `EntropyBottleneck.forward` gives them."""
    mode = "noise" if (self.training if training is None else training) else "dequantize"
    channels_first = x.transpose(0, 1).contiguous()
    quantized = self.quantize(channels_first.reshape(x.shape[1], 1, -1), mode, self._get_medians())
    likelihoods, _, _ = self._likelihood(quantized)
    if self.use_likelihood_bound:
        likelihoods = self.likelihood_lower_bound(likelihoods)
    quantized, likelihoods = (t.reshape(channels_first.shape).transpose(0, 1) for t in (quantized, likelihoods))
    return quantized.contiguous(), likelihoods.contiguous()


def without_read_backs(codec: nn.Module) -> None:
    """Give every entropy bottleneck of a codec this forward pass, in place; classes with one of their own keep it."""
    for module in codec.modules():
        if isinstance(module, EntropyBottleneck) and type(module).forward is EntropyBottleneck.forward:
            module.forward = MethodType(_forward, module)


def _round_in_training(codec: nn.Module) -> list[EntropyBottleneck]:
    """Bottlenecks whose owners say so as CompressAI's `HyperLatentCodec` does, by `quantizer`."""
    owners = [m for m in codec.modules() if getattr(m, "quantizer", None) == "ste"]
    found = [getattr(owner, "entropy_bottleneck", None) for owner in owners]
    return [bottleneck for bottleneck in found if isinstance(bottleneck, EntropyBottleneck)]


@torch.no_grad()
def update_tables(codec: nn.Module) -> None:
    """Make a trained codec's entropy tables, in place: solve for the quantiles of z, keep the lattice of ẑ.

    Where training rounds z, the median becomes the point nearest to it of the lattice that the codec was trained with.

    Args:
        codec: has CompressAI's `update`.
    """
    trained = [(bottleneck, bottleneck.quantiles[:, 0, 1].clone()) for bottleneck in _round_in_training(codec)]
    codec.update(force=True, update_quantiles=True)  # pyright: ignore[reportCallIssue]
    for bottleneck, median in trained:
        solved = bottleneck.quantiles[:, 0, 1]
        solved.copy_(median + torch.round(solved - median))
        bottleneck.update(force=True)
