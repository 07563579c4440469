"""ELIC (He, Yang, Peng, Ma, Qin, Wang 2022): CompressAI's class, coded faster and in one stream.

CompressAI computes every context at every position and drops half, and writes a stream for each of the ten passes.
Here each pass computes what it needs. Training, weights and state-dict names are CompressAI's.

Legend: M channels of y in groups of g, h w its grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.models import Elic2022Official
from torch import Tensor

from regicomp.backbone.fast_layers import quicken
from regicomp.backbone.latent_coding import Head, PartialConvolution, Pass, Quantize, WalkedCodec, rows


class Elic(WalkedCodec, Elic2022Official):
    """Uneven channel groups; of each, the positions of even row + column, then the others.

    ::

        groups before ──► channel context ──┬──────────────► head ──► anchors
        hyper ──────────────────────────────┤                            │
        anchors ──► masked 5×5 convolution ─┴──────────────► head ──► others

    Args:
        N: channels of the transforms and of z.
        M: channels of the latent y.
        groups: channels of each group; their sum is M.

    Raises:
        ValueError: the groups do not add up to M.
    """

    def __init__(self, N: int = 192, M: int = 320, groups: Sequence[int] | None = None) -> None:
        if groups is not None and sum(groups) != M:
            raise ValueError(f"`groups` (={list(groups)}) must sum to `M` (={M})")
        Elic2022Official.__init__(self, N, M, groups)
        quicken(self)

    @property
    def bottleneck(self) -> EntropyBottleneck:
        """Of z."""
        return self.latent_codec.hyper.entropy_bottleneck  # pyright: ignore

    def hyper_latent(self, y: Tensor) -> Tensor:
        """See `WalkedCodec`."""
        return self.latent_codec.hyper.h_a(y)  # pyright: ignore

    def walk(self, z_hat: Tensor, quantize: Quantize) -> Tensor:
        """See `WalkedCodec`."""
        latents: Any = self.latent_codec
        hyper = latents.hyper.h_s(z_hat)
        h, w = hyper.shape[2:]
        side = rows(hyper)
        positions = np.arange(h * w)
        odd = (positions // w + positions % w) % 2 == 1
        anchors, others = (torch.from_numpy(positions[of]).to(hyper.device) for of in (~odd, odd))
        y_hat = hyper.new_empty(h * w, sum(self.groups))
        start = 0
        for k, width in enumerate(self.groups):
            group, context = latents.y.latent_codec[f"y{k}"], slice(2 * width)
            head, masked = Head(group.entropy_parameters), PartialConvolution(group.context_prediction, h, w)
            model, channels = group.y.gaussian_conditional, slice(start, start + width)
            known = side
            if start:
                before = y_hat[:, :start].reshape(1, h, w, start).permute(0, 3, 1, 2)
                known = torch.cat([rows(latents.y.channel_context[f"y{k}"](before)), side], dim=1)
            begun = head.begin(known, slice(2 * width, None))
            padded = masked.padded_grid(width)

            scales, means = head.end(begun[anchors]).chunk(2, dim=1)
            values = quantize(Pass(model, anchors, channels, scales, means))
            padded[masked.in_padded(anchors, w)] = values
            y_hat[anchors, channels] = values

            centres = masked.in_padded(others, w)
            begun = head.more(begun[others], masked(padded, centres), context)
            scales, means = head.end(begun).chunk(2, dim=1)
            y_hat[others, channels] = quantize(Pass(model, others, channels, scales, means))
            start += width
        return y_hat.t().reshape(1, -1, h, w).contiguous()
