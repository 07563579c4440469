"""Weights of the authors' MLIC++ (github.com/JiangWeibeta/MLIC, folder MLIC++) for this one.

Both compute the same; what differs is names, and the order of some channels: theirs interleave the heads of the local
context, and feed the parameter networks their contexts first, where here the hyper-parameters come first. All of it is
a permutation, so no number is changed.

Legend: N channels of the transforms, M channels of y, c channels of a slice, i slices before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from regicomp.backbone.mlicpp import MLICPlusPlus

_PREFIX = "module."  # of states that data-parallel training wrote
_TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
# What a network computes for itself.
_CONSTANTS = ("target", "bound", "pedestal", "relative_position_index", "_extra_state")

_TRANSFORM = {"conv1": "body.0", "conv2": "body.2", "gdn": "body.3", "skip": "skip"}
_UP = {"subpel_conv": "body.0", "conv": "body.2", "igdn": "body.3", "upsample": "skip"}
_LOCAL = {
    "norm1": "norm",
    "qkv_proj": "qkv",
    "relative_position_table": "bias",
    "fusion": "fuse",
    "proj": "project",
    "norm2": "mlp.0",
    "mlp.fc1": "mlp.1",
    "mlp.fc2": "mlp.3",
}
_BOTTLENECK = {"_matrix": "matrices.", "_bias": "biases.", "_factor": "factors."}  # CompressAI's names until 1.2.4
# Their names of a slice's networks, theirs of a network's layers, and ours of both.
_NETWORKS = {
    "channel_context": ("fushion", "channel_context.net"),
    "entropy_parameters_anchor": ("fusion", "anchor_parameters.net"),
    "entropy_parameters_nonanchor": ("fusion", "other_parameters.net"),
    "lrp_anchor": ("lrp_transform", "anchor_residual.net"),
    "lrp_nonanchor": ("lrp_transform", "other_residual.net"),
}


class Sizes(NamedTuple):
    """Arguments of `MLICPlusPlus`."""

    N: int
    M: int
    slices: int
    heads: int


def sizes_of(state: Mapping[str, Tensor]) -> Sizes:
    """Sizes of the model that a state dict of the authors' is of.

    Raises:
        ValueError: it is none of theirs.
    """
    try:
        last = state["g_a.analysis_transform.6.weight"]
        slices = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("local_context."))
        heads = state["local_context.0.relative_position_table"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"is no state dict of the authors' MLIC++: it lacks {error}") from error
    return Sizes(last.shape[1], last.shape[0], slices, heads)


class _Theirs:
    """Their tensors by name; notes which are used, in order."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.used: dict[str, None] = {}

    def __call__(self, name: str) -> Tensor:
        self.used[name] = None
        if name not in self.state:
            raise ValueError(f"lacks {name}")
        return self.state[name]


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """Of our name, whose part stands in `names`'s values, theirs."""
    for theirs, ours in names.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    return name


def _by_head(rows: Tensor, heads: int) -> Tensor:
    """q, k and v, (3c, …), from channels that take turns among the heads to one head after another."""
    return rows.unflatten(0, (3, -1, heads)).transpose(1, 2).flatten(0, 2)


def _hyper_first(weight: Tensor, M: int, c: int, own: bool) -> Tensor:
    """Inputs of a parameter network, (D, in, 1, 1): theirs are (local, global intra,) global inter, channel, hyper."""
    contexts = weight.shape[1] - 2 * M
    before, hyper = weight.split([contexts, 2 * M], dim=1)
    mine = before[:, : (4 * c if contexts > 2 * c else 2 * c)] if own else before[:, :0]
    return torch.cat([hyper, before[:, mine.shape[1] :], mine], dim=1)


