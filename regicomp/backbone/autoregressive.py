"""The backbones with a 5×5 causal context, coded in wavefronts and evaluated as they are coded.

CompressAI's classes code position after position, and round y to integers in their evaluation forward pass but
round y - μ in `compress`, where μ depends on what was coded before: their forward pass is neither the decoder's
picture nor its rate. Here all positions of equal column + 3·row are coded at once. The context of a position is two
rows above, up to two columns to either side, and two columns to the left. There column + 3·row is smaller, so that all
of it is decoded before::

    0  1  2  3  4  5      h = 3, w = 6: 12 fronts instead of 18 positions;
    3  4  5  6  7  8      768×512 pixels: 141 instead of 1536
    6  7  8  9 10 11

Training, weights and state-dict names are CompressAI's. The order of symbols in the stream is not.

Legend: M channels of y, h w its grid, n positions of a front.
"""

from __future__ import annotations

import numpy as np
import torch
from compressai.models import Cheng2020Anchor, Cheng2020Attention, JointAutoregressiveHierarchicalPriors
from torch import Tensor

from regicomp.backbone.fast_layers import quicken
from regicomp.backbone.latent_coding import Head, PartialConvolution, Pass, Quantize, WalkedCodec, rows

_ROW = 3  # how many fronts a row is behind the one above: half the context's width, rounded up


def fronts(h: int, w: int, device: torch.device | str = "cpu") -> list[Tensor]:
    """Positions of an h×w grid that are coded at once, in coding order; each (n,), w + 3(h - 1) of them."""
    positions = np.arange(h * w)
    number = positions % w + _ROW * (positions // w)
    order = torch.from_numpy(np.argsort(number, kind="stable")).to(device)
    return list(order.split(np.bincount(number).tolist()))


class _Wavefront(WalkedCodec, JointAutoregressiveHierarchicalPriors):
    """The walk of any descendant of the autoregressive class."""

    def hyper_latent(self, y: Tensor) -> Tensor:
        """See `WalkedCodec`."""
        return self.h_a(y)

    def walk(self, z_hat: Tensor, quantize: Quantize) -> Tensor:
        """See `WalkedCodec`."""
        params = self.h_s(z_hat)
        h, w = params.shape[2:]
        of_params, of_context = slice(params.shape[1]), slice(params.shape[1], None)
        head, masked = Head(self.entropy_parameters), PartialConvolution(self.context_prediction, h, w)
        begun = head.begin(rows(params), of_params)
        y_hat = masked.padded_grid(self.context_prediction.in_channels)
        for front in fronts(h, w, params.device):
            centres = masked.in_padded(front, w)
            context = masked(y_hat, centres)
            predicted = head.end(head.more(begun[front], context, of_context))
            scales, means = predicted.chunk(2, dim=1)
            y_hat[centres] = quantize(Pass(self.gaussian_conditional, front, slice(None), scales, means))
        return masked.unpadded(y_hat, h, w)


class Autoregressive(_Wavefront):
    """Joint autoregressive and hierarchical priors (Minnen, Ballé, Toderici 2018).

    Args:
        N: channels of the transforms.
        M: channels of the latent y.
    """

    def __init__(self, N: int = 192, M: int = 192) -> None:
        JointAutoregressiveHierarchicalPriors.__init__(self, N, M)
        quicken(self)


class Attention(_Wavefront, Cheng2020Attention):
    """Residual blocks with attention and the same context (Cheng, Sun, Takeuchi, Katto 2020).

    Args:
        N: channels of the transforms and of the latent y.
    """

    def __init__(self, N: int = 192) -> None:
        Cheng2020Attention.__init__(self, N)
        quicken(self)


class Anchor(_Wavefront, Cheng2020Anchor):
    """The same without attention: the anchor that Cheng and others compare with.

    Args:
        N: channels of the transforms and of the latent y.
    """

    def __init__(self, N: int = 192) -> None:
        Cheng2020Anchor.__init__(self, N)
        quicken(self)
