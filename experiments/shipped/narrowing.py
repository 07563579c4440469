"""A hyperprior without the latent channels that are always zero: the same pictures and bytes from fewer weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from regicomp.backbone.hyperprior import Hyperprior

# Which axis of which weight counts the latent's channels.
_AXES = {"g_a.6.weight": 0, "g_a.6.bias": 0, "g_s.0.weight": 0, "h_a.0.weight": 1, "h_s.4.weight": 0, "h_s.4.bias": 0}


def usage(codec: Any, images: Iterable[Tensor]) -> Tensor:
    """How many latents of each channel are not zero, (M,), over images (1, 3, H, W) in [0, 1]."""
    with torch.inference_mode():
        counts = [codec.g_a(x).round().ne(0).sum((0, 2, 3)) for x in images]
    return torch.stack(counts).sum(0)


def most_used(counts: Tensor, channels: int) -> Tensor:
    """The `channels` of (M,) channels whose latents are most often not zero, in the codec's order."""
    return counts.argsort(descending=True, stable=True)[:channels].sort().values


def narrowed(codec: Hyperprior, keep: Tensor) -> Hyperprior:
    """The codec with the latent channels `keep` alone.

    It makes the same reconstructions of the same ẑ, if all latents of the others are zero. ẑ depends on their values
    before rounding, so it may change slightly.
    """
    state = {
        name: weight.index_select(_AXES[name], keep) if name in _AXES else weight
        for name, weight in codec.state_dict().items()
        if not name.startswith(("gaussian_conditional.", "entropy_bottleneck._"))
    }
    narrow = Hyperprior(codec.N, len(keep))
    torch.nn.Module.load_state_dict(narrow, state, strict=False)
    return narrow
