"""The contexts of an entropy model for a tensor that is coded slice by slice, each slice in two passes.

A slice's anchors, the positions whose row + column is odd, are coded first, then the others. Four contexts
feed the parameters of what comes next: the slice's own anchors in a window around each position (local) and
all over the grid (global intra), the slices before through convolutions (channel) and all over the grid
(global inter). Attention over the whole grid is linear in its size, so every context is.

Source: Jiang, Yang, Zhai, Gao, Wang, "MLIC++: Linear Complexity Multi-Reference Entropy Modeling for Learned
Image Compression", 2023. Widths that it gives for slices of 32 channels are multiples of c here.

Legend: B batch, c channels of a slice, i slices before, h w grid, L = h·w positions, K window side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Added to an attention logit to close it.
_CLOSED = -100.0


class Checkerboard(NamedTuple):
    """The two passes over an h×w grid."""

    mask: Tensor  # True at anchors, (h, w)
    anchors: Tensor  # their positions in row-major order, (⌊L/2⌋,)
    others: Tensor  # the rest, (⌈L/2⌉,)


def checkerboard(h: int, w: int, device: torch.device | str = "cpu") -> Checkerboard:
    """The checkerboard of an h×w grid. No value is read back from the device."""
    rows, columns = torch.arange(h, device=device), torch.arange(w, device=device)
    mask = (rows[:, None] + columns) % 2 == 1
    order = torch.argsort(mask.flatten().int(), stable=True)
    others = (h * w + 1) // 2
    return Checkerboard(mask, order[others:], order[:others])


def gather(grid: Tensor, positions: Tensor) -> Tensor:
    """Values at some positions: (B, C, h, w) -> (B, C, n)."""
    return grid.flatten(2).index_select(2, positions)


def scatter(values: Tensor, positions: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `gather`, zero elsewhere: (B, C, n) -> (B, C, h, w)."""
    grid = values.new_zeros(*values.shape[:2], h * w)
    return grid.index_copy(2, positions, values).unflatten(2, (h, w))


