"""The authors' state dict becomes ours: every tensor has its place, and what does not fit is named."""

from __future__ import annotations

import pytest
import torch
from published_mlicpp import HEADS, SLICES, C, M, N, state_dict

from regicomp.backbone.mlicpp import MLICPlusPlus
from regicomp.backbone.mlicpp_published import is_theirs, sizes_of, translate


@pytest.mark.parametrize("old_names", [False, True])
def test_every_number_has_a_place_and_only_one(old_names: bool) -> None:
    state = state_dict(old_names)
    assert is_theirs(state)
    sizes, found = translate({f"module.{name}": tensor for name, tensor in state.items()})
    assert sizes == (N, M, SLICES, HEADS)
    model = MLICPlusPlus(**sizes._asdict())
    names = {name for name, _ in model.named_parameters()}
    assert {n for n in found if not n.endswith("_extra_state")} == names
    placed = torch.cat([found[name].flatten() for name in names])
    weights = [t for n, t in state.items() if not n.endswith(("pedestal", "index", "_cdf", "_offset", "scale_table"))]
    assert torch.equal(placed.sort().values, torch.cat([t.flatten() for t in weights]).sort().values)
    missing, unexpected = torch.nn.Module.load_state_dict(model, found, strict=False)
    assert not unexpected
    assert not names & set(missing)


def test_channels_are_put_in_our_order() -> None:
    state = state_dict()
    _, found = translate(state)
    theirs, ours = state["local_context.1.qkv_proj.weight"], found["slices.1.local_context.qkv.weight"]
    # Of q: theirs are (channel of the head, head), ours (head, channel of the head).
    order = [d * HEADS + h for h in range(HEADS) for d in range(C // HEADS)]
    for part in range(3):
        rows = slice(part * C, (part + 1) * C)
        assert torch.equal(ours[rows], theirs[rows][order])
    theirs, ours = (
        state["entropy_parameters_nonanchor.1.fusion.0.weight"],
        found["slices.1.other_parameters.net.0.weight"],
    )
    local, intra, inter, channel, hyper = theirs.split([2 * C, 2 * C, 2 * C, 4 * C, 2 * M], dim=1)
    assert torch.equal(ours, torch.cat([hyper, inter, channel, local, intra], dim=1))
    theirs, ours = (
        state["entropy_parameters_nonanchor.0.fusion.0.weight"],
        found["slices.0.other_parameters.net.0.weight"],
    )
    assert torch.equal(ours, torch.cat([theirs[:, 2 * C :], theirs[:, : 2 * C]], dim=1))
    queries, keys = (state[f"global_intra_context.1.{kind}.1.weight"] for kind in ("queries", "keys"))
    assert torch.equal(found["slices.1.global_intra.qk.1.weight"], torch.cat([queries, keys]))


def test_what_does_not_fit_is_named() -> None:
    state = state_dict()
    with pytest.raises(ValueError, match="is no state dict of the authors' MLIC"):
        sizes_of({"g_a.0.weight": torch.zeros(1)})
    lacking = {n: t for n, t in state.items() if n != "global_intra_context.1.keys.0.bias"}
    with pytest.raises(ValueError, match=r"lacks global_intra_context\.1\.keys\.0\.bias"):
        translate(lacking)
    name = "lrp_anchor.1.lrp_transform.2.weight"
    with pytest.raises(ValueError, match=r"lrp_anchor\.1\.lrp_transform\.2\.weight of \(1,\), which must be of"):
        translate({**state, name: torch.zeros(1)})
    with pytest.raises(ValueError, match=r"1 tensors that are not known here, such as lrp_other\.weight"):
        translate({**state, "lrp_other.weight": torch.zeros(1)})
    assert not is_theirs(MLICPlusPlus(N=4, M=16, slices=2).state_dict())
