"""State dicts of CompressAI's codecs: whose they are, in today's names, and back again.

Weights and names of the hyperprior, autoregressive, attention and ELIC backbones are those of CompressAI's classes.
What differs among files is their age: entropy bottlenecks' parameters and blocks' shortcuts were renamed, and
data-parallel training puts a prefix before every name.

Legend: N channels of the transforms, M channels of y.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regicomp.backbone import mlicpp_published, variable_rate
from regicomp.config.class_lookup import ClassSpec
from regicomp.utils import files

_PREFIX = "module."  # of states that data-parallel training wrote
_BOTTLENECK = re.compile(r"(?:(?<=\.)|^)_(matri|bias|factor)(?:x|ces\.|es\.|s\.)?(?=\d+$)")
_PARTS = {"matri": "matrices.", "bias": "biases.", "factor": "factors."}


class Found(NamedTuple):
    """Whose a state dict is."""

    label: str  # a backbone of conf/backbone, or CompressAI's name of the model
    spec: ClassSpec  # the class that it fits, with its sizes

    def __str__(self) -> str:
        return f"{self.label} with " + ", ".join(f"{name}={value}" for name, value in self.spec.arguments.items())

    def overrides(self) -> str:
        """Arguments of regicomp.train that choose this backbone."""
        ours = self.spec.target.startswith("regicomp.")
        chosen = f"backbone={self.label}" if ours else f"backbone._target_={self.spec.target}"
        sizes = (f"backbone.{name}={str(value).replace(' ', '')}" for name, value in self.spec.arguments.items())
        return " ".join([chosen, *sizes])


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that CompressAI gives them since 1.2.5, without the prefix of data-parallel runs."""

    def today(name: str) -> str:
        name = name.removeprefix(_PREFIX).replace(".downsample.", ".skip.")
        return _BOTTLENECK.sub(lambda match: _PARTS[match[1]], name)

    return {today(name): tensor for name, tensor in state.items()}


def identify(state: Mapping[str, Tensor]) -> Found | None:
    """Whose a state dict in today's names is; None: no codec's known here. Its weights may still not fit."""
    try:
        return _identify(state)
    except (KeyError, IndexError):
        return None


def _identify(state: Mapping[str, Tensor]) -> Found | None:
    ours, theirs = "regicomp.backbone.", "compressai.models."
    if "Gain" in state:  # CompressAI's own codecs of variable rate
        return None
    if "latent_codec.y.channel_context.y1.0.weight" in state:
        n, m = len(state["g_a.0.weight"]), len(state["g_a.13.weight"])
        context = re.compile(r"latent_codec\.y\.latent_codec\.y(\d+)\.context_prediction\.weight")
        groups = {int(match[1]): state[name].shape[1] for name in state if (match := context.fullmatch(name))}
        arguments = {"N": n, "M": m, "groups": [groups[k] for k in sorted(groups)]}
        return Found("elic", ClassSpec(f"{ours}elic.Elic", arguments))
    if "g_a.0.conv1.weight" in state and "context_prediction.weight" in state:
        sizes = {"N": len(state["g_a.0.conv1.weight"])}
        if any(name.startswith("g_a.3.conv_a.") for name in state):
            return Found("attention", ClassSpec(f"{ours}autoregressive.Attention", sizes))
        return Found("cheng2020-anchor", ClassSpec(f"{theirs}Cheng2020Anchor", sizes))
    if not {"g_a.0.weight", "g_a.6.weight"} <= set(state):
        return None
    sizes = {"N": len(state["g_a.0.weight"]), "M": len(state["g_a.6.weight"])}
    if "context_prediction.weight" in state:
        return Found("autoregressive", ClassSpec(f"{ours}autoregressive.Autoregressive", sizes))
    if "h_a.0.weight" in state:
        if len(state["h_s.4.weight"]) == sizes["M"]:
            return Found("hyperprior", ClassSpec(f"{ours}hyperprior.Hyperprior", sizes))
        return Found("mbt2018-mean", ClassSpec(f"{theirs}MeanScaleHyperprior", sizes))
    if "g_a.1.beta" in state:
        return Found("bmshj2018-factorized", ClassSpec(f"{theirs}FactorizedPrior", sizes))
    return Found("bmshj2018-factorized-relu", ClassSpec(f"{theirs}FactorizedPriorReLU", sizes))


