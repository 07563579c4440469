"""Codec updates as CUDA graphs: captured once, then replayed with one launch instead of some thousands.

On a fast GPU small crops leave an update waiting for the processor that launches its kernels. What differs from update
to update is read from memory that stays where it is: crops, levels, learning rates, and the seed of the noise, which
PyTorch hands to a graph at each replay. So a replayed update computes what the launched one does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from regicomp.training.optimizers import Mixed

if TYPE_CHECKING:
    from regicomp.training.module import RegularizedCodec, Seen

log = logging.getLogger(__name__)

_LAUNCHED = 4  # updates of a kind in a row before one is captured: kernels are chosen and states set up in them


class Captured(NamedTuple):
    """One captured update."""

    crops: Tensor  # where a replay reads them
    seen: list[Seen]  # where it leaves what was seen
    replay: Callable[[], Any]


class UpdateGraphs:
    """Computes a module's codec updates, from a graph wherever updates of one kind follow one another.

    Of one kind are updates of equal crops and equal α, so while α rises they are launched as usual; one graph is kept.

    Args:
        capture: takes a function of no arguments, and captures what it launches; for tests, another that runs it.
    """

    def __init__(self, capture: Callable[[Callable[[], Any]], Callable[[], Any]] | None = None) -> None:
        self._stream = torch.cuda.Stream() if capture is None else None
        self._capture = self._captured if capture is None else capture
        self._kind: Any = None
        self._in_a_row = 0
        self._graph: Captured | None = None
        self._failed = False
        self.capturing = False

    def update(self, module: RegularizedCodec, crops: Tensor, step: int) -> list[Seen]:
        """Update both networks of `module` on crops, (B, 3, crop, crop); what was seen, valid until the next update."""
        alpha = 0.0 if module.regularizer is None else module.regularizer.alpha_at(step)
        if (kind := (crops.shape, alpha)) != self._kind:
            self._kind, self._in_a_row, self._graph = kind, 0, None
        if self._graph is None and self._in_a_row >= _LAUNCHED and not self._failed:
            self._graph = self._try(module, crops, step)
        self._in_a_row += 1
        if self._graph is None:
            return self._launched(module, crops, step)
        self._graph.crops.copy_(crops)
        module.draw(crops, step)
        self._graph.replay()
        for optimizer in module.optimizers_of_update:  # there are no gradients, so this only counts the step
            optimizer.step()
        return self._graph.seen

    def _try(self, module: RegularizedCodec, crops: Tensor, step: int) -> Captured | None:
        here, seen = crops.clone(), list[Any]()
        for group in (group for o in module.optimizers_of_update for group in o.param_groups):
            if "capturable" in group:  # of PyTorch's own Adam
                group["capturable"] = True
        self.capturing = True
        try:
            replay = self._capture(lambda: seen.__setitem__(slice(None), module.compute_update(here, step)))
        except RuntimeError as error:
            log.warning("no CUDA graph of the update, which is launched as usual: %s", str(error).splitlines()[0])
            self._failed = True
            for parameter in module.parameters():
                parameter.grad = None
            return None
        finally:
            self.capturing = False
        return Captured(here, seen, replay)

    def _captured(self, run: Callable[[], Any]) -> Callable[[], Any]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            run()
        return graph.replay

    def _launched(self, module: RegularizedCodec, crops: Tensor, step: int) -> list[Seen]:
        """As usual, but on the stream that captures: autograd remembers the one that it first met a parameter on."""
        if self._stream is None:
            return module.compute_update(crops, step)
        outer = torch.cuda.current_stream()
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            seen = module.compute_update(crops, step)
        outer.wait_stream(self._stream)
        return seen


def compute(optimizer: LightningOptimizer | torch.optim.Optimizer) -> None:
    """The part of an optimizer's step that is the same in each; Lightning counts no step."""
    inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
    inner.compute() if isinstance(inner, Mixed) else inner.step()


def held(before: float | Tensor, rate: float, device: torch.device) -> Tensor:
    """A learning rate in memory that a graph reads: where the one before was, if it was on this device."""
    if isinstance(before, Tensor) and before.device.type == device.type:
        return before.fill_(rate)
    return torch.full((), rate, device=device)
