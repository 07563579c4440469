"""Requirements on a class that serves as a backbone, checked before anything is trained."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor, nn

_SIDE = 64  # pixels


def check(codec: nn.Module, target: str) -> None:
    """Refuse a codec that could not be trained, or not be measured after its training.

    Args:
        codec: freshly built; its weights stay as they are.
        target: its class, for messages.

    Raises:
        ValueError: it lacks a method, has no entropy model, is of CompressAI's own variable rate, or its forward pass
            does not turn images into pictures and likelihoods.
    """
    setting = f"`backbone._target_` (={target})"
    if hasattr(codec, "Gain"):
        raise ValueError(
            f"{setting} is of CompressAI's own variable rate, whose gains are trained in stages; take rate=variable "
            "with the class of one rate"
        )
    lacking = [name for name in ("update", "compress", "decompress") if not callable(getattr(codec, name, None))]
    if lacking:
        raise ValueError(f"{setting} must be a codec; it has no {', '.join(lacking)}")
    takes = inspect.signature(codec.update).parameters  # pyright: ignore[reportArgumentType]
    if "update_quantiles" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        raise ValueError(f"{setting}: its `update` must take `force` and `update_quantiles`, as CompressAI's do")
    if not any(isinstance(module, EntropyModel) for module in codec.modules()):
        raise ValueError(f"{setting} has no entropy model, hence no rate to be trained and nothing that codes")
    _check_forward(codec, setting)


def _check_forward(codec: nn.Module, setting: str) -> None:
    x, training = torch.zeros(1, 3, _SIDE, _SIDE), codec.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            out = codec.train()(x)
        except Exception as error:  # whatever another's class raises
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{setting} must take images, (B, 3, H, W); of one of 64×64 it says: {reason}") from error
        finally:
            codec.train(training)
    if not isinstance(out, Mapping) or not {"x_hat", "likelihoods"} <= set(out):
        given = ", ".join(map(str, out)) if isinstance(out, Mapping) else type(out).__name__
        raise ValueError(f"{setting} must return x_hat and likelihoods; it returns {given}")
    likelihoods = out["likelihoods"]
    if not isinstance(likelihoods, Mapping) or not all(isinstance(t, Tensor) for t in likelihoods.values()):
        raise ValueError(f"{setting}: its likelihoods must be tensors by name, such as y and z")
    if not likelihoods:
        raise ValueError(f"{setting} returns no likelihoods, hence no rate to be trained")
    if tuple(out["x_hat"].shape) != tuple(x.shape):
        raise ValueError(f"{setting}: its x_hat is {tuple(out['x_hat'].shape)} for images of {tuple(x.shape)}")
