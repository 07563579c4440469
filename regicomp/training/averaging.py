"""Exponentially averaged weights: the weights that a run exports and measures where `average.decay` is set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average(nn.Module):
    """Moving averages of parameters, a part of their module's state but no buffers, which DDP would send around.

    Lightning's callback averages a copy of the whole module, the guard's counts and the noise's place included, and
    stores the averages under the parameters' names; here a checkpoint stays one that a run can resume from.

    Args:
        parameters: of the networks that are trained.
        decay: share that the averages keep in each update; less in the first ones, (1 + step) / (10 + step).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        super().__init__()
        self.decay = decay
        self._averaged = list(parameters)
        self._means: list[Tensor] = []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the parameters that codec update `step` left into the averages."""
        if not self._means:
            self._means = [p.detach().clone() for p in self._averaged]
        self._means = [m.to(p.device) for m, p in zip(self._means, self._averaged, strict=True)]  # after a checkpoint
        kept = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(kept)(self._means, [p.detach() for p in self._averaged], step)

    @torch.no_grad()
    def use(self) -> None:
        """Make the averages the parameters; before the first update it does nothing."""
        for p, mean in zip(self._averaged, self._means, strict=bool(self._means)):
            p.copy_(mean)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Within, the averages are the parameters."""
        kept = [p.detach().clone() for p in self._averaged]
        self.use()
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(self._averaged, kept, strict=True):
                    p.copy_(value)

    def get_extra_state(self) -> Any:
        """The averages, for the module's state."""
        return {"means": self._means}

    def set_extra_state(self, state: Any) -> None:
        """Go on from a module's state."""
        self._means = list(state["means"])
