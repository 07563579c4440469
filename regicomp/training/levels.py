"""Training at variable rate: which image of a batch is coded at which level, and what each level has come to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from regicomp.backbone.variable_rate import Gains
from regicomp.distributed import collectives
from regicomp.objective.by_image import ByImage
from regicomp.objective.psnr import psnr_db
from regicomp.source.told_level import ToldLevel
from regicomp.training.quantization import Rows

_STREAM = 3  # of the run's random numbers; the crops' are 1 and 2 (data/crops.py)


def of_batch(seed: int, step: int, batch: int, levels: int) -> Tensor:
    """The level, from 1, of each place in an update's batch, float32, (batch,); a pure function of its arguments.

    Places are filled with one random order of the levels after another, so that an update has each level equally often,
    or once more.
    """
    rng = np.random.default_rng([seed, _STREAM, step])
    orders = [rng.permutation(levels) for _ in range(math.ceil(batch / levels))]
    return torch.from_numpy(np.concatenate(orders)[:batch] + 1).float()


class Levels(nn.Module):
    """Sets the level of every image before a forward pass, and keeps what each level has come to since it was read.

    Args:
        gains: of the codec.
        objective: which weighs each image with its level's λ.
        told: of the source model, where there is one.
        seed: of the run.
        alphas: α of each level, relative to the largest; None: they do not differ.
    """

    sums: Tensor

    def __init__(
        self,
        gains: Gains,
        objective: ByImage,
        told: ToldLevel | None,
        seed: int,
        alphas: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self._parts = gains, objective, told  # a tuple: their weights are another module's
        self._seed = seed
        self._lambdas = torch.tensor(objective.lambdas)
        self._alphas = None if alphas is None else torch.tensor(alphas)
        self._held: dict[str, Tensor] = {}  # what is set for a batch, on its device
        # By level: images, sum of their bits per pixel, sum of their squared errors. Kept in checkpoints, so that a
        # resumed run logs what an unbroken one does.
        self.register_buffer("sums", torch.zeros(3, gains.levels))

    def begin(self, step: int, rows: Rows, device: torch.device) -> None:
        """Set the levels of the part of update `step`'s batch that is computed now."""
        gains, objective, told = self._parts
        chosen = slice(rows.first, rows.first + rows.stride * rows.here, rows.stride)
        of_update = of_batch(self._seed, step, rows.batch, gains.levels)
        levels = of_update[chosen]
        rows_of_levels = levels.long() - 1
        self._hold("rows", rows_of_levels, device)
        if self._alphas is not None:  # of all this process's images, whose gradients are taken at once
            of_process = of_update[rows.first % rows.stride :: rows.stride].long() - 1
            objective.shares = self._hold("shares", self._alphas[of_process], device)
        objective.of_images = self._hold("lambdas", self._lambdas[rows_of_levels], device)
        quality = self._hold("quality", levels, device)
        for listener in (gains, told):
            if listener is not None:
                listener.set(quality)

    def _hold(self, name: str, values: Tensor, device: torch.device) -> Tensor:
        """`values` on `device`, where those of the batch before were if they fit: a CUDA graph reads on there."""
        held = self._held.get(name)
        if held is None or held.shape != values.shape or held.device.type != device.type:
            held = self._held[name] = torch.empty_like(values, device=device)
        return held.copy_(values, non_blocking=True)

    def see(self) -> None:
        """Add the images of the forward pass that has just been made; waits for no device."""
        latest = self._parts[1].latest
        if latest is not None:
            seen = torch.stack([torch.ones_like(latest.rate_bpp), *latest])
            seen = torch.where(seen.isfinite().all(0), seen, 0.0)  # an update that is not finite is skipped
            self.sums.index_add_(1, self._held["rows"], seen)

    def read(self) -> dict[str, float]:
        """`rate_bpp_k` and `psnr_db_k` of every level k since the last call; waits for the device.

        PSNR is of the mean squared error, as in `psnr_db` of the whole batch.
        """
        count, rate, error = collectives.total(self.sums).tolist()
        self.sums.zero_()
        found: dict[str, float] = {}
        for k in range(len(count)):
            if count[k]:
                found[f"rate_bpp_{k + 1}"] = rate[k] / count[k]
                found[f"psnr_db_{k + 1}"] = psnr_db(error[k] / count[k])
        return found