def to_today(state: Mapping[str, Tensor]) -> tuple[Found | None, dict[str, Tensor]]:
    """Whose a state dict is, CompressAI's of any age or the MLIC++ authors', and its tensors in the names used here.

    Raises:
        ValueError: it is of the MLIC++ authors and not whole.
    """
    if mlicpp_published.is_theirs(state):
        sizes, translated = mlicpp_published.translate(state)
        return Found("mlicpp", ClassSpec("regicomp.backbone.mlicpp.MLICPlusPlus", sizes._asdict())), translated
    today = renamed(state)
    return identify(today), today


def state_dict_for_compressai(codec: nn.Module, quality: float | None = None) -> tuple[str, dict[str, Tensor]]:
    """The state dict that CompressAI's own class of a codec loads, strictly.

    Args:
        codec: of a class of CompressAI's, or of one that descends from it.
        quality: of a codec of variable rate, whose gains are then multiplied into the last layer of g_a and the first
            of g_s.

    Returns:
        The name of CompressAI's class, and the tensors, tables among them.

    Raises:
        ValueError: the codec descends from no codec of CompressAI's, its gains cannot be multiplied into a layer, or
            see `variable_rate.at_quality`.
    """
    named = [c for c in type(codec).__mro__ if c.__module__.startswith("compressai.models.")]
    if not named or named[0].__module__ == "compressai.models.base":
        raise ValueError(f"{type(codec).__name__} is no codec of CompressAI's, so that CompressAI cannot load it")
    state = {name: tensor.detach().cpu().clone() for name, tensor in codec.state_dict().items()}
    gains = variable_rate.gains_of(codec)
    with variable_rate.at_quality(codec, quality):  # or the error
        if gains is None:
            return named[0].__name__, state
        gain, inverse = (factor.detach().cpu() for factor in gains.factors())
    (last, after), (first, before) = _outer(codec, "g_a", -1), _outer(codec, "g_s", 0)
    state[f"{last}.weight"] *= gain[:, None, None, None]
    if after.bias is not None:
        state[f"{last}.bias"] *= gain
    shape = (-1, 1, 1, 1) if isinstance(before, nn.ConvTranspose2d) else (1, -1, 1, 1)
    state[f"{first}.weight"] *= inverse.view(shape)
    return named[0].__name__, {n: t for n, t in state.items() if not n.startswith(f"{variable_rate.NAME}.")}


def _outer(codec: nn.Module, transform: str, at: int) -> tuple[str, nn.Conv2d | nn.ConvTranspose2d]:
    """Name and module of the first or the last layer of a transform, which must be a convolution."""
    layers = list(getattr(codec, transform).named_children())
    name, layer = layers[at] if layers else ("", None)
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        raise ValueError(
            f"{type(codec).__name__} is of variable rate, and its {transform} {'begins' if at == 0 else 'ends'} with "
            f"{type(layer).__name__}, no convolution that could take up the gains; CompressAI has no codec like it"
        )
    return f"{transform}.{name}", layer


def write(path: Path, codec: nn.Module, quality: float | None = None) -> str:
    """Write the state dict that CompressAI's class of a codec loads; the name of that class.

    Raises:
        ValueError: see `state_dict_for_compressai`.
    """
    name, state = state_dict_for_compressai(codec, quality)
    content = io.BytesIO()
    torch.save({"state_dict": state}, content)
    files.write_bytes(path, content.getvalue())
    return name
