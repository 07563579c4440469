"""A codec that needs no training: block cosines, quantized, with an untrained hyperprior for their scales."""

from __future__ import annotations

import math

import torch
from compressai.models import ScaleHyperprior
from torch import Tensor, nn

from regicomp.backbone import variable_rate
from regicomp.image_codec.codec import Codec
from regicomp.image_codec.model_file import Loaded, Spec

LAMBDAS = [0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483]
_SIDE = 16  # pixels of a block


def cosines(frequencies: int) -> Tensor:
    """Orthonormal block cosines of each colour, (3·frequencies², 3, 16, 16)."""
    at = torch.arange(_SIDE) + 0.5
    rows = torch.stack([torch.cos(math.pi * k * at / _SIDE) * math.sqrt((2 if k else 1) / _SIDE) for k in range(_SIDE)])
    planes = torch.einsum("ah,bw->abhw", rows[:frequencies], rows[:frequencies]).flatten(0, 1)
    filters = torch.zeros(3, len(planes), 3, _SIDE, _SIDE)
    for colour in range(3):
        filters[colour, :, colour] = planes
    return filters.flatten(0, 1)


class Toy(ScaleHyperprior):
    """y are block cosines in steps of eight grey levels."""

    def __init__(self, frequencies: int = 8) -> None:
        filters = cosines(frequencies)
        super().__init__(4, len(filters))
        self.g_a = nn.Conv2d(3, len(filters), _SIDE, _SIDE, bias=False)
        self.g_s = nn.ConvTranspose2d(len(filters), 3, _SIDE, _SIDE, bias=False)
        with torch.no_grad():
            self.g_a.weight.copy_(filters * 255 / 8)
            self.g_s.weight.copy_(filters * 8 / 255)


def toy(first: float = 0.2, last: float = 5.0, scale: float = 1.0) -> Codec:
    """The codec with six levels; `scale` is about that of all its Gaussians."""
    torch.manual_seed(0)
    network = Toy().eval()
    with torch.no_grad():
        network.h_s[-2].bias.fill_(scale)
    variable_rate.install(network, LAMBDAS, first, last)
    network.update(force=True, update_quantiles=True)
    return Codec(Loaded(network, Spec("Toy", {}), {}, bytes(32)), threads=1)