def linear_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention whose cost is linear in the number of positions.

    Queries are normalized over their head's channels, keys over positions; out = (k vᵀ)ᵀ q.

    Args:
        q: queries, (B, C, n).
        k, v: keys and values, (B, C, m).
        heads: number of heads; divides C.

    Returns:
        (B, C, n).
    """
    q, k, v = (t.unflatten(1, (heads, -1)) for t in (q, k, v))
    summary = k.softmax(dim=3) @ v.transpose(2, 3)
    return (summary.transpose(2, 3) @ q.softmax(dim=2)).flatten(1, 2)


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels),
    )


def _mlp(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        nn.GELU(),
        nn.Conv2d(hidden, out_channels, 1),
    )


class _Dated(nn.Module):
    """A context that was once computed in another way than its authors': its weights carry a mark of what they know.

    Weights without the mark are of before and are computed as they were trained.
    """

    as_published = True

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(self._mark)

    @staticmethod
    def _mark(module: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        del module, args
        if any(name.startswith(prefix) for name in state_dict):
            state_dict.setdefault(f"{prefix}_extra_state", torch.tensor(False))

    def get_extra_state(self) -> Tensor:
        """The mark."""
        return torch.tensor(self.as_published)

    def set_extra_state(self, state: Tensor) -> None:
        """Compute as the mark says."""
        self.as_published = bool(state)


class LocalContext(_Dated):
    """Attention among the anchors in a window around every other position, (B, c, h, w) -> (B, 2c, h, w).

    ::

        anchors ──► LayerNorm ──► q, k, v ──► K×K windows ──► attention ──► K×K conv ──► linear ──► + MLP ──►

    In each window all K² tokens are queries; pairs of a query and a key that are not both anchors are masked. Beyond
    the border of the grid there are no anchors. (Before 2026-11-24 tokens there were zeros that the pattern made
    anchors.)

    Args:
        channels: c.
        heads: attention heads; divides c.
        window: K, odd.

    Raises:
        ValueError: an argument is out of range.
    """

    neighbours: Tensor
    closed: Tensor

    def __init__(self, channels: int, heads: int = 2, window: int = 5) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"`heads` (={heads}) must divide the channels of a slice (={channels})")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"`window` (={window}) must be odd and at least 1")
        self.heads = heads
        self.window = window
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.bias = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.fuse = nn.Conv2d(channels, 2 * channels, window)
        self.project = nn.Linear(2 * channels, 2 * channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(2 * channels),
            nn.Linear(2 * channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, 2 * channels),
        )
        rows, columns = (t.flatten() for t in torch.meshgrid(*[torch.arange(window)] * 2, indexing="ij"))
        apart = [t[:, None] - t[None, :] + window - 1 for t in (rows, columns)]
        # Row of `bias` for each pair of tokens, (K², K²).
        self.register_buffer("neighbours", apart[0] * (2 * window - 1) + apart[1], persistent=False)
        # The centre is not an anchor, so anchors lie at odd distances from it.
        anchor = (rows + columns - 2 * (window // 2)) % 2 == 1
        both = anchor[:, None] & anchor[None, :]
        self.register_buffer("closed", torch.where(both, 0.0, _CLOSED), persistent=False)  # (K², K²)

    def forward(self, anchors: Tensor, board: Checkerboard) -> Tensor:
        """Context of the positions that are not anchors; zero at anchors.

        Args:
            anchors: the slice's decoded anchors, zero elsewhere, (B, c, h, w).
            board: of the h×w grid.

        Returns:
            (B, 2c, h, w).
        """
        b, c, h, w = anchors.shape
        tokens = self.qkv(self.norm(anchors.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        windows = F.unfold(tokens, self.window, padding=self.window // 2).index_select(2, board.others)
        windows = windows.reshape(b, 3, self.heads, c // self.heads, self.window**2, -1)
        q, k, v = windows.permute(1, 0, 5, 2, 4, 3).unbind(0)  # each (B, L/2, heads, K², c/heads)
        logits = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5
        logits = logits + self.bias[self.neighbours].permute(2, 0, 1) + self._closed(board)
        mixed = logits.softmax(dim=-1) @ v
        mixed = mixed.permute(0, 1, 2, 4, 3).reshape(-1, c, self.window, self.window)
        fused = self.project(self.fuse(mixed).flatten(1))
        out = fused + self.mlp(fused)
        return scatter(out.reshape(b, -1, 2 * c).transpose(1, 2), board.others, h, w)

    def _closed(self, board: Checkerboard) -> Tensor:
        """The addend of the logits of the windows around the others, (L/2, 1, K², K²), or for all of them alike."""
        if not self.as_published:
            return self.closed
        anchors = F.unfold(board.mask[None, None].float(), self.window, padding=self.window // 2)
        anchors = anchors[0].t().index_select(0, board.others)  # (L/2, K²)
        return _CLOSED * (1 - anchors[:, None, :, None] * anchors[:, None, None, :])


class ChannelContext(nn.Module):
    """Convolutions over the slices before, (B, i·c, h, w) -> (B, 4c, h, w).

    Args:
        before: i, at least 1.
        channels: c.
    """

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(before * channels, 6 * channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(6 * channels, 4 * channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(4 * channels, 4 * channels, 3, padding=1),
        )

    def forward(self, before: Tensor) -> Tensor:
        """Context for every position of the slice.

        Args:
            before: the decoded slices before, (B, i·c, h, w).

        Returns:
            (B, 4c, h, w).
        """
        return self.net(before)


class GlobalInterContext(nn.Module):
    """Linear attention within the slices before, one head a slice, (B, i·c, h, w) -> (B, 2c, h, w).

    Args:
        before: i, at least 1.
        channels: c.
    """

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.heads = before
        self.qkv = _projection(before * channels, 3 * before * channels)
        self.reproject = nn.Conv2d(before * channels, 3 * channels, 5, padding=2)
        self.skip = nn.Conv2d(3 * channels, 2 * channels, 1)
        self.mlp = _mlp(3 * channels, 4 * channels, 2 * channels)

    def forward(self, before: Tensor) -> Tensor:
        """Context for every position of the slice.

        Args:
            before: the decoded slices before, (B, i·c, h, w).

        Returns:
            (B, 2c, h, w).
        """
        q, k, v = self.qkv(before).flatten(2).chunk(3, dim=1)
        mixed = linear_attention(q, k, v, self.heads).unflatten(2, before.shape[2:])
        mixed = self.reproject(mixed)
        return self.skip(mixed) + self.mlp(mixed)


class GlobalIntraContext(_Dated):
    """Linear attention from the other positions to the anchors, (B, c, h, w) twice -> (B, 2c, h, w).

    Attention is computed on the slice before, whose anchors and others are both known: its others are the queries,
    its anchors the keys; the values are the current slice's anchors. Each projection, which reads its neighbours, sees
    its own positions alone. (Before 2026-11-24 queries and keys saw all of the slice before.)

    Args:
        channels: c.
        heads: attention heads; divides c.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"`heads` (={heads}) must divide the channels of a slice (={channels})")
        self.heads = heads
        self.qk = _projection(channels, 2 * channels)
        self.v = _projection(channels, channels)
        self.reproject = nn.Conv2d(channels, 2 * channels, 5, padding=2)
        self.mlp = _mlp(2 * channels, 4 * channels, 2 * channels)

    def forward(self, previous: Tensor, anchors: Tensor, board: Checkerboard) -> Tensor:
        """Context for the positions that are not anchors.

        Args:
            previous: the decoded slice before, (B, c, h, w).
            anchors: the slice's decoded anchors, zero elsewhere, (B, c, h, w).
            board: of the h×w grid.

        Returns:
            (B, 2c, h, w).
        """
        q, k = self._queries_and_keys(previous, board).chunk(2, dim=1)
        found = linear_attention(
            gather(q, board.others),
            gather(k, board.anchors),
            gather(self.v(anchors), board.anchors),
            self.heads,
        )
        mixed = self.reproject(scatter(found, board.others, *previous.shape[2:]))
        return mixed + self.mlp(mixed)

    def _queries_and_keys(self, previous: Tensor, board: Checkerboard) -> Tensor:
        """Projections of the slice before, (B, 2c, h, w)."""
        if not self.as_published:
            return self.qk(previous)
        apart = torch.cat([torch.where(board.mask, 0, previous), torch.where(board.mask, previous, 0)], dim=1)
        pointwise: nn.Conv2d = self.qk[0]  # pyright: ignore[reportAssignmentType]
        return self.qk[1](F.conv2d(apart, pointwise.weight, pointwise.bias, groups=2))