def _of_slice(name: str, sizes: Sizes, theirs: _Theirs) -> Tensor:
    """The tensor that is `slices.{i}.{part}.{rest}` here."""
    _, i, part, rest = name.split(".", 3)
    c = sizes.M // sizes.slices
    if part == "local_context":
        tensor = theirs(f"local_context.{i}.{_renamed(rest, _LOCAL)}")
        return _by_head(tensor, sizes.heads) if rest.startswith("qkv.") else tensor
    if part in ("global_inter", "global_intra"):
        joined, _, layer = rest.partition(".")
        of = {"qkv": ("queries", "keys", "values"), "qk": ("queries", "keys"), "v": ("values",)}.get(joined)
        if of is None:
            return theirs(f"{part}_context.{i}.{rest.replace('reproject.', 'reprojection.')}")
        return torch.cat([theirs(f"{part}_context.{i}.{kind}.{layer}") for kind in of])
    for theirs_network, (theirs_layers, ours) in _NETWORKS.items():
        if name.startswith(f"slices.{i}.{ours}."):
            layer = name.removeprefix(f"slices.{i}.{ours}.")
            tensor = theirs(f"{theirs_network}.{i}.{theirs_layers}.{layer}")
            first_of_parameters = theirs_network.startswith("entropy_parameters") and layer == "0.weight"
            return _hyper_first(tensor, sizes.M, c, "non" in theirs_network) if first_of_parameters else tensor
    raise ValueError(f"has nothing for {name}")


def _of_transform(name: str, theirs: _Theirs) -> Tensor:
    """The tensor that is `g_a.{k}.…`, `g_s.…`, `h_a.…` or `h_s.…` here."""
    transform, k, rest = name.split(".", 2)
    inside = {"g_a": "analysis_transform", "g_s": "synthesis_transform", "h_a": "reduction", "h_s": "increase"}
    upwards = transform == "g_s" and k in ("1", "3", "5")
    return theirs(f"{transform}.{inside[transform]}.{k}.{_renamed(rest, _UP if upwards else _TRANSFORM)}")


def translate(state: Mapping[str, Tensor]) -> tuple[Sizes, dict[str, Tensor]]:
    """The authors' state dict as one of `MLICPlusPlus`, whose entropy tables are left to be made.

    Args:
        state: names and tensors as their code saves them.

    Raises:
        ValueError: a tensor is missing, is of another shape than it must be, or is not known; the message names it.
    """
    theirs = _Theirs({name.removeprefix(_PREFIX): tensor for name, tensor in state.items()})
    sizes = sizes_of(theirs.state)
    with torch.random.fork_rng(devices=[]):
        here = MLICPlusPlus(**sizes._asdict()).state_dict()
    found: dict[str, Tensor] = {}
    for name, expected in here.items():
        if name.endswith((*_TABLES, *_CONSTANTS)):
            continue
        used = len(theirs.used)
        try:
            found[name] = _tensor(name, sizes, theirs)
        except (RuntimeError, IndexError) as error:  # of tensors that cannot be put together
            raise ValueError(f"does not fit at {list(theirs.used)[-1]}: {error}") from error
        if found[name].shape != expected.shape:
            these = ", ".join(list(theirs.used)[used:])
            raise ValueError(f"has {these} of {tuple(found[name].shape)}, which must be of {tuple(expected.shape)}")
    unknown = [n for n in theirs.state if n not in theirs.used and not n.endswith((*_TABLES, *_CONSTANTS))]
    if unknown:
        raise ValueError(f"holds {len(unknown)} tensors that are not known here, such as {unknown[0]}")
    marks = {name: torch.tensor(True) for name in here if name.endswith("_extra_state")}
    return sizes, found | marks


def _tensor(name: str, sizes: Sizes, theirs: _Theirs) -> Tensor:
    """Ours of that name."""
    if name.startswith("slices."):
        return _of_slice(name, sizes, theirs)
    if name.split(".")[0] in ("g_a", "g_s", "h_a", "h_s"):
        return _of_transform(name, theirs)
    return theirs(_bottleneck_name(name, theirs.state))


def is_theirs(state: Mapping[str, Tensor]) -> bool:
    """Whether names are those of the authors' state dicts."""
    return any(name.removeprefix(_PREFIX).startswith("g_a.analysis_transform.") for name in state)


def _bottleneck_name(name: str, state: Mapping[str, Tensor]) -> str:
    """Theirs of an entropy model's tensor: as here, or as CompressAI named it until 1.2.4."""
    if name in state:
        return name
    for old, new in _BOTTLENECK.items():
        name = re.sub(rf"\.{re.escape(new)}(\d)$", rf".{old}\1", name)
    return name
