"""Gradients at x̂ by scale: detail, detail of means, …, and each image's mean colours.

MSE weights errors equally at every scale. MS-SSIM is nearly blind to a shift of brightness: a regularizer gradient that
is small beside its gradient over all pixels may be hundreds of times its gradient for a mean colour, which would then
drift freely. One dark colour of one image, to whose shifts it is sensitive, hides that in a whole batch. So where the
distortion is MS-SSIM, the bound on the pressure acts in each scale of each image and colour.

Legend: B batch, H W pixels, K scales.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_TINY = torch.finfo(torch.float32).tiny


def components(gradient: Tensor) -> list[Tensor]:
    """K tensors that add up to a gradient (B, 3, H, W) and are orthogonal, each of its shape.

    The k-th is what varies within blocks of 2^(k+1) pixels a side but not within those of 2^k; the last, the mean of
    each image and colour. K is 1 + ⌈log2 max(H, W)⌉.
    """
    parts: list[Tensor] = []
    finer, side = gradient, 2
    while side // 2 < max(gradient.shape[2:]):
        coarser = _means(gradient, side)
        parts.append(finer - coarser)
        finer, side = coarser, 2 * side
    return [*parts, finer]


def _means(gradient: Tensor, side: int) -> Tensor:
    """In each place the mean of its block; blocks at the border may be smaller."""
    height, width = gradient.shape[2:]
    means = F.avg_pool2d(gradient, side, ceil_mode=True, count_include_pad=False)
    return means.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :height, :width]


def bounded(grad_h: Tensor, grad_d: Tensor, alpha: float, max_pressure: float) -> Tensor:
    """The regularizer's gradient, its pressure bounded in each scale of each image and colour. Nothing is read back.

    Args:
        grad_h: the regularizer's gradient ∂H/∂x̂, (B, 3, H, W).
        grad_d: the distortion's, λ∂D/∂x̂, same shape.
        alpha: α in force.
        max_pressure: bound on α‖grad_h‖/‖grad_d‖ of each.

    Returns:
        The bounded gradient, (B, 3, H, W).
    """
    result = torch.zeros_like(grad_h)
    for part, against in zip(components(grad_h), components(grad_d.to(grad_h.dtype)), strict=True):
        length, most = (torch.linalg.vector_norm(of, dim=(2, 3), keepdim=True) for of in (part, against))
        result += part * (max_pressure * most / (alpha * length).clamp_min(_TINY)).clamp_max(1.0)
    return result
