"""Units of a codec that no image excites: a ReLU that is never above 0 passes nothing on, and no gradient back.

A learning rate that is too great for an architecture drives them there, and the codec trains on with what is left. That
is no harm to most layers, but to one that has no unit left (experiments/recipe).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

log = logging.getLogger(__name__)

_KINDS = (nn.ReLU, nn.GELU)  # the others pass a gradient on everywhere
_NOTHING = 1e-6  # what GELU gives below -5.5


class Layer(NamedTuple):
    """The units of an activation."""

    name: str
    silent: int
    units: int


def layers(network: nn.Module, run: Callable[[], object]) -> list[Layer]:
    """Every ReLU and GELU of a network, and how many of its channels stay at 0 everywhere.

    Args:
        network: whose modules are listened to.
        run: calls the network, once or on several batches.
    """
    heard: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[..., None]:
        def hear(module: nn.Module, args: Any, out: Tensor) -> None:
            del module, args
            channels = 1 if out.dim() == 4 else out.dim() - 1  # (B, C, h, w) or (…, C)
            some = out.detach().movedim(channels, 0).flatten(1).abs().amax(1) > _NOTHING
            heard[name] = heard[name] | some if name in heard else some

        return hear

    named = [(name, module) for name, module in network.named_modules() if isinstance(module, _KINDS)]
    hooks = [module.register_forward_hook(listen(name)) for name, module in named]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return [Layer(name, int((~some).sum()), len(some)) for name, some in heard.items()]


def warning(found: list[Layer], lr: float) -> str | None:
    """The warning that is due; None where every layer has a unit left.

    Args:
        found: see `layers`.
        lr: learning rate of the codec.
    """
    whole = [layer.name for layer in found if layer.silent == layer.units]
    if not whole:
        return None
    return (
        f"all units of {', '.join(whole[:3])}{' and more' if len(whole) > 3 else ''} stay at 0 on this batch: they "
        f"pass nothing on and learn nothing any more; train anew with a smaller `optimizer.lr` (={lr:g})"
    )


class SilentUnits(Callback):
    """Looks, after each tenth of the updates, at the batch of that update; warns once of layers that are silent.

    It computes the codec once more, without a gradient, and changes nothing.

    Args:
        last: the number of updates of the run.
        tell: whether this process writes the warning.
    """

    def __init__(self, last: int, tell: bool = True) -> None:
        self.at = {max(1, last * tenth // 10) for tenth in range(1, 11)} if tell else set[int]()
        self._told = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        """Look, where it is time to, at what was computed last: the batch, or of one in parts the last part."""
        module: Any = pl_module
        if self._told or module.codec_is_fixed or trainer.global_step not in self.at:
            return
        codec: nn.Module = module.codec
        crops = batch.chunk(module.optimization.accumulate)[-1]
        with torch.no_grad():  # in training mode, whose noise each update draws from a seed of its own
            found = layers(codec, lambda: codec((crops.float() / 255).contiguous(memory_format=module.memory_format)))
        line = warning(found, module.optimization.lr)
        if line is not None:
            log.warning("update %d: %s", trainer.global_step, line)
            self._told = True
