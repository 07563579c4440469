"""CompressAI's entropy models, without waits for the device, with one lattice for ẑ and unbiased tables for ŷ.

*Waits.* Its forward pass keeps the order of axes in a tensor and iterates over it: twelve values that are read back in
every update, each after all that was queued before. Here the order is one of Python's integers.

*Lattice.* ẑ is z rounded to an integer number of steps from its median. Codecs that round z in training,
straight-through, have learned with a median that training leaves alone; a median solved for afterwards would move every
ẑ by up to half a step, to values that h_s was not trained on. Codecs that add noise instead were trained on all values
of z, without a lattice.

*Tables.* CompressAI codes a sample of y with the table of the next larger of 64 scales, each 13 % above the one before,
and makes that table for the larger scale itself: on average it is 6 % too wide. Where a codec predicts its scales too
large, as after a short training, a sample then costs up to 0.09 bits more than the likelihood says. Here each table is
made for the middle of the scales that use it. Which table a scale uses stays CompressAI's.

Legend: B batch, C channels.
"""

from __future__ import annotations

from types import MethodType

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
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
    Tables of Gaussians are made for the geometric middle of the scales that use them.

    Args:
        codec: has CompressAI's `update`.
    """
    trained = [(bottleneck, bottleneck.quantiles[:, 0, 1].clone()) for bottleneck in _round_in_training(codec)]
    codec.update(force=True, update_quantiles=True)  # pyright: ignore[reportCallIssue]
    for bottleneck, median in trained:
        solved = bottleneck.quantiles[:, 0, 1]
        solved.copy_(median + torch.round(solved - median))
        bottleneck.update(force=True)
    for module in codec.modules():
        if isinstance(module, GaussianConditional):
            _make_for_middles(module)


def _make_for_middles(model: GaussianConditional) -> None:
    """Make the table of each scale, but the outermost, for the geometric middle between it and the scale below it.

    The first one is used by its own scale alone, which bounds all scales from below; the last by all larger ones.
    """
    upper: Tensor = model.scale_table  # pyright: ignore[reportAssignmentType]
    if len(upper) < 3:
        return
    middles = (upper[:-2] * upper[1:-1]).sqrt()
    model.scale_table = torch.cat([upper[:1], middles, upper[-1:]])
    model.update()
    model.scale_table = upper
