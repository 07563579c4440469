"""MLIC++'s window attention and global intra context against plain loops, as published and as they were here before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regicomp.backbone import contexts
from regicomp.backbone.mlicpp import MLICPlusPlus
from regicomp.source.mlicpp import MlicppSource

C, H, W = 4, 4, 6


def _window_attention(local: contexts.LocalContext, anchors: Tensor, row: int, column: int, published: bool) -> Tensor:
    """Context of one position, (2c,): token by token. Published: a token beyond the border is none, so it is closed."""
    side = local.window
    tokens: list[Tensor] = []
    is_anchor: list[bool] = []
    for i in range(side):
        for j in range(side):
            r, c = row + i - side // 2, column + j - side // 2
            inside = 0 <= r < H and 0 <= c < W
            tokens.append(local.qkv(local.norm(anchors[:, r, c])) if inside else torch.zeros(3 * C).double())
            is_anchor.append((r + c) % 2 == 1 and (inside or not published))
    q, k, v = torch.stack(tokens).chunk(3, dim=1)
    mixed = torch.zeros(side * side, C).double()
    for head in range(local.heads):
        part = slice(head * C // local.heads, (head + 1) * C // local.heads)
        for a in range(side * side):
            logits = torch.zeros(side * side).double()
            for b in range(side * side):
                apart = (a // side - b // side + side - 1) * (2 * side - 1) + a % side - b % side + side - 1
                logits[b] = q[a, part] @ k[b, part] * (C // local.heads) ** -0.5 + local.bias[apart, head]
                if not (is_anchor[a] and is_anchor[b]):
                    logits[b] -= 100
            mixed[a, part] = logits.softmax(0) @ v[:, part]
    fused = local.project(local.fuse(mixed.t().reshape(1, C, side, side)).flatten())
    return fused + local.mlp(fused)


@pytest.mark.parametrize("published", [True, False])
@torch.no_grad()
def test_window_attention_is_that_of_a_loop(published: bool) -> None:
    torch.manual_seed(0)
    local = contexts.LocalContext(C).double()
    nn.init.normal_(local.bias)
    local.as_published = published
    board = contexts.checkerboard(H, W)
    anchors = torch.randn(1, C, H, W).double() * board.mask
    found = local(anchors, board)[0]
    for row, column in ((0, 0), (0, 4), (2, 2), (3, 5)):
        expected = _window_attention(local, anchors[0], row, column, published)
        torch.testing.assert_close(found[:, row, column], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("published", [True, False])
@torch.no_grad()
def test_global_intra_masks_before_it_projects(published: bool) -> None:
    """Published: a projection's 3×3 neighbours of the other colour are zero. Before, they were read."""
    torch.manual_seed(1)
    intra = contexts.GlobalIntraContext(C).double()
    intra.as_published = published
    board = contexts.checkerboard(H, W)
    previous, anchors = torch.randn(2, 1, C, H, W).double().unbind(0)
    anchors = anchors * board.mask

    def projected(grid: Tensor, of: nn.Sequential, half: slice) -> Tensor:
        mixed = F.conv2d(grid, of[0].weight[half], of[0].bias[half])
        return F.conv2d(mixed, of[1].weight[half], of[1].bias[half], padding=1, groups=C)[0].flatten(1)

    asking, answering = (previous * ~board.mask, previous * board.mask) if published else (previous, previous)
    q = projected(asking, intra.qk, slice(C))[:, board.others]
    k = projected(answering, intra.qk, slice(C, None))[:, board.anchors]
    v = projected(anchors, intra.v, slice(None))[:, board.anchors]
    mixed = torch.zeros(C, H * W).double()
    for head in (slice(0, C // 2), slice(C // 2, C)):
        mixed[head, board.others] = (k[head].softmax(1) @ v[head].t()).t() @ q[head].softmax(0)
    mixed = intra.reproject(mixed.reshape(1, C, H, W))
    torch.testing.assert_close(intra(previous, anchors, board), mixed + intra.mlp(mixed), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", [lambda: MLICPlusPlus(N=8, M=16, slices=2), lambda: MlicppSource(4, 8, slices=3)])
def test_weights_say_which_contexts_they_were_trained_with(make: type[nn.Module]) -> None:
    network, old = make(), make()
    kinds = (contexts.LocalContext, contexts.GlobalIntraContext)

    def editions(module: nn.Module) -> set[bool]:
        return {m.as_published for m in module.modules() if isinstance(m, kinds)}

    assert editions(network) == {True}
    state = {name: t for name, t in network.state_dict().items() if not name.endswith("_extra_state")}
    assert len(state) < len(network.state_dict())  # files of before lack the marks
    nn.Module.load_state_dict(old, state)
    assert editions(old) == {False}
    nn.Module.load_state_dict(network, old.state_dict())  # written anew, they stay what they were
    assert editions(network) == {False}
    nn.Module.load_state_dict(network, make().state_dict())
    assert editions(network) == {True}
